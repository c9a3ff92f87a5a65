"""What control asks of a keeper over the link, and how a keeper answers and reports.

Requests, all safe to repeat: `start` (a ReplicaSpec), `stop` (id and grace), `list`, `usage`, `status`; of multi-model replicas
`model-load`, `model-unload`, `model-pin`, `models`. Each change of a replica is the notification `replica` with its
ReplicaState, what happens to a model the notification `model` with a ModelEvent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from slipway.core.models import ModelAnswer, ModelEvent, ModelLoad, ModelPin, ModelsSeen, ModelUnload
from slipway.core.replicas import ReplicaSpec, ReplicaState, Usage
from slipway.link.channel import MAX_WAITING, Channel, LinkClosed, Server, serve
from slipway.link.client import Link

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stop:
    id: str
    grace: float
    """Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class RoleStatus:
    name: str
    pid: int | None
    restarts: int
    memory_bytes: int
    """Resident; 0 when not running."""
    ready: bool


@dataclass(frozen=True, slots=True)
class KeeperStatus:
    """For `slipway status`."""

    pid: int
    url: str
    data_dir: str
    uptime: float
    """Seconds."""
    roles: tuple[RoleStatus, ...]
    replicas: tuple[ReplicaState, ...]
    sandbox: str
    """`bubblewrap`, or why there is none."""
    notes: tuple[str, ...] = ()


class Keeping(Protocol):
    """What a keeper can do; `replicas.Keeper` is one, and tests have fakes."""

    async def start(self, spec: ReplicaSpec) -> None:
        """Begin to start it and return; the same id again changes nothing."""

    async def stop(self, id: str, grace: float) -> None:
        """Begin to stop it and return. An unknown id is fine; one that has exited is forgotten."""

    def list(self) -> list[ReplicaState]:
        """Every replica, also those that have exited and were not forgotten."""

    async def usage(self) -> Sequence[Usage]:
        """What each replica that runs uses."""

    def subscribe(self, callback: Callable[[ReplicaState], None]) -> Callable[[], None]:
        """Call `callback` on each change; the returned function ends that."""


class ModelKeeping(Protocol):
    """What a keeper of multi-model replicas can do besides."""

    async def load_model(self, order: ModelLoad) -> ModelAnswer:
        """Have it loaded; answers when that has ended, the load goes on whether anybody waits or not."""

    async def unload_model(self, order: ModelUnload) -> None:
        """Unless it is in use."""

    async def pin_model(self, order: ModelPin) -> bool:
        """Whether that changed anything."""

    async def keep_pins(self, owners: tuple[str, ...]) -> None:
        """Forget pins of all other endpoints (ARNs)."""

    async def drop_pins(self, owner: str) -> None: ...

    async def models(self, replica: str) -> ModelsSeen | None:
        """None: there is no such multi-model replica."""

    def subscribe_models(self, callback: Callable[[ModelEvent], None]) -> Callable[[], None]:
        """Call `callback` on what happens; the returned function ends that."""


class KeeperServer:
    """The keeper's end: serves `keeping` on a unix socket and reports each change to every channel, in order."""

    def __init__(
        self,
        path: str,
        keeping: Keeping,
        status: Callable[[], KeeperStatus] | None = None,
        models: ModelKeeping | None = None,
    ) -> None:
        self._path = path
        self._keeping = keeping
        self._status = status
        self._models = models
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self._path, self._on_channel)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()

    def _on_channel(self, channel: Channel) -> None:
        channel.on("start", self._keeping.start, ReplicaSpec)
        channel.on("stop", lambda stop: self._keeping.stop(stop.id, stop.grace), Stop)
        channel.on("list", lambda _: self._keeping.list())
        channel.on("usage", lambda _: self._keeping.usage())
        if self._status is not None:
            status = self._status
            channel.on("status", lambda _: status())
        changes: asyncio.Queue[ReplicaState | ModelEvent] = asyncio.Queue(MAX_WAITING)

        def changed(state: ReplicaState | ModelEvent) -> None:
            try:
                changes.put_nowait(state)
            except asyncio.QueueFull:
                # Control hangs. When it comes to itself it connects again, and lists.
                logger.error("keeper-reports-dropped", extra={"waiting": MAX_WAITING})
                channel.close()

        unsubscribe = [self._keeping.subscribe(changed)]
        if self._models is not None:
            channel.on("model-load", self._models.load_model, ModelLoad)
            channel.on("model-unload", self._models.unload_model, ModelUnload)
            channel.on("model-pin", self._models.pin_model, ModelPin)
            channel.on("model-pins-keep", self._models.keep_pins, tuple[str, ...])
            channel.on("model-pins-drop", self._models.drop_pins, str)
            channel.on("models", self._models.models, str)
            unsubscribe.append(self._models.subscribe_models(changed))
        reporting = asyncio.get_running_loop().create_task(_report(channel, changes))

        def closed() -> None:
            for end in unsubscribe:
                end()
            reporting.cancel()

        channel.on_close(closed)


async def _report(channel: Channel, changes: asyncio.Queue[ReplicaState | ModelEvent]) -> None:
    with contextlib.suppress(LinkClosed):
        while True:
            change = await changes.get()
            await channel.notify("model" if isinstance(change, ModelEvent) else "replica", change)


class KeeperClient:
    """Control's end. Requests wait for the connection; LinkClosed, TimeoutError and LinkError mean: ask again later.

    After each (re)connection `on_connect` should `list` and compare; `on_state` then gets every change.
    """

    def __init__(
        self,
        path: str,
        *,
        on_state: Callable[[ReplicaState], None] | None = None,
        on_model: Callable[[ModelEvent], None] | None = None,
        on_connect: Callable[[], Awaitable[None]] | None = None,
        on_disconnect: Callable[[], None] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._on_state = on_state
        self._on_model = on_model
        self._on_connect = on_connect
        self._timeout = timeout
        self._current: Channel | None = None
        self._link = Link(path, setup=self._setup, on_connect=self._connected, on_disconnect=on_disconnect)

    @property
    def connected(self) -> bool:
        return self._link.channel is not None

    def open(self) -> None:
        """Connect in the background and stay connected."""
        self._link.start()

    async def close(self) -> None:
        await self._link.close()

    async def start(self, spec: ReplicaSpec) -> None:
        await self._ask("start", spec)

    async def stop(self, id: str, grace: float) -> None:
        await self._ask("stop", Stop(id, grace))

    async def list(self) -> list[ReplicaState]:
        channel = self._current or await self._link.ready(self._timeout)
        states: list[ReplicaState] = await channel.request("list", None, list[ReplicaState], timeout=self._timeout)
        return states

    async def usage(self) -> Sequence[Usage]:
        found: Sequence[Usage] = await self._link.request("usage", None, tuple[Usage, ...], timeout=self._timeout)
        return found

    async def load_model(self, order: ModelLoad, timeout: float) -> ModelAnswer:
        """Waits until the load has ended, which takes minutes at worst."""
        answer: ModelAnswer = await self._link.request("model-load", order, ModelAnswer, timeout=timeout)
        return answer

    async def unload_model(self, order: ModelUnload) -> None:
        await self._link.request("model-unload", order, timeout=self._timeout)

    async def pin_model(self, order: ModelPin) -> bool:
        changed: bool = await self._link.request("model-pin", order, bool, timeout=self._timeout)
        return changed

    async def keep_pins(self, owners: tuple[str, ...]) -> None:
        await self._link.request("model-pins-keep", owners, timeout=self._timeout)

    async def drop_pins(self, owner: str) -> None:
        await self._link.request("model-pins-drop", owner, timeout=self._timeout)

    async def models(self, replica: str) -> ModelsSeen | None:
        seen: ModelsSeen | None = await self._link.request("models", replica, ModelsSeen | None, timeout=self._timeout)
        return seen

    async def status(self) -> KeeperStatus:
        status: KeeperStatus = await self._link.request("status", None, KeeperStatus, timeout=self._timeout)
        return status

    async def _ask(self, kind: str, payload: object) -> None:
        channel = self._current or await self._link.ready(self._timeout)
        await channel.request(kind, payload, timeout=self._timeout)

    def _setup(self, channel: Channel) -> None:
        self._current = channel
        channel.on_close(self._lost)
        if self._on_state is not None:
            channel.on("replica", self._on_state, ReplicaState)
        if self._on_model is not None:
            channel.on("model", self._on_model, ModelEvent)

    def _lost(self) -> None:
        self._current = None

    async def _connected(self, channel: Channel) -> None:
        if self._on_connect is not None:
            await self._on_connect()
