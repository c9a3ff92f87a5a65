"""What must hold after every commit and at every execution, and in the end; `Disagreement` where it does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from slipway.control.capacity import capacity
from slipway.core.asynchronous import TERMINAL, Outcome
from slipway.names import parse_s3_uri
from tests.simulation.control import ARN
from tests.simulation.objects import Shelf
from tests.simulation.replicas import Ask, Watcher, Worker, answer_to
from tests.simulation.site import BEGIN, Disagreement, Site

ATTEMPTS = 3
_COLUMNS = (
    "id",
    "queue",
    "state",
    "lease",
    "attempts",
    "inference_id",
    "expires",
    "timeout",
    "output_location",
    "failure_location",
    "holder",
    "lease_until",
    "finished",
    "dead",
    "cause_kind",
    "decided",
    "token",
)
_ROWS = f"select {', '.join(_COLUMNS)} from async_requests order by id"
_COUNTED = ("queued", "running", "succeeded", "failed", "expired", "cancelled")
_QUIET = ("Metrics.", "Alarms.", "Autoscaler.", "Endpoints.", "rows.")


class Row(NamedTuple):
    id: int
    queue: int
    state: str
    lease: int
    attempts: int
    inference_id: str
    expires: float
    timeout: int
    output_location: str
    failure_location: str | None
    holder: str | None
    lease_until: float | None
    finished: float | None
    dead: int
    cause_kind: str | None
    decided: str | None
    token: str | None


@dataclass
class Wish:
    """What a client wanted, and what it was told."""

    inference_id: str
    kind: str
    body: bytes
    ttl: int
    timeout: int
    seconds: float
    token: str | None = None
    cancelled: bool = False
    refused: bool = False
    outputs: list[str] = field(default_factory=list)
    """Output locations of the answers, one for each time that it was accepted."""


@dataclass
class Execution:
    inference_id: str
    dispatcher: int
    begun: float
    timeout: float


class Checker(Watcher):
    """`wishes` by InferenceId: all that any client ever sent."""

    def __init__(self, site: Site, shelf: Shelf) -> None:
        self.site = site
        self.shelf = shelf
        self.wishes: dict[str, Wish] = {}
        self.accepted: dict[str, str] = {}
        """Output location by InferenceId: what was promised with 202."""
        self.rows: dict[int, Row] = {}
        self.executions: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        """Kills (of a dispatcher that held it, of a worker that had it) by InferenceId."""
        self.notices: dict[str, list[str]] = {}
        self.running: dict[str, Execution] = {}
        self.wanted: Callable[[str], bool] = lambda inference_id: False
        self.holding: Callable[[int], set[int]] = lambda pid: set()
        """Ids of requests that the dispatcher of that pid knows to be its own."""
        self.control_since = site.now
        """None of control's work can be overdue before that."""
        self.control_up = False
        self.minimum, self.maximum = 0, 5
        self.range_since = site.now
        self._range_entered = False
        self._excuses = 0
        self.deleting = False
        self.on_arrival = True
        self.desired = 0
        self.highest = 0
        self.trouble = site.trouble > 0
        self.checks = 0
        self._said: set[tuple[int, int]] = set()
        """Id and lease of every settlement that control has heard."""
        self._zero_since: float | None = None
        self._late: dict[int, float] = {}
        """Since when requests are seen queued that have expired."""
        self._last_message = 0
        self._external = site.external

    def fail(self, text: str) -> NoReturn:
        """Written down too: what is raised in a callback may be caught on its way."""
        found = f"at {self.site.now - BEGIN:.3f} s, step {self.site.number}: {text}"
        self.site.agenda.problems.append(found)
        raise Disagreement(found)

    # ---- after a commit

    def committed(self, name: str) -> None:
        self.site.say(f"committed {name}")
        if name.startswith(_QUIET):
            if name.startswith(("Autoscaler.", "Endpoints.")):
                self._look_at_capacity()
            return
        self.checks += 1
        cursor = self.site.disk.raw.execute(_ROWS)
        rows = {row[0]: Row(*row) for row in cursor}
        before, self.rows = self.rows, rows
        self._look_at_messages()
        for row in rows.values():
            old = before.get(row.id)
            if old is None or old != row:
                self._changed(name, old, row)
        for id in before.keys() - rows.keys():
            self.fail(f"{before[id].inference_id} is gone from the store")
        self._look_at_counters()
        self._look_at_backlog()

    def _changed(self, name: str, old: Row | None, row: Row) -> None:
        what = row.inference_id
        self.site.say(f"{what}: {row.state} lease {row.lease} attempts {row.attempts} {row.cause_kind or ''}")
        if old is not None:
            self._transition(name, old, row)
        if (row.state == "running") != (row.holder is not None and row.lease_until is not None):
            self.fail(f"{what} is {row.state} with holder {row.holder}, lease until {row.lease_until}")
        if row.attempts > ATTEMPTS:
            self.fail(f"{what} has {row.attempts} attempts")
        told = self.notices.get(what, [])
        if len(told) != (row.state in TERMINAL):
            self.fail(f"{what} is {row.state} and has {len(told)} notifications")
        if told and told[0] != ("Completed" if row.state == "succeeded" else "Failed"):
            self.fail(f"{what} is {row.state}, its notification says {told[0]}")
        self._look_at_output(row)

    def _transition(self, name: str, old: Row, row: Row) -> None:
        what = row.inference_id
        if old.state in TERMINAL:
            self.fail(f"{what} was {old.state} and is changed again: {row}")
        if row.lease < old.lease or row.lease > old.lease + 1:
            self.fail(f"{what}: lease {old.lease} becomes {row.lease}")
        if row.lease > old.lease and not (old.state == "queued" and row.state == "running"):
            self.fail(f"{what} was leased again while {old.state}, and is {row.state}")
        if row.lease == old.lease and old.state == "queued" and row.state == "running":
            self.fail(f"{what} is running under the lease of before")
        if row.lease == old.lease and old.state == row.state == "running" and old.holder != row.holder:
            self.fail(f"{what} has another holder under the same lease")
        if name == "Asynchronous._commit" and old.state == "running" and (row.id, old.lease) not in self._said:
            self.fail(f"{what} was settled under lease {old.lease} by a word on an older one")
        taken = old.state == "running" and row.state in ("queued", "failed") and not name.startswith("Asynchronous._commit")
        if taken and row.cause_kind != "endpoint" and old.holder is not None and old.lease_until is not None:
            pid = int(old.holder.partition(".")[0])
            lives = self.site.alive(pid)
            # The claim's answer was lost: its holder knows nothing of it.
            unheard = name.startswith("Asynchronous._heartbeat") and row.id not in self.holding(pid)
            if lives and old.lease_until >= self.site.now and not unheard:
                self.fail(f"{what} was taken from {old.holder}, which lives and whose lease holds")
        if row.state == "expired" and self.site.now < row.expires:
            self.fail(f"{what} expired {row.expires - self.site.now} s too early")

    def _look_at_output(self, row: Row) -> None:
        where = parse_s3_uri(row.output_location)
        assert where is not None
        try:
            content = self.shelf.content(where.key)
        except LookupError:
            self.fail(f"the output of {row.inference_id} has lost its content")
        visible = row.state == "succeeded" or (self._external and row.decided is not None)
        wish = self.wishes.get(row.inference_id)
        if row.state == "succeeded" and content is None:
            self.fail(f"{row.inference_id} succeeded without an output")
        if content is not None and not visible:
            self.fail(f"{row.inference_id} is {row.state} and has an output")
        if content is not None and wish is not None and content != answer_to(wish.body):
            self.fail(f"the output of {row.inference_id} is {content!r}")
        if row.failure_location is not None and not self._external:
            at = parse_s3_uri(row.failure_location)
            assert at is not None
            there = self.shelf.content(at.key) is not None
            if there != (row.state in TERMINAL and row.state != "succeeded"):
                self.fail(f"{row.inference_id} is {row.state}, a failure object is {'' if there else 'not '}there")

    def _look_at_messages(self) -> None:
        found = self.site.disk.raw.execute(
            "select id, body from sqs_messages where id > ? order by id", (self._last_message,)
        ).fetchall()
        for id, body in found:
            self._last_message = id
            notice = json.loads(body)
            if "inferenceId" in notice and "invocationStatus" in notice:
                self.notices.setdefault(notice["inferenceId"], []).append(notice["invocationStatus"])
                if len(self.notices[notice["inferenceId"]]) > 1:
                    self.fail(f"{notice['inferenceId']} was notified of twice")

    def _look_at_counters(self) -> None:
        true: Counter[tuple[int, str]] = Counter((row.queue, row.state) for row in self.rows.values())
        found = self.site.disk.raw.execute(f"select id, {', '.join(_COUNTED)} from async_queues").fetchall()
        for id, *counts in found:
            for state, count in zip(_COUNTED, counts, strict=True):
                if true[id, state] != count:
                    self.fail(f"queue {id} counts {count} {state}, there are {true[id, state]}")

    def heard(self, outcomes: Sequence[Outcome]) -> None:
        self._said.update((outcome.id, outcome.lease) for outcome in outcomes)

    def backlog(self) -> int:
        return sum(row.state not in TERMINAL for row in self.rows.values())

    # ---- capacity

    def _look_at_capacity(self) -> None:
        with self.site.disk.connection.begin():
            found = capacity(self.site.disk.connection, ARN)
        if found is None:
            return
        self.desired = found.desired["A"]
        self.highest = max(self.highest, self.desired)
        self._look_at_range()
        self._look_at_backlog()

    def _look_at_range(self) -> None:
        """Within it always, but for a moment after the range was changed."""
        if self.minimum <= self.desired <= self.maximum:
            self._range_entered = True
        elif self._range_entered and self._excuses:
            self._excuses -= 1
            self.change_range(self.minimum, self.maximum)
        elif self._range_entered or (self.control_up and self.site.now - max(self.range_since, self.control_since) > 5.0):
            self.fail(f"{self.desired} instances are wanted, allowed are {self.minimum} to {self.maximum}")

    def change_range(self, minimum: int, maximum: int) -> None:
        self.minimum, self.maximum, self.range_since, self._range_entered = minimum, maximum, self.site.now, False

    def _look_at_backlog(self) -> None:
        """From zero whenever there is a backlog."""
        stuck = self.desired == 0 and self.backlog() > 0 and not self.deleting and self.maximum > 0 and self.on_arrival
        if not stuck or not self.control_up:
            self._zero_since = None
        elif self._zero_since is None:
            self._zero_since = self.site.now
        elif self.site.now - self._zero_since > 5.0:
            self.fail(f"{self.backlog()} requests wait since {self.site.now - self._zero_since:.1f} s, no instance is wanted")

    def published(self, name: str, value: float) -> None:
        """A metric on its way."""
        if name == "ApproximateBacklogSize" and value != self.truth:
            self.fail(f"the backlog was published as {value}, it was {self.truth}")
        if name == "HasBacklogWithoutCapacity" and value and not self.truth:
            self.fail("HasBacklogWithoutCapacity without a backlog")

    truth = 0.0
    """The backlog, counted one by one, when the backlogs were read."""

    # ---- executions

    def sent(self, ask: Ask, worker: Worker) -> None:
        for row in self.rows.values():
            if row.inference_id == ask.inference_id and row.expires + 0.05 < self.site.now:
                self.fail(f"{ask.inference_id} was sent to a container {self.site.now - row.expires:.3f} s after its expiry")

    def begun(self, ask: Ask, worker: Worker) -> None:
        what = ask.inference_id
        self.executions[what] += 1
        self.site.say(f"{what} begins on {worker} for {ask.transport.process}")
        if self.executions[what] > 1 + self.hits[what]:
            self.fail(f"{what} is executed {self.executions[what]} times, {self.hits[what]} kills have hit it")
        row = next((row for row in self.rows.values() if row.inference_id == what), None)
        if row is None:
            self.fail(f"{what} is executed and was never accepted")
        self.running[what] = Execution(what, ask.transport.process.pid, self.site.now, ask.timeout)

    def ended(self, ask: Ask, worker: Worker) -> None:
        self.running.pop(ask.inference_id, None)

    def stopping(self, worker: Worker) -> None:
        for ask in worker.asks:
            if not ask.transport.process.dead and self.wanted(ask.inference_id) and not self.deleting:
                self.fail(f"{worker} is stopped while it works on {ask.inference_id}")

    def interrupted(self, inference_ids: list[str]) -> None:
        """Their workers, or who waited for them, are gone."""
        for each in inference_ids:
            self.running.pop(each, None)

    def replica_failed(self) -> None:
        """The endpoint goes back to what it had, which the range may not allow any more."""
        self._excuses += 1

    def hit(self, inference_ids: list[str]) -> None:
        self.hits.update(inference_ids)

    # ---- now and then, and in the end

    def tick(self) -> None:
        now = self.site.now
        self._look_at_range()
        self._look_at_backlog()
        if not self.control_up or now - self.control_since < 10.0:
            self._late.clear()
            return
        for row in self.rows.values():
            if row.state != "queued" or row.expires > now or row.decided is not None:
                self._late.pop(row.id, None)
            elif now - self._late.setdefault(row.id, now) > 5.0:
                self.fail(f"{row.inference_id} is queued {now - row.expires:.1f} s after its expiry")
            if row.state == "running" and (execution := self.running.get(row.inference_id)) is not None:
                over = now - execution.begun - execution.timeout
                if over > 10.0 and now - self.control_since > over and self.site.alive(execution.dispatcher):
                    self.fail(f"{row.inference_id} runs {over:.1f} s beyond its timeout")

    def done(self) -> bool:
        return all(row.state in TERMINAL for row in self.rows.values())

    def promised(self, wish: Wish, inference_id: str, output: str) -> None:
        """A 202 has reached a client."""
        wish.outputs.append(output)
        row = next((row for row in self.rows.values() if row.inference_id == inference_id), None)
        if row is None or row.output_location != output:
            self.fail(f"{inference_id} was accepted with {output}, the store has {row}")
        if self.accepted.setdefault(inference_id, output) != output:
            self.fail(f"{inference_id} was accepted with {output} and with {self.accepted[inference_id]}")

    def finally_(self) -> None:
        """All that was promised has ended, as it may end."""
        by_id = {row.inference_id: row for row in self.rows.values()}
        if len(by_id) != len(self.rows):
            self.fail("two records of one request")
        for what in self.accepted:
            if what not in by_id:
                self.fail(f"{what} was accepted and is lost")
        tokens = Counter((row.queue, row.token) for row in self.rows.values() if row.token is not None)
        if any(count > 1 for count in tokens.values()):
            self.fail(f"a token names several requests: {tokens}")
        for wish in self.wishes.values():
            if wish.token is not None and not wish.outputs and not wish.refused and not self.deleting:
                self.fail(f"{wish.inference_id} was sent until it was answered, and never accepted")
        for row in self.rows.values():
            if row.state not in TERMINAL:
                self.fail(f"{row.inference_id} has not ended: {row}")
            self._look_at_output(row)
            wish = self.wishes[row.inference_id]
            if not plausible(wish, row, self):
                self.fail(f"{row.inference_id} ({wish.kind}) ended as {row.state} {row.cause_kind} {row.attempts}")
        for what, count in self.executions.items():
            if by_id[what].state == "expired" and count > self.hits[what]:
                self.fail(f"{what} was executed, and expired")

    def summary(self) -> Mapping[str, int]:
        return Counter(row.state for row in self.rows.values())


_CAUSES = {"refuse": "model-error", "fail": "model-error", "hang": "timeout", "missing": "download"}


def plausible(wish: Wish, row: Row, checker: Checker) -> bool:
    if row.state == "cancelled":
        return wish.cancelled
    if row.state == "expired":
        return True
    if row.cause_kind == "endpoint":
        return checker.deleting
    if row.dead:
        hit = checker.hits[wish.inference_id] > 0 or wish.kind == "die"
        return row.state == "failed" and row.attempts == ATTEMPTS and hit
    if row.state == "failed" and row.cause_kind == "upload":
        return checker.trouble and wish.kind not in _CAUSES
    if row.state == "failed" and row.cause_kind == "timeout":
        return wish.kind == "hang" or wish.seconds > wish.timeout
    if wish.kind in ("die", "moody") and row.state == "failed":
        return False
    if (cause := _CAUSES.get(wish.kind)) is not None:
        return row.state == "failed" and row.cause_kind == cause
    return row.state == "succeeded"
