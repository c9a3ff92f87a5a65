"""Asynchronous requests against a model: whatever happens in whatever order, each ends once, and the counters are true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from slipway.core.asynchronous import TERMINAL, Claimed, Outcome
from slipway.store import jobs_claims, jobs_queries
from slipway.store.jobs import Accepted
from slipway.store.jobs_claims import Taker
from slipway.store.jobs_settle import Result
from tests.unit.store.jobs_world import ARN, LEASE, Store, failed, lost, opened, released, succeeded

HOLDERS = st.sampled_from(["1.a", "2.b"])


@dataclass(frozen=True)
class Known:
    """A request as the model has it."""

    expires: float
    incarnation: float
    state: str = "queued"
    lease: int = 0
    attempts: int = 0
    holder: str = ""
    until: float = 0.0
    ready_at: float = 0.0
    losses: int = 0
    started: bool = False
    claimed: float = 0.0


class Requests(RuleBasedStateMachine):
    store: Store

    @initialize()
    def begin(self) -> None:
        self.store.now, self.store.created = 1_700_000_000.0, 1_600_000_000.0
        self.store.told.clear()
        self.store.clear()
        self.known: dict[int, Known] = {}
        self.claims: list[Claimed] = []

    def _change(self, ident: int, **changes: Any) -> None:
        assert self.known[ident].state not in TERMINAL, "an end is final"
        self.known[ident] = replace(self.known[ident], **changes)

    def _ended(self, result: Result, expected: dict[int, str]) -> None:
        assert {each.job.id: each.state for each in result.settled} == expected
        for ident, state in expected.items():
            self._change(ident, state=state)

    def _lose(self, ident: int) -> str | None:
        """What a loss makes of a running request; the end, if it is one."""
        known = self.known[ident]
        self._change(ident, losses=known.losses + 1)
        if known.attempts >= 3:
            return "failed"
        self._change(ident, state="queued", ready_at=self.store.now + 2 ** (known.attempts - 1))
        return None

    def _gone(self, ident: int, told_since: float) -> str | None:
        """The same when its dispatcher died: where no container had it, it has lost nothing but time."""
        known = self.known[ident]
        if known.started or known.claimed < told_since:
            return self._lose(ident)
        self._change(ident, state="queued", ready_at=self.store.now + 1, attempts=known.attempts - 1)
        return None

    # What happens

    @rule(ttls=st.lists(st.sampled_from([60, 3600]), min_size=1, max_size=4))
    def accept(self, ttls: list[int]) -> None:
        rows = [self.store.request(expires=self.store.now + ttl) for ttl in ttls]
        for row, answer in zip(rows, self.store.accept(*rows), strict=True):
            assert isinstance(answer, Accepted)
            self.known[answer.id] = Known(row.expires, self.store.created)

    @rule(seconds=st.sampled_from([1.0, 16.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.store.now += seconds

    @rule(count=st.integers(1, 4), holder=HOLDERS)
    def claim(self, count: int, holder: str) -> None:
        now = self.store.now
        expired: dict[int, str] = {}
        wanted: list[int] = []
        for ident, known in sorted(self.known.items()):
            if known.state != "queued" or known.incarnation != self.store.created or known.ready_at > now:
                continue
            if len(wanted) == count:
                break
            if known.expires <= now:
                expired[ident] = "expired"
            else:
                wanted.append(ident)
        claimed, result = self.store.claim_with_result(count, holder)
        self._ended(result, expired)
        assert [each.id for each in claimed] == wanted
        for each in claimed:
            before = self.known[each.id]
            assert (each.lease, each.attempt) == (before.lease + 1, before.attempts + 1)
            self._change(
                each.id,
                state="running",
                lease=each.lease,
                attempts=each.attempt,
                holder=holder,
                until=now + LEASE,
                ready_at=0.0,
                started=False,
                claimed=now,
            )
        self.claims += claimed

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        claimed = data.draw(st.sampled_from(self.claims))
        self.store.write(lambda c: jobs_claims.started(c, [(claimed.id, claimed.lease, self.store.now, "v", "i-1")]))
        known = self.known[claimed.id]
        if known.state == "running" and known.lease == claimed.lease:
            self._change(claimed.id, started=True)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), make=st.sampled_from([succeeded, failed, lost, released]))
    def settle(self, data: st.DataObject, make: Callable[[Claimed], Outcome]) -> None:
        claimed = data.draw(st.sampled_from(self.claims))
        known = self.known[claimed.id]
        holds = known.state == "running" and known.lease == claimed.lease
        (answer,), result = self.store.settle_with_result(make(claimed))
        if not holds:
            said = "succeeded" if make is succeeded else "failed" if make is failed else ""
            assert answer is False or (known.lease == claimed.lease and known.state == said), "only what was said before"
            assert result == Result()
            return
        assert answer is True
        ended: dict[int, str] = {}
        if make in (succeeded, failed):
            ended[claimed.id] = "succeeded" if make is succeeded else "failed"
        elif make is released:
            self._change(claimed.id, state="queued", attempts=known.attempts - 1)
        elif (end := self._lose(claimed.id)) is not None:
            ended[claimed.id] = end
        self._ended(result, ended)

    @rule(holder=HOLDERS)
    def heartbeat(self, holder: str) -> None:
        held = {each.id: each.lease for each in self.claims}
        mine = {
            ident
            for ident, lease in held.items()
            if (self.known[ident].state, self.known[ident].lease, self.known[ident].holder) == ("running", lease, holder)
        }
        until = self.store.now + LEASE
        told = self.store.write(lambda c: jobs_claims.heartbeat(c, Taker(holder, until), list(held.items())))
        assert set(told) == set(held) - mine
        for ident in mine:
            self._change(ident, until=until)

    @rule(gone=st.sampled_from(["", "1.a"]), known_for=st.sampled_from([0.0, 30.0, 1e6]))
    def reap(self, gone: str, known_for: float) -> None:
        since = self.store.now - known_for
        overdue = [
            ident
            for ident, known in self.known.items()
            if known.state == "running" and (known.until < self.store.now or known.holder == gone)
        ]
        holders = {gone} if gone else set()
        result = self.store.write(
            lambda c: jobs_claims.reap(c, self.store.rules, self.store.now, gone=holders, told_since=since)
        )
        self._ended(result, {ident: "failed" for ident in overdue if self._gone(ident, since) is not None})

    @rule()
    def expire(self) -> None:
        late = [ident for ident, each in self.known.items() if each.state == "queued" and each.expires <= self.store.now]
        self._ended(self.store.end(jobs_claims.expire), dict.fromkeys(late, "expired"))

    @rule()
    def orphans(self) -> None:
        gone = [i for i, each in self.known.items() if each.incarnation != self.store.created and each.state not in TERMINAL]
        self._ended(self.store.end(jobs_claims.orphans), dict.fromkeys(gone, "failed"))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ident = data.draw(st.sampled_from(sorted(self.known)))
        open_now = self.known[ident].state not in TERMINAL
        result = self.store.write(lambda c: jobs_claims.cancel(c, [ident], self.store.rules, self.store.now))
        self._ended(result, {ident: "cancelled"} if open_now else {})

    @rule()
    def replace_endpoint(self) -> None:
        self.store.delete()
        self.store.serve()

    # What always holds

    @invariant()
    def states_are_the_models(self) -> None:
        for ident, known in self.known.items():
            job = self.store.job(ident)
            assert (job.state, job.lease, job.attempts) == (known.state, known.lease, known.attempts)
            assert known.attempts <= known.losses + 1
            assert (self.store.object(job.output_location) is not None) == (known.state == "succeeded")
            has_failure = self.store.object(job.failure_location or "") is not None
            assert has_failure == (known.state in TERMINAL - {"succeeded"})

    @invariant()
    def counters_are_true(self) -> None:
        assert self.store.counters() == self.store.counted()
        queue = next((q for q in self.store.write(jobs_queries.backlogs) if q.queue.place.arn == ARN), None)
        mine = [k for k in self.known.values() if k.incarnation == self.store.created and k.state not in TERMINAL]
        assert (queue.queue.backlog if queue is not None else 0) == len(mine)

    @invariant()
    def every_end_was_told_once(self) -> None:
        ended = sum(known.state in TERMINAL for known in self.known.values())
        told = [each["inferenceId"] for _, each in self.store.told]
        assert len(told) == len(set(told)) == ended


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_requests_against_the_model(database_url: str) -> None:
    with opened(database_url) as store:
        machine = type("Machine", (Requests,), {"store": store})
        examples = 25 if store.engine.dialect.name == "sqlite" else 8
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
