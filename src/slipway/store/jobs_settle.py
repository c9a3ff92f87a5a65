"""How asynchronous requests end, each exactly once: state, object, notification and counters in one transaction.

Whatever ends a request comes through `finish`, which takes only requests that have not ended. A dispatcher's word counts only
under the newest lease (`settle`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from slipway.core import async_decisions, async_notices
from slipway.core.async_notices import Told
from slipway.core.asynchronous import (
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Outcome,
    Staged,
    State,
)
from slipway.core.s3_events import SLIPWAY, Origin
from slipway.names import parse_s3_uri
from slipway.store import jobs
from slipway.store.jobs import COLUMNS, Job, Place, Queue, requests
from slipway.store.jobs_shelf import Shelf

FAILURE_TYPE = "text/plain; charset=utf-8"
CAUSE_CHARACTERS = 4096
FAILURE_CHARACTERS = 256 * 1024

Announce = Callable[[Connection, str, Sequence[str], float], Sequence[str | None]]
"""Publish messages (third) to a topic (second) in this transaction; their ids, None for those that could not be."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What ends of requests need to know beside the store."""

    announce: Announce
    attempts: int = 3
    """Attempts whose worker may die before the request is given up."""
    external: bool = False
    """Objects are in an external store: it has to be told after the commit."""
    origin: Origin = SLIPWAY
    """What the buckets' event notifications say of outputs and failure objects."""


@dataclass(frozen=True, slots=True)
class End:
    """How a request is to end. `outcome`: a dispatcher's, where one ended it."""

    job: Job
    state: State
    cause_kind: str = ""
    cause: str = ""
    dead: bool = False
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A request that has ended, for what follows the commit: metrics, log lines, word to its dispatcher."""

    job: Job
    """As it was before."""
    place: Place
    state: State
    cause_kind: str
    cause: str
    dead: bool
    outcome: Outcome | None
    finished: float
    notified: bool | None
    """None: nobody was to be told; False: the topic is not there."""


@dataclass(slots=True)
class Result:
    """What a transaction did, and what is left to do after its commit."""

    settled: list[Settled] = field(default_factory=list)
    requeued: dict[str, float] = field(default_factory=dict)
    """By endpoint key, when the first of its requests may be claimed again (0: at once)."""
    retired: list[str] = field(default_factory=list)
    """Blobs that no object names any more."""

    def merge(self, other: Result) -> None:
        self.settled += other.settled
        self.retired += other.retired
        for key, at in other.requeued.items():
            self.requeue(key, at)

    def requeue(self, key: str, at: float) -> None:
        self.requeued[key] = min(at, self.requeued.get(key, at))


_BY_IDS = select(*COLUMNS).where(requests.c.id.in_(bindparam("ids", expanding=True)))
_END_VALUES = (
    "state",
    "finished",
    "started",
    "variant",
    "instance",
    "dead",
    "cause_kind",
    "cause",
    "status",
    "notice",
    "failure",
)
_END = (
    update(requests)
    .where(requests.c.id == bindparam("of"))
    .values(
        {name: bindparam(f"new_{name}") for name in _END_VALUES}
        | {"ready_at": 0.0, "holder": None, "lease_until": None, "decided": None}
    )
)
_DROP_BODY = (
    update(requests).where(requests.c.id.in_(bindparam("ids", expanding=True)), requests.c.body.is_not(None)).values(body=None)
)
_REQUEUE = (
    update(requests)
    .where(requests.c.id == bindparam("of"))
    .values(
        state=QUEUED,
        ready_at=bindparam("new_ready_at"),
        attempts=bindparam("new_attempts"),
        cause=bindparam("new_cause"),
        holder=None,
        lease_until=None,
        started=None,
        variant=None,
        instance=None,
    )
)
_DECIDE = update(requests).where(requests.c.id == bindparam("of")).values(decided=bindparam("new_decided"))


def settle(
    connection: Connection, outcomes: Sequence[Outcome], rules: Rules, now: float, roll: float = 0.0
) -> tuple[list[bool], Result]:
    """Take a dispatcher's word on requests that it holds; False for each whose lease is not the newest any more.

    A word that is said again, since its answer was lost, is True again: what it staged is in use. What was staged for a False
    is the dispatcher's to remove.
    """
    found = load(connection, [outcome.id for outcome in outcomes])
    queues = jobs.queues_by_id(connection, sorted({job.queue for job in found.values()}))
    answers: list[bool] = []
    ends: list[End] = []
    again: list[tuple[Job, float, int, str]] = []
    result = Result()
    for outcome in outcomes:
        job = found.get(outcome.id)
        good = job is not None and job.state == RUNNING and job.lease == outcome.lease
        answers.append(good)
        if job is None or not good:
            answers[-1] = job is not None and _told_before(job, outcome)
            continue
        del found[outcome.id]  # one word for each
        step = _step(job, queues[job.queue].place, outcome, rules, now, roll)
        if isinstance(step, End):
            ends.append(step)
        elif step is None:
            if job.decided is None:
                connection.execute(_DECIDE, {"of": job.id, "new_decided": outcome})
        else:
            again.append((job, *step))
    requeue(connection, again, queues, result)
    result.merge(finish(connection, ends, queues, rules, now))
    return answers, result


def _step(
    job: Job, place: Place, outcome: Outcome, rules: Rules, now: float, roll: float
) -> End | tuple[float, int, str] | None:
    """The end; or when it is ready again, with how many attempts, and why; None: decided, and to be published."""
    outcome = replace(outcome, cause=clean(outcome.cause))
    if outcome.kind == "published":
        won = decided(job)
        return (0.0, job.attempts, "") if won is None else End(job, SUCCEEDED, outcome=won)
    if job.decided is not None:  # its answer is known, whatever becomes of who publishes it
        return None if outcome.kind == "succeeded" else (0.0, job.attempts, "")
    if outcome.kind == "released":
        return (0.0, max(0, job.attempts - 1), job.cause or "")
    if outcome.kind == "lost":
        cause = outcome.cause or async_notices.cause_of("no-answer", 0, place.endpoint, job.timeout)
        return after_loss(job, rules, now, roll, cause, outcome)
    if outcome.kind == "succeeded":
        if outcome.staged is not None and outcome.staged.attempt_key is not None:
            return None
        return End(job, SUCCEEDED, outcome=outcome)
    cause = outcome.cause or async_notices.cause_of(outcome.cause_kind, outcome.status, place.endpoint, job.timeout)
    return End(job, FAILED, outcome.cause_kind, cause, outcome=outcome)


def _told_before(job: Job, outcome: Outcome) -> bool:
    """The request ended by this very outcome, under this lease: nobody else could end it so."""
    if job.lease != outcome.lease:
        return False
    if job.state == SUCCEEDED:
        return outcome.kind in ("succeeded", "published")
    return job.state == FAILED and not job.dead and (outcome.kind == "failed" or job.cause_kind == "upload")


def after_loss(
    job: Job, rules: Rules, now: float, roll: float, cause: str, outcome: Outcome | None = None
) -> End | tuple[float, int, str]:
    """The worker or the dispatcher died: another attempt later, or a dead letter."""
    step = async_decisions.after_loss(job.attempts, rules.attempts, now, roll)
    if isinstance(step, async_decisions.Retry):
        return (step.ready_at, job.attempts, cause)
    return End(job, FAILED, "no-answer", async_notices.dead_cause(job.attempts, cause), dead=True, outcome=outcome)


def requeue(
    connection: Connection, again: Sequence[tuple[Job, float, int, str]], queues: dict[int, Queue], result: Result
) -> None:
    """Put running requests back where they were in their queues: each with when it is ready, its attempts, and why."""
    if not again:
        return
    connection.execute(
        _REQUEUE,
        [
            {"of": job.id, "new_ready_at": ready_at, "new_attempts": attempts, "new_cause": clean(cause) or None}
            for job, ready_at, attempts, cause in again
        ],
    )
    moves = Counter((job.queue, job.state) for job, _, _, _ in again)
    jobs.count(connection, _changes((queue, state, QUEUED, many) for (queue, state), many in moves.items()))
    for job, ready_at, _, _ in again:
        result.requeue(queues[job.queue].place.key, ready_at)


def load(connection: Connection, ids: Sequence[int]) -> dict[int, Job]:
    if not ids:
        return {}
    return {row[0]: Job(*row) for row in connection.execute(_BY_IDS, {"ids": list(ids)})}


def finish(connection: Connection, ends: Sequence[End], queues: dict[int, Queue], rules: Rules, now: float) -> Result:
    """End requests that are queued or running: their objects, notifications, rows and counters.

    An answer that cannot be kept under its output location turns success into failure.
    """
    result = Result()
    shelf = Shelf(connection, now, rules.origin)
    values: list[dict[str, Any]] = []
    moves: Counter[tuple[int, State, State]] = Counter()
    kept = [_kept(end, queues[end.job.queue].place, rules, shelf, result) for end in ends]
    for end, notice in zip(kept, _notify(connection, kept, queues, rules, now), strict=True):
        place = queues[end.job.queue].place
        values.append(_end_values(end, notice, _failure_object(end, place, rules, shelf), now))
        moves[end.job.queue, end.job.state, end.state] += 1
        notified = None if notice is None else "message" in notice
        settled = Settled(end.job, place, end.state, end.cause_kind, end.cause, end.dead, end.outcome, now, notified)
        result.settled.append(settled)
    result.retired += shelf.store()
    if values:
        connection.execute(_END, values)
        if done := [value["of"] for value in values if value["new_state"] == SUCCEEDED]:
            connection.execute(_DROP_BODY, {"ids": done})
        jobs.count(connection, _changes((*move, many) for move, many in moves.items()))
    return result


def _changes(moves: Iterable[tuple[int, State, State, int]]) -> dict[int, dict[State, int]]:
    """Of the counters: queue, from which state, to which, how many."""
    found: dict[int, dict[State, int]] = {}
    for queue, before, after, many in moves:
        of = found.setdefault(queue, {})
        of[before] = of.get(before, 0) - many
        of[after] = of.get(after, 0) + many
    return found


def _end_values(end: End, notice: dict[str, Any] | None, failure: str | None, now: float) -> dict[str, Any]:
    outcome = end.outcome
    return {
        "of": end.job.id,
        "new_state": end.state,
        "new_finished": now,
        "new_started": outcome.started if outcome is not None and outcome.started is not None else end.job.started,
        "new_variant": (outcome.variant if outcome is not None else "") or end.job.variant,
        "new_instance": (outcome.instance if outcome is not None else "") or end.job.instance,
        "new_dead": 1 if end.dead else 0,
        "new_cause_kind": end.cause_kind or None,
        "new_cause": end.cause or None,
        "new_status": (outcome.status or None) if outcome is not None else None,
        "new_notice": notice,
        "new_failure": failure,
    }


def _kept(end: End, place: Place, rules: Rules, shelf: Shelf, result: Result) -> End:
    """Put the answer under its output location; the end that follows from it."""
    staged = end.outcome.staged if end.outcome is not None else None
    if staged is None or rules.external:
        return end
    if end.state != SUCCEEDED:
        result.retired += _blobs(staged)
        return end
    if (why := shelf.refused(staged.bucket, place.account)) is not None:
        result.retired += _blobs(staged)
        return replace(end, state=FAILED, cause_kind="upload", cause=async_notices.output_refused(staged.bucket, why))
    shelf.put(staged)
    return end


def _failure_object(end: End, place: Place, rules: Rules, shelf: Shelf) -> str | None:
    """Write the failure object, where the endpoint has a place for it; what is left to give to an external store."""
    if end.state == SUCCEEDED or end.job.failure_location is None:
        return None
    content = async_notices.failure_object(end.cause_kind, end.cause, end.outcome.answer if end.outcome else None)
    if rules.external:
        return clean(content.decode(), FAILURE_CHARACTERS)
    where = parse_s3_uri(end.job.failure_location)
    if where is not None and shelf.refused(where.bucket, place.account) is None:
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        shelf.put(Staged(where.bucket, where.key, len(content), etag, FAILURE_TYPE, content))
    return None


def _notify(
    connection: Connection, ends: Sequence[End], queues: dict[int, Queue], rules: Rules, now: float
) -> list[dict[str, Any] | None]:
    """Tell the endpoints' topics; what is remembered of each: None, when there is nobody to tell."""
    by_topic: dict[str, list[int]] = {}
    for index, end in enumerate(ends):
        options = queues[end.job.queue].options
        topic = options.success_topic if end.state == SUCCEEDED else options.error_topic
        if topic is not None:
            by_topic.setdefault(topic, []).append(index)
    found: list[dict[str, Any] | None] = [None] * len(ends)
    for topic, indexes in by_topic.items():
        told = [_notice(ends[index], queues[ends[index].job.queue], now) for index in indexes]
        for index, message in zip(indexes, rules.announce(connection, topic, told, now), strict=True):
            failed = {"topic": topic, "error": "there is no such topic"}
            found[index] = failed if message is None else {"topic": topic, "message": message}
    return found


def _notice(end: End, queue: Queue, now: float) -> str:
    job, outcome, place, options = end.job, end.outcome, queue.place, queue.options
    told = Told(
        place.region,
        place.endpoint,
        job.inference_id,
        job.received,
        now,
        job.input_location,
        job.content_type,
        job.accept,
        job.custom_attributes,
    )
    answer = outcome.answer if outcome is not None else None
    if end.state == SUCCEEDED:
        kind = outcome.content_type if outcome is not None else ""
        return async_notices.success_notice(told, job.output_location, kind, answer, include=options.include_success)
    status = outcome.status if outcome is not None else 0
    reason = async_notices.failure_reason(end.cause_kind, status, end.cause, answer)
    return async_notices.failure_notice(told, reason, job.failure_location, answer, include=options.include_error)


def decided(job: Job) -> Outcome | None:
    """The outcome that won and has yet to be published to an external store."""
    return None if job.decided is None else msgspec.convert(job.decided, Outcome)


def clean(text: str, most: int = CAUSE_CHARACTERS) -> str:
    """As both databases keep it, and bounded."""
    return text.replace("\x00", "\ufffd")[:most]


def _blobs(staged: Staged | None) -> list[str]:
    return [blob for blob, _, _ in staged.segments] if staged is not None else []
