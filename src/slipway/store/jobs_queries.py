"""Asynchronous requests looked at: pages of them, all of one InferenceId, places in the queue, backlogs. For `Db.read`.

Every query here follows an index and is bounded, whatever the length of the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, literal_column, select

from slipway.core.asynchronous import QUEUED, RUNNING, State
from slipway.store.jobs import COLUMNS, COUNTED, QUEUE_COLUMNS, Job, Queue, queues, requests, to_queue
from slipway.store.resources import resources

POSITIONS = 10_000
"""Places in a queue are counted up to here."""
_LARGEST = 2**63 - 1
SAME_ID = 1000
"""Requests of one InferenceId that are shown at most."""

_c = requests.c


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests of an endpoint's incarnations; times are epoch seconds."""

    states: tuple[State, ...] = ()
    """Empty: all."""
    received_after: float | None = None
    received_before: float | None = None
    dead: bool = False
    """Only dead letters."""
    after: int = 0
    """Those with a higher id (or, newest first, a lower one; 0: from the end)."""
    newest_first: bool = False
    limit: int = 100


_WAITS = and_(_c.started.is_(None), _c.decided.is_(None))
_AHEAD = and_(_c.state == RUNNING, _c.ready_at == 0.0, _WAITS)


@dataclass(frozen=True, slots=True)
class Backlog:
    queue: Queue
    oldest: float | None
    """When the oldest request that has not ended was received; None: there is none."""
    ahead: int
    """How many of the running ones no container has yet: claimed ahead, they wait as queued ones do."""


def named_queues(connection: Connection, account: str, region: str, endpoint: str) -> list[Queue]:
    """Of all incarnations whose records are kept, the newest first."""
    where = (queues.c.account == account) & (queues.c.region == region) & (queues.c.endpoint == endpoint)
    rows = connection.execute(select(*QUEUE_COLUMNS).where(where).order_by(queues.c.created.desc()))
    return [to_queue(row) for row in rows]


def page(connection: Connection, of: Sequence[int], wanted: Wanted) -> list[Job]:
    """Requests of these queues in the order of their arrival, at most `limit`."""
    found: list[Job] = []
    for queue in of:
        if wanted.dead:
            found += _dead(connection, queue, wanted)
            continue
        for state in wanted.states or COUNTED:
            found += _of_state(connection, queue, state, wanted)
    found.sort(key=lambda job: job.id, reverse=wanted.newest_first)
    return found[: wanted.limit]


def _of_state(connection: Connection, queue: int, state: State, wanted: Wanted) -> list[Job]:
    where = [_c.queue == queue, *_bounds(wanted)]
    of_state = _c.state == state
    order = _c.id.desc() if wanted.newest_first else _c.id
    found: list[Job] = []
    parts = [and_(of_state, _c.ready_at == 0.0)]
    if state == QUEUED:
        # Requests that wait for another attempt have a time of their own in the index, and are few.
        parts += [and_(of_state, _c.ready_at > 0.0), _AHEAD]
    elif state == RUNNING:
        parts = [and_(parts[0], ~_WAITS)]
    for part in parts:
        rows = connection.execute(select(*COLUMNS).where(*where, part).order_by(order).limit(wanted.limit))
        found += [Job(*row) for row in rows]
    return found


def _dead(connection: Connection, queue: int, wanted: Wanted) -> list[Job]:
    """Dead letters, which have an index of their own: they are few among many that failed."""
    where = [_c.queue == queue, _c.dead == literal_column("1"), *_bounds(wanted)]
    order = _c.id.desc() if wanted.newest_first else _c.id
    if wanted.states:
        where.append(_c.state.in_(wanted.states))
    return [Job(*row) for row in connection.execute(select(*COLUMNS).where(*where).order_by(order).limit(wanted.limit))]


def _bounds(wanted: Wanted) -> list[ColumnElement[bool]]:
    """An id is the microsecond of arrival, so that times bound the index too (to be exact, the column is asked as well)."""
    found: list[ColumnElement[bool]] = []
    if wanted.after:
        found.append(_c.id < wanted.after if wanted.newest_first else _c.id > wanted.after)
    if wanted.received_after is not None:
        found += [_c.id >= min(int(wanted.received_after * 1_000_000), _LARGEST), _c.received >= wanted.received_after]
    if wanted.received_before is not None:
        found.append(_c.received <= wanted.received_before)
    return found


def by_inference_id(connection: Connection, account: str, region: str, inference_id: str) -> list[tuple[Job, Queue]]:
    """All requests of that id, the oldest first: it is a correlation id, and may name several."""
    statement = (
        select(*COLUMNS, *(column.label(f"queue_{column.name}") for column in QUEUE_COLUMNS))
        .join(queues, queues.c.id == _c.queue)
        .where(_c.inference_id == inference_id, queues.c.account == account, queues.c.region == region)
        .order_by(_c.id)
        .limit(SAME_ID)
    )
    width = len(COLUMNS)
    return [(Job(*row[:width]), to_queue(row[width:])) for row in connection.execute(statement)]


def position(connection: Connection, job: Job) -> int:
    """How many requests of its queue are before it, counted up to POSITIONS."""
    before = 0
    for waiting in (and_(_c.state == QUEUED, _c.ready_at == 0.0), _AHEAD):
        ahead = select(_c.id).where(_c.queue == job.queue, waiting, _c.id < job.id).limit(POSITIONS)
        before += int(connection.execute(select(func.count()).select_from(ahead.subquery())).scalar_one())
    return min(before, POSITIONS)


def waits(job: Job) -> bool:
    """Queued, or claimed ahead: no container has it."""
    return job.state == QUEUED or (job.state == RUNNING and job.started is None and job.decided is None)


def _ahead(connection: Connection, queue: Queue) -> int:
    if not queue.running:
        return 0
    return int(connection.execute(select(func.count()).where(_c.queue == queue.id, _AHEAD)).scalar_one())


def backlogs(connection: Connection, account: str | None = None) -> list[Backlog]:
    """Of every endpoint that there is and that has had a request, the oldest first."""
    there = select(resources.c.arn).where(resources.c.arn == queues.c.arn, resources.c.created == queues.c.created).exists()
    statement = select(*QUEUE_COLUMNS).where(there).order_by(queues.c.id)
    if account is not None:
        statement = statement.where(queues.c.account == account)
    found = [to_queue(row) for row in connection.execute(statement)]
    return [Backlog(queue, oldest(connection, queue), _ahead(connection, queue)) for queue in found]


def oldest(connection: Connection, queue: Queue) -> float | None:
    """When the oldest request that has not ended was received."""
    if not queue.backlog:
        return None
    found: list[float] = []
    for state, ready in ((QUEUED, _c.ready_at == 0.0), (RUNNING, _c.ready_at == 0.0)):
        first = select(_c.received).where(_c.queue == queue.id, _c.state == state, ready).order_by(_c.id).limit(1)
        found += connection.execute(first).scalars()
    delayed = select(func.min(_c.received)).where(_c.queue == queue.id, _c.state == QUEUED, _c.ready_at > 0.0)
    found += [value for value in connection.execute(delayed).scalars() if value is not None]
    return min(found, default=None)
