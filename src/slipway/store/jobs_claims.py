"""Asynchronous requests under lease: claimed, kept alive, taken back from the dead, and ended from outside.

A claim changes the lease's number; whatever comes later under an older number is void. `attempts` is counted by the claim.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from slipway.core import async_notices
from slipway.core.async_decisions import backoff_seconds, is_expired
from slipway.core.asynchronous import CANCELLED, EXPIRED, FAILED, QUEUED, RUNNING, Claimed, Staged
from slipway.store import jobs
from slipway.store.jobs import COLUMNS, QUEUED_LITERAL, Job, Queue, queues, requests
from slipway.store.jobs_places import busy_queues, drop_queues, fate, serving_queue, unserved_queues
from slipway.store.jobs_settle import End, Result, Rules, after_loss, decided, finish, requeue

CHUNK = 500
"""Requests that one transaction ends or takes back at most, so that others get their turn."""
PATIENCE = 10
"""Claims for each allowed attempt, beyond which a request whose dispatchers die before a container has it is not innocent."""
_GONE = "The dispatcher that processed the request ended or did not answer."

_c = requests.c
_CLAIMABLE = (
    select(*COLUMNS)
    .where(_c.queue == bindparam("of_queue"), _c.state == QUEUED, _c.ready_at == 0.0)
    .order_by(_c.id)
    .limit(bindparam("count"))
)
_DUE = (
    update(requests)
    .where(_c.queue == bindparam("of_queue"), _c.state == QUEUED, _c.ready_at > 0.0, _c.ready_at <= bindparam("now"))
    .values(ready_at=0.0)
)
_TAKE = (
    update(requests)
    .where(_c.id.in_(bindparam("ids", expanding=True)))
    .values(
        state=RUNNING,
        ready_at=0.0,
        lease=_c.lease + 1,
        attempts=_c.attempts + bindparam("more"),
        holder=bindparam("new_holder"),
        lease_until=bindparam("new_until"),
        claimed=bindparam("new_claimed"),
        started=None,
    )
)
_BODIES = select(_c.id, _c.body).where(_c.id.in_(bindparam("ids", expanding=True)), _c.body.is_not(None))
_STARTED = (
    update(requests)
    .where(_c.id == bindparam("of"), _c.lease == bindparam("under"), _c.state == RUNNING)
    .values(started=bindparam("new_started"), variant=bindparam("new_variant"), instance=bindparam("new_instance"))
)
_RENEW = update(requests).where(_c.id.in_(bindparam("ids", expanding=True))).values(lease_until=bindparam("new_until"))


@dataclass(frozen=True, slots=True)
class Taker:
    """Who claims, and until when the lease holds (epoch seconds)."""

    holder: str
    until: float


def claim(
    connection: Connection, account: str, region: str, endpoint: str, taker: Taker, count: int, rules: Rules, now: float
) -> tuple[list[Claimed], Result]:
    """The oldest requests of an endpoint in service, leased; those that waited too long are settled on the way."""
    result = Result()
    queue = serving_queue(connection, account, region, endpoint)
    claimed: list[Claimed] = []
    if rules.external:
        claimed += _orphaned_publications(connection, account, taker, count, now)
    if queue is None:
        return claimed, result
    connection.execute(_DUE, {"of_queue": queue.id, "now": now})
    looked = 0
    while len(claimed) < count and looked < CHUNK + count:
        wanted = count - len(claimed)
        found = [Job(*row) for row in connection.execute(_CLAIMABLE, {"of_queue": queue.id, "count": wanted})]
        looked += len(found)
        late = [job for job in found if job.decided is None and is_expired(job.expires, now)]
        good = [job for job in found if job.decided is not None or not is_expired(job.expires, now)]
        result.merge(_expire(connection, late, {queue.id: queue}, rules, now))
        claimed += _take(connection, queue, good, taker, now)
        if len(found) < wanted:
            break
    return claimed, result


def _take(connection: Connection, queue: Queue, found: Sequence[Job], taker: Taker, now: float) -> list[Claimed]:
    """Lease them; what only waits to be published is no further attempt."""
    if not found:
        return []
    for more in (0, 1):
        ids = [job.id for job in found if (job.decided is None) == bool(more)]
        if ids:
            connection.execute(
                _TAKE,
                {"ids": ids, "more": more, "new_holder": taker.holder, "new_until": taker.until, "new_claimed": now},
            )
    jobs.count(connection, {queue.id: {QUEUED: -len(found), RUNNING: len(found)}})
    inline = [job.id for job in found if job.input_location is None and job.decided is None]
    bodies: dict[int, bytes] = {}
    if inline:
        bodies = {row[0]: bytes(row[1]) for row in connection.execute(_BODIES, {"ids": inline})}
    return [_claimed(job, queue, bodies.get(job.id)) for job in found]


def _claimed(job: Job, queue: Queue, body: bytes | None) -> Claimed:
    place = queue.place
    return Claimed(
        id=job.id,
        lease=job.lease + 1,
        account=place.account,
        region=place.region,
        endpoint=place.endpoint,
        inference_id=job.inference_id,
        timeout=job.timeout,
        attempt=job.attempts + (job.decided is None),
        received=job.received,
        expires=job.expires,
        output_location=job.output_location,
        input_location=job.input_location,
        body=b"" if body is None and job.input_location is None else body,
        content_type=job.content_type,
        accept=job.accept,
        custom_attributes=job.custom_attributes,
        publish=_publication(job),
    )


def _publication(job: Job) -> Staged | None:
    won = decided(job)
    return won.staged if won is not None else None


def _orphaned_publications(connection: Connection, account: str, taker: Taker, count: int, now: float) -> list[Claimed]:
    """Answers that were won for an endpoint that is gone, and never published: any dispatcher may do that."""
    gone = [queue for queue in unserved_queues(connection) if queue.place.account == account and queue.queued]
    claimed: list[Claimed] = []
    for queue in gone:
        statement = select(*COLUMNS).where(_c.queue == queue.id, _c.state == QUEUED, _c.decided.is_not(None))
        rows = connection.execute(statement.order_by(_c.id).limit(count - len(claimed)))
        claimed += _take(connection, queue, [Job(*row) for row in rows], taker, now)
    return claimed


def started(connection: Connection, values: Sequence[tuple[int, int, float, str, str]]) -> None:
    """A container has them: id, lease, when, variant, instance. For the status alone; a stale lease changes nothing."""
    if values:
        connection.execute(
            _STARTED,
            [
                {"of": id, "under": lease, "new_started": at, "new_variant": variant, "new_instance": instance}
                for id, lease, at, variant, instance in values
            ],
        )


def heartbeat(connection: Connection, taker: Taker, held: Sequence[tuple[int, int]]) -> list[int]:
    """Renew the leases that the holder still has; the ids of those that it has lost."""
    kept: list[int] = []
    wanted = dict(held)
    ids = list(wanted)
    for start in range(0, len(ids), 10_000):
        part = ids[start : start + 10_000]
        rows = connection.execute(
            select(_c.id, _c.lease).where(_c.id.in_(part), _c.state == RUNNING, _c.holder == taker.holder)
        )
        good = [id for id, lease in rows if wanted[id] == lease]
        if good:
            connection.execute(_RENEW, {"ids": good, "new_until": taker.until})
        kept += good
    mine = set(kept)
    return [id for id in ids if id not in mine]


def unheard(connection: Connection, holder: str, held: Collection[int]) -> Result:
    """Put back what the holder has a lease of and knows nothing of: the answer to its claim was lost. That was no attempt.

    `held`: the ids of all that it has, said when it can have no claim on its way.
    """
    result = Result()
    for queue in busy_queues(connection):
        if not queue.running:
            continue
        where = (_c.queue == queue.id) & (_c.state == RUNNING) & (_c.holder == holder)
        rows = [Job(*row) for row in connection.execute(select(*COLUMNS).where(where).order_by(_c.id))]
        lost = [job for job in rows if job.id not in held]
        again = [(job, 0.0, max(0, job.attempts - (job.decided is None)), job.cause or "") for job in lost]
        requeue(connection, again, {queue.id: queue}, result)
    return result


def running(connection: Connection, queue: int, *more: ColumnElement[bool]) -> list[Job]:
    rows = connection.execute(
        select(*COLUMNS).where(_c.queue == queue, _c.state == RUNNING, *more).order_by(_c.id).limit(CHUNK)
    )
    return [Job(*row) for row in rows]


def reap(
    connection: Connection,
    rules: Rules,
    now: float,
    roll: float = 0.0,
    *,
    gone: Collection[str] = (),
    overdue: bool = True,
    told_since: float | None = None,
) -> Result:
    """Take back up to CHUNK requests per queue whose lease has run out (`overdue`) or whose holder is one of `gone`.

    `told_since`: from then on the holder has told of each request that a container had; of the others none had, and that was
    no attempt. None: nobody knows, and each claim counts as one.
    """
    result = Result()
    conditions = [_c.lease_until < now] if overdue else []
    if gone:
        conditions.append(_c.holder.in_(sorted(gone)))
    if not conditions:
        return result
    condition = conditions[0] if len(conditions) == 1 else conditions[0] | conditions[1]
    for queue in busy_queues(connection):
        again: list[tuple[Job, float, int, str]] = []
        ends: list[End] = []
        for job in running(connection, queue.id, condition) if queue.running else ():
            if job.decided is not None:
                again.append((job, 0.0, job.attempts, ""))
                continue
            step = _after_gone(job, rules, now, roll, told_since)
            if isinstance(step, End):
                ends.append(step)
            else:
                again.append((job, *step))
        requeue(connection, again, {queue.id: queue}, result)
        result.merge(finish(connection, ends, {queue.id: queue}, rules, now))
    return result


def _after_gone(job: Job, rules: Rules, now: float, roll: float, told_since: float | None) -> End | tuple[float, int, str]:
    """What no container had goes back as if it had not been claimed, but not for ever."""
    waited = job.started is None and told_since is not None and job.claimed is not None and job.claimed >= told_since
    if waited and job.lease <= PATIENCE * rules.attempts:
        return (now + backoff_seconds(1, roll), max(0, job.attempts - 1), job.cause or "")
    return after_loss(job, rules, now, roll, _GONE)


def holders(connection: Connection) -> set[str]:
    """Whoever holds a lease."""
    found: set[str] = set()
    for queue in busy_queues(connection):
        if queue.running:
            rows = connection.execute(select(_c.holder).where(_c.queue == queue.id, _c.state == RUNNING).distinct())
            found |= {row[0] for row in rows if row[0] is not None}
    return found


def expire(connection: Connection, rules: Rules, now: float) -> Result:
    """Settle up to CHUNK requests that have waited too long, also where nobody claims."""
    result = Result()
    room = CHUNK
    for queue in busy_queues(connection):
        if not queue.queued or room <= 0:
            continue
        statement = (
            select(*COLUMNS)
            .where(_c.queue == queue.id, _c.state == QUEUED_LITERAL, _c.expires <= now, _c.decided.is_(None))
            .order_by(_c.expires)
            .limit(room)
        )
        late = [Job(*row) for row in connection.execute(statement)]
        room -= len(late)
        result.merge(_expire(connection, late, {queue.id: queue}, rules, now))
    return result


def _expire(connection: Connection, late: Sequence[Job], of: dict[int, Queue], rules: Rules, now: float) -> Result:
    ends = [End(job, EXPIRED, cause=async_notices.expired_cause(job.received, job.expires, now)) for job in late]
    return finish(connection, ends, of, rules, now)


def due(connection: Connection, now: float) -> tuple[dict[str, float], float | None]:
    """Queues with delayed requests that are ready now (by endpoint key), and when the next ones are."""
    ready: dict[str, float] = {}
    later: float | None = None
    for queue in busy_queues(connection):
        where = (_c.queue == queue.id) & (_c.state == QUEUED) & (_c.ready_at > 0.0)
        first = connection.execute(select(_c.ready_at).where(where).order_by(_c.ready_at).limit(1)).scalar()
        if first is not None and first <= now:
            ready[queue.place.key] = 0.0
            connection.execute(_DUE, {"of_queue": queue.id, "now": now})
        elif first is not None:
            later = first if later is None else min(later, first)
    return ready, later


# Ends from outside


def orphans(connection: Connection, rules: Rules, now: float) -> Result:
    """Settle up to CHUNK requests whose endpoint is gone or has failed; each says so."""
    result = Result()
    room = CHUNK
    for queue in unserved_queues(connection):
        if room <= 0:
            break
        why = fate(connection, queue.place)
        if why is None:
            continue
        found = _unsettled(connection, queue.id, room)
        room -= len(found)
        ends = [End(job, FAILED, "endpoint", async_notices.orphan_cause(running=_begun(job), why=why)) for job in found]
        result.merge(finish(connection, ends, {queue.id: queue}, rules, now))
    return result


def _begun(job: Job) -> bool:
    """It runs, or did until its worker went with the endpoint."""
    return job.state == RUNNING or job.attempts > 0


def _unsettled(connection: Connection, queue: int, count: int, state: str | None = None) -> list[Job]:
    """Queued ones first, in their order; those whose answer is only to be published are left to be published."""
    found: list[Job] = []
    for each in (QUEUED, RUNNING) if state is None else (state,):
        where = (_c.queue == queue) & (_c.state == each) & _c.decided.is_(None)
        rows = connection.execute(select(*COLUMNS).where(where).order_by(_c.ready_at, _c.id).limit(count - len(found)))
        found += [Job(*row) for row in rows]
        if len(found) >= count:
            break
    return found


def cancel(connection: Connection, ids: Sequence[int], rules: Rules, now: float) -> Result:
    """Cancel requests that are queued or running; the others, and those whose answer is decided, are left as they are."""
    found = [
        Job(*row)
        for row in connection.execute(
            select(*COLUMNS).where(_c.id.in_(list(ids)), _c.state.in_((QUEUED, RUNNING)), _c.decided.is_(None)).order_by(_c.id)
        )
    ]
    return _cancel(connection, found, rules, now)


def purge(connection: Connection, queue: int, rules: Rules, now: float) -> Result:
    """Cancel up to CHUNK requests that no container has; none in the result: the queue is empty."""
    found = _unsettled(connection, queue, CHUNK, QUEUED)
    if not found:
        claimed = (_c.queue == queue) & (_c.state == RUNNING) & _c.started.is_(None) & _c.decided.is_(None)
        found = [Job(*row) for row in connection.execute(select(*COLUMNS).where(claimed).order_by(_c.id).limit(CHUNK))]
    return _cancel(connection, found, rules, now)


def _cancel(connection: Connection, found: Sequence[Job], rules: Rules, now: float) -> Result:
    of = jobs.queues_by_id(connection, sorted({job.queue for job in found}))
    ends = [End(job, CANCELLED, "cancelled", async_notices.CANCELLED_TEXT) for job in found]
    return finish(connection, ends, of, rules, now)


def forget(connection: Connection, before: float) -> int:
    """Drop up to CHUNK records of requests that ended before then, and queues of endpoints that are gone; how many."""
    # A request's id is the moment of its arrival, and none lives long: those that ended long ago are the lowest ids.
    statement = (
        select(_c.id)
        .where(_c.id < int(before * 1_000_000), _c.finished.is_not(None), _c.finished < before, _c.failure.is_(None))
        .order_by(_c.id)
        .limit(CHUNK)
    )
    ids = list(connection.execute(statement).scalars())
    if ids:
        connection.execute(requests.delete().where(_c.id.in_(ids)))
        return len(ids)
    return drop_queues(connection)


def owed(connection: Connection, count: int = CHUNK) -> list[tuple[int, str, str, str]]:
    """Failure objects that an external store has yet to be given: id, account, location, content."""
    statement = (
        select(_c.id, queues.c.account, _c.failure_location, _c.failure)
        .join(queues, queues.c.id == _c.queue)
        .where(_c.failure.is_not(None))
        .order_by(_c.id)
        .limit(count)
    )
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(statement)]


def paid(connection: Connection, ids: Sequence[int]) -> None:
    """Their failure objects are in the external store (or never can be)."""
    if ids:
        connection.execute(update(requests).where(_c.id.in_(list(ids))).values(failure=None))
