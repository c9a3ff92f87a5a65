"""Does the simulator see anything? One line of the real code is broken, and it must complain."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from slipway.backing import objects_staging
from slipway.control.asynchronous import Asynchronous
from slipway.control.asynchronous_metrics import BacklogMetrics
from slipway.core import async_decisions, scaling
from slipway.data.asynchronous_exchange import Exchange
from slipway.data.asynchronous_ledger import Ledger
from slipway.link.routes import RouteFeed
from slipway.roles import control_async
from slipway.store import jobs, jobs_claims, jobs_settle
from tests.simulation.invariants import Wish
from tests.simulation.replicas import input_of
from tests.simulation.run import Library, Plan, Simulation
from tests.simulation.site import Disagreement

Patch = Callable[[pytest.MonkeyPatch], None]


def wish(number: int, kind: str = "ok", seconds: float = 0.1, **changes: Any) -> Wish:
    made = Wish(f"r{number}", kind, input_of(kind, number, seconds), 3600, 60, seconds)
    return replace(made, **changes)


def plan(*wishes: Wish, at: float = 3.5, **more: Any) -> Plan:
    return Plan(3, **{"tracking": False, "wishes": [(at, list(wishes))], **more})


def guard_of_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A dispatcher's word counts whatever its lease is."""
    real = jobs_settle.settle

    def settle(connection: Any, outcomes: Any, *rest: Any) -> Any:
        now = jobs_settle.load(connection, [outcome.id for outcome in outcomes])
        newest = [replace(o, lease=now[o.id].lease) if o.id in now else o for o in outcomes]
        return real(connection, newest, *rest)

    patch.setattr(jobs_settle, "settle", settle)


def counters(patch: pytest.MonkeyPatch) -> None:
    real = jobs.count
    patch.setattr(
        jobs, "count", lambda c, changes: real(c, {q: {"queued": more.get("queued", 0)} for q, more in changes.items()})
    )


def notifying(patch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """`change` makes another way to announce of the real one."""
    real = control_async.rules

    def rules(*given: Any) -> Any:
        made = real(*given)
        return replace(made, announce=change(made.announce))

    patch.setattr("tests.simulation.control.rules", rules)


def no_notification(patch: pytest.MonkeyPatch) -> None:
    notifying(patch, lambda real: lambda c, topic, *rest: real(c, f"{topic}-gone", *rest))


def two_notifications(patch: pytest.MonkeyPatch) -> None:
    notifying(patch, lambda real: lambda *given: real(*given) and real(*given))


def settled_twice(patch: pytest.MonkeyPatch) -> None:
    real = jobs_settle.finish
    patch.setattr(jobs_settle, "finish", lambda c, ends, *rest: real(c, [*ends, *ends], *rest))


def expiry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobs_claims, "expire", lambda *_: jobs_settle.Result())


def expiry_in_line(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exchange, "_expired", lambda self: False)


def patience_with_leases(patch: pytest.MonkeyPatch) -> None:
    """A control that has just begun takes back what could not be renewed."""
    patch.setattr(Asynchronous, "may_reap", True)


def heartbeats(patch: pytest.MonkeyPatch) -> None:
    async def never(self: Ledger) -> None:
        await asyncio.sleep(1e9)

    patch.setattr(Ledger, "_beat", never)


def drains(patch: pytest.MonkeyPatch) -> None:
    async def at_once(self: RouteFeed, ids: Any) -> None: ...

    patch.setattr(RouteFeed, "drained", at_once)


def start_from_zero(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scaling, "_from_zero", lambda view: None)


def largest_capacity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scaling, "_limited", lambda view, made: made)


def backlog_metric(patch: pytest.MonkeyPatch) -> None:
    real = BacklogMetrics._publish
    patch.setattr(BacklogMetrics, "_publish", lambda self, served, size, *rest: real(self, served, size + 1, *rest))


def tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobs, "_by_token", lambda *_: {})


def publication(patch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Any, staged: Any) -> None: ...

    patch.setattr(objects_staging.ExternalStaging, "publish", nothing)


def dead_letters(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(async_decisions, "after_loss", lambda attempts, limit, now, roll: async_decisions.Retry(now + 1.0))


CASES: list[tuple[Patch, str, Plan]] = [
    (
        guard_of_the_lease,
        "by a word on an older one",
        plan(wish(1, "slow", 14.0), dispatchers=2, workers=2, events=[(4.5, "part")]),
    ),
    (counters, "counts 0 running", plan(wish(1))),
    (no_notification, "has 0 notifications", plan(wish(1))),
    (two_notifications, "notified of twice", plan(wish(1))),
    (settled_twice, "notified of twice", plan(wish(1, "fail"))),
    (expiry, "after its expiry", plan(wish(1, ttl=60), instances=0, maximum=0)),
    (
        expiry_in_line,
        "sent to a container",
        plan(wish(0, "hang", 0.1, timeout=70), *(wish(n, ttl=60) for n in range(1, 6)), minimum=1, maximum=1),
    ),
    (patience_with_leases, "is executed 2 times", plan(wish(1, "slow", 40.0), events=[(6.0, "control away 20")])),
    (heartbeats, "is executed 2 times", plan(wish(1, "slow", 30.0))),
    (drains, "is stopped while it works", plan(wish(1, "slow", 10.0), maximum=0, range_at=6.0)),
    (start_from_zero, "no instance is wanted", plan(wish(1), instances=0)),
    (
        largest_capacity,
        "4 instances are wanted, allowed are 0 to 1",
        plan(*(wish(n) for n in range(12)), instances=0, minimum=0, maximum=1, tracking=True, at=2.0),
    ),
    (backlog_metric, "the backlog was published as 2.0, it was 1.0", plan(wish(1, "slow", 20.0))),
    (tokens, "UNIQUE constraint failed", replace(plan(), wishes=[(at, [wish(1, token="t")]) for at in (3.5, 4.5)])),
    (publication, "succeeded without an output", plan(wish(1), external=True)),
    (dead_letters, "has 4 attempts", plan(wish(1, "die"))),
]


@pytest.mark.parametrize(("mutation", "words", "case"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_broken_line_is_seen(library: Library, mutation: Patch, words: str, case: Plan) -> None:
    Simulation(library, copy.deepcopy(case)).run()
    with pytest.MonkeyPatch.context() as patch:
        mutation(patch)
        with pytest.raises(Disagreement) as found:
            Simulation(library, case).run()
    assert words in str(found.value)
