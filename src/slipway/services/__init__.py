"""AWS services, one module each (sagemaker: one per resource); operations are plain async functions named as the API's.

`async def create_model(ctx: Context, request: dict[str, Any]) -> dict[str, Any]`: keys are AWS's member names, the request
is parsed and validated, a failure is AwsError. An operation reads, checks, writes one transaction, wakes, returns; it never
starts a process and never waits for one (the one exception: Describe may hold its answer, `Context.changed`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from slipway.backing.logs import Logs
    from slipway.backing.metrics import Metrics
    from slipway.backing.notices_signing import Signer
    from slipway.backing.objects import Objects
    from slipway.core.models import ModelAnswer, Models, ModelsSeen
    from slipway.settings import Settings
    from slipway.store.db import Db
    from slipway.store.jobs import Place
    from slipway.store.jobs_settle import Result, Rules


class ModelView(Protocol):
    """`control.models.ModelDesk` for people: what is loaded, and what is to be. None: no such multi-model endpoint."""

    async def seen(self, arn: str) -> list[tuple[str, Models, list[ModelsSeen]]] | None: ...
    async def preload(self, arn: str, target: str, *, pin: bool, everywhere: bool = False) -> list[ModelAnswer] | None: ...
    async def unpin(self, arn: str, target: str) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class World:
    """What all operations of one control share; built once by `roles.control`."""

    settings: Settings
    db: Db
    objects: Objects
    logs: Logs
    metrics: Metrics
    now: Callable[[], float]
    """Epoch seconds."""
    wake: Callable[[str, str], None]
    """Ask for a reconcile: kind (`endpoint`) and ARN."""
    changed: Callable[[str, str, float], Awaitable[None]]
    """Wait until the resource (kind, ARN) changes, at most so many seconds."""
    keys_changed: Callable[[], Awaitable[None]]
    """Access keys changed: publish them, and wait (a while) until the gateways know them."""
    seal: Signer | None = None
    """Signs SNS messages; without it (tests) those in queues are unsigned."""
    async_rules: Rules | None = None
    """How asynchronous requests end when a caller ends them; without it (tests) no topic hears of it."""
    async_arrived: Callable[[Sequence[Place]], None] = lambda places: None
    """Requests were queued for these endpoints, and committed: wake whoever claims or scales."""
    async_ended: Callable[[Result], None] = lambda result: None
    """A transaction ended requests, or put them back, and is committed: metrics, log lines, word to dispatchers."""
    transform_records: Callable[[str], int] = lambda job: 0
    """Records that the objects of the job of this ARN have done that are under way."""
    exposition: Callable[[], Awaitable[str]] | None = None
    """What Prometheus is told."""
    models: ModelView | None = None
    """Models of multi-model endpoints; None: there is no keeper (tests)."""


@dataclass(frozen=True, slots=True)
class Context:
    """One call."""

    world: World
    account: str
    region: str
    request_id: str
    principal: str
    """ARN of the caller."""
    access_key: str = ""


Operation = Callable[[Context, dict[str, Any]], Awaitable[dict[str, Any]]]
