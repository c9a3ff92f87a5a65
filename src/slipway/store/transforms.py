"""The objects of transform jobs: listed, claimed under lease, brought forward by durable points, ended once.

The job itself is a resource (`store.resources`, kind `transform-job`). All functions run inside `Db.read` or `Db.write`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Boolean, Column, Connection, Index, Integer, Table, Text, bindparam, delete, func, select, update

from slipway.core.asynchronous import Staged
from slipway.core.transform_captures import Carried
from slipway.core.transforms import BROKEN, CUT, DONE, QUEUED, RUNNING, ClaimedObject, Counts, ObjectOutcome, Point
from slipway.store.schema import Json, Moment, Number, Serial, Word, metadata

objects = Table(
    "transform_objects",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("job", Word, nullable=False),
    Column("account", Word, nullable=False),
    Column("bucket", Word, nullable=False),
    Column("key", Text, nullable=False),
    Column("size", Number, nullable=False),
    Column("output", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("lease", Number, nullable=False),
    Column("holder", Word),
    Column("lease_until", Moment),
    Column("attempts", Integer, nullable=False),
    Column("point", Json),
    Column("staged", Json),
    Column("records", Number, nullable=False),
    Column("bad", Number, nullable=False),
    Column("requests", Number, nullable=False),
    Column("bytes_out", Number, nullable=False),
    Column("cause", Text, nullable=False),
    Column("client", Boolean, nullable=False),
    Column("instance", Word, nullable=False),
    Column("started", Moment),
    Column("finished", Moment),
    Index("ix_transform_objects_job", "job", "state", "id"),
    Index("ix_transform_objects_lease", "holder", "lease_until"),
)


@dataclass(frozen=True, slots=True)
class Listed:
    """An input object as the listing found it."""

    bucket: str
    key: str
    size: int
    output: str


@dataclass(frozen=True, slots=True)
class Row:
    """For reports."""

    id: int
    bucket: str
    key: str
    size: int
    output: str
    state: str
    attempts: int
    records: int
    bad: int
    requests: int
    bytes_out: int
    cause: str
    client: bool
    instance: str
    started: float | None
    finished: float | None


_ROW = [objects.c[name] for name in Row.__dataclass_fields__]


def add(connection: Connection, job: str, account: str, found: Sequence[Listed]) -> None:
    """One chunk of a listing."""
    if not found:
        return
    fresh: dict[str, Any] = {
        "job": job,
        "account": account,
        "state": QUEUED,
        "lease": 0,
        "attempts": 0,
        "records": 0,
        "bad": 0,
        "requests": 0,
        "bytes_out": 0,
        "cause": "",
        "client": True,
        "instance": "",
    }
    connection.execute(
        objects.insert(),
        [{**fresh, "bucket": each.bucket, "key": each.key, "size": each.size, "output": each.output} for each in found],
    )


def counts(connection: Connection, job: str) -> Counts:
    c = objects.c
    query = select(c.state, func.count(), func.sum(c.records), func.sum(c.bad)).where(c.job == job).group_by(c.state)
    found = {row[0]: row for row in connection.execute(query)}
    number = {state: int(found[state][1]) if state in found else 0 for state in (QUEUED, RUNNING, DONE, BROKEN, CUT)}
    records, bad = (sum(int(row[at] or 0) for row in found.values()) for at in (2, 3))
    return Counts(number[QUEUED], number[RUNNING], number[DONE], number[BROKEN], number[CUT], records, bad)


def unfinished(connection: Connection, job: str) -> bool:
    where = (objects.c.job == job) & objects.c.state.in_((QUEUED, RUNNING))
    return connection.execute(select(objects.c.id).where(where).limit(1)).first() is not None


def carried(connection: Connection, job: str, after: int, limit: int) -> list[tuple[int, Carried]]:
    """Objects that were done, in the order of the listing, with their ids."""
    c = objects.c
    where = (c.job == job) & (c.state == DONE) & (c.id > after)
    query = select(c.id, c.bucket, c.key, c.output).where(where).order_by(c.id).limit(limit)
    return [(row.id, Carried(row.bucket, row.key, row.output)) for row in connection.execute(query)]


def first_failed(connection: Connection, job: str) -> Row | None:
    where = (objects.c.job == job) & (objects.c.state == BROKEN)
    row = connection.execute(select(*_ROW).where(where).order_by(objects.c.id).limit(1)).one_or_none()
    return None if row is None else Row(*row)


def report(connection: Connection, job: str, after: int, limit: int, states: Sequence[str] = ()) -> list[Row]:
    """Objects in the order of the listing."""
    where = (objects.c.job == job) & (objects.c.id > after)
    if states:
        where &= objects.c.state.in_(states)
    return [Row(*row) for row in connection.execute(select(*_ROW).where(where).order_by(objects.c.id).limit(limit))]


_CLAIM_COLUMNS = [
    objects.c[name] for name in ("id", "lease", "account", "bucket", "key", "size", "output", "attempts", "point", "staged")
]
_TAKE = (
    update(objects)
    .where(objects.c.id == bindparam("of"))
    .values(state=RUNNING, lease=bindparam("new_lease"), holder=bindparam("by"), lease_until=bindparam("until"))
)


def claim(connection: Connection, job: str, holder: str, until: float, count: int) -> list[ClaimedObject]:
    """The next objects in order, now running under a new lease."""
    where = (objects.c.job == job) & (objects.c.state == QUEUED)
    rows = connection.execute(select(*_CLAIM_COLUMNS).where(where).order_by(objects.c.id).limit(count)).all()
    if rows:
        connection.execute(_TAKE, [{"of": row.id, "new_lease": row.lease + 1, "by": holder, "until": until} for row in rows])
    return [
        ClaimedObject(
            row.id,
            row.lease + 1,
            row.account,
            row.bucket,
            row.key,
            row.size,
            row.output,
            row.attempts + 1,
            None if row.point is None else msgspec.convert(row.point, Point),
            () if row.staged is None else msgspec.convert(row.staged, tuple[Staged, ...]),
        )
        for row in rows
    ]


def heartbeat(connection: Connection, holder: str, until: float, held: Sequence[tuple[int, int]]) -> list[int]:
    """Renew these leases; the ids of those that are lost."""
    valid = {(row.id, row.lease) for row in _held(connection, [id for id, _ in held]) if row.holder == holder}
    good = [{"of": id, "until": until} for id, lease in held if (id, lease) in valid]
    if good:
        renew = update(objects).where(objects.c.id == bindparam("of")).values(lease_until=bindparam("until"))
        connection.execute(renew, good)
    return [id for id, lease in held if (id, lease) not in valid]


def _held(connection: Connection, ids: Sequence[int]) -> Sequence[Any]:
    c = objects.c
    where = c.id.in_(list(ids)) & (c.state == RUNNING)
    query = select(c.id, c.lease, c.holder, c.job, c.account, c.bucket, c.key, c.attempts, c.size).where(where)
    return connection.execute(query).all()


def running(connection: Connection, outcomes: Sequence[ObjectOutcome]) -> dict[int, Any]:
    """The rows of outcomes whose lease is the newest, by id: their word counts."""
    leases = {each.id: each.lease for each in outcomes}
    return {row.id: row for row in _held(connection, list(leases)) if row.lease == leases[row.id]}


_FREE = {"holder": None, "lease_until": None}
_END = (
    update(objects)
    .where(objects.c.id == bindparam("of"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "state",
                "records",
                "bad",
                "requests",
                "bytes_out",
                "cause",
                "client",
                "instance",
                "started",
                "finished",
            )
        }
        | {"point": None, "staged": None}
        | _FREE
    )
)


def end(connection: Connection, ends: Sequence[tuple[ObjectOutcome, str]]) -> None:
    """Their last state: DONE or BROKEN."""
    if ends:
        connection.execute(
            _END,
            [
                {
                    "of": each.id,
                    "new_state": state,
                    "new_records": each.records,
                    "new_bad": each.bad,
                    "new_requests": each.requests,
                    "new_bytes_out": each.bytes_out,
                    "new_cause": each.cause[:4096],
                    "new_client": each.client,
                    "new_instance": each.instance,
                    "new_started": each.started,
                    "new_finished": each.finished,
                }
                for each, state in ends
            ],
        )


def won(connection: Connection, outcome: ObjectOutcome) -> None:
    """Its output lies in an external store and has to be published: whoever claims it again does that."""
    values = {
        "staged": msgspec.to_builtins(outcome.staged),
        "records": outcome.records,
        "bad": outcome.bad,
        "requests": outcome.requests,
        "bytes_out": outcome.bytes_out,
        "instance": outcome.instance,
        "started": outcome.started,
    }
    connection.execute(update(objects).where(objects.c.id == outcome.id).values(values))


def published(connection: Connection, id: int, now: float) -> None:
    """What was won is seen under its key."""
    values = {"state": DONE, "finished": now, "staged": None, "point": None, **_FREE}
    connection.execute(update(objects).where(objects.c.id == id).values(values))


def give_up(connection: Connection, ids: Sequence[int], now: float) -> None:
    """Too many dispatchers have died under these."""
    if ids:
        cause = "It was given up: the dispatcher died under it again and again."
        values = {"state": BROKEN, "finished": now, "cause": cause, "client": False, "staged": None, **_FREE}
        connection.execute(update(objects).where(objects.c.id.in_(list(ids))).values(values))


def queued_up_to(connection: Connection, job: str, most: int) -> int:
    """How many objects may be claimed, counted no further than `most`."""
    where = (objects.c.job == job) & (objects.c.state == QUEUED)
    some = select(objects.c.id).where(where).limit(most).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def put_back(connection: Connection, ids: Sequence[int], *, counted: bool) -> None:
    """Queued again, from their last durable point. `counted`: it has cost an attempt."""
    if ids:
        values: dict[str, Any] = {"state": QUEUED, **_FREE}
        if counted:
            values["attempts"] = objects.c.attempts + 1
        connection.execute(update(objects).where(objects.c.id.in_(list(ids))).values(values))


def reach(connection: Connection, id: int, lease: int, point: Point) -> bool:
    """A durable point; False: the lease is an older one."""
    c = objects.c
    where = (c.id == id) & (c.lease == lease) & (c.state == RUNNING)
    values = {"point": msgspec.to_builtins(point), "records": point.records, "bad": point.bad}
    return connection.execute(update(objects).where(where).values(values)).rowcount == 1


def reap(connection: Connection, now: float, gone: Iterable[str] | None = None) -> list[tuple[int, str, int]]:
    """Running objects whose lease ran out, or whose holder is one of `gone`: id, job, attempts."""
    c = objects.c
    late = c.lease_until < now if gone is None else c.holder.in_(list(gone))
    query = select(c.id, c.job, c.attempts).where(c.state == RUNNING, late).limit(1000)
    return [(row.id, row.job, row.attempts) for row in connection.execute(query)]


def cut(connection: Connection, job: str, now: float) -> list[int]:
    """The job ends before these are done: ids of those that were running."""
    c = objects.c
    where = (c.job == job) & (c.state == RUNNING)
    ids = [row.id for row in connection.execute(select(c.id).where(where))]
    still = (c.job == job) & c.state.in_((QUEUED, RUNNING))
    connection.execute(
        update(objects).where(still).values({"state": CUT, "finished": now, "point": None, "staged": None, **_FREE})
    )
    return ids


def purge(connection: Connection, jobs: Sequence[str], limit: int = 1000) -> int:
    """Forget objects of jobs that ended long ago; how many."""
    c = objects.c
    ids = [row.id for row in connection.execute(select(c.id).where(c.job.in_(list(jobs))).limit(limit))]
    if ids:
        connection.execute(delete(objects).where(c.id.in_(ids)))
    return len(ids)


def blobs_of(point: Any) -> Iterator[str]:
    for name in ("pieces", "errors"):
        for piece in (point or {}).get(name, ()):
            yield piece["blob"]


def point_blobs(connection: Connection, ids: Sequence[int]) -> list[str]:
    """Blobs that the durable points of these objects name."""
    query = select(objects.c.point).where(objects.c.id.in_(list(ids)), objects.c.point.is_not(None))
    return [blob for (point,) in connection.execute(query) for blob in blobs_of(point)]


def job_blobs(connection: Connection, job: str) -> list[str]:
    query = select(objects.c.point).where(objects.c.job == job, objects.c.point.is_not(None))
    return [blob for (point,) in connection.execute(query) for blob in blobs_of(point)]


def referenced(connection: Connection) -> Iterator[str]:
    """Every blob that a durable point names: no sweep may take it."""
    for (point,) in connection.execute(select(objects.c.point).where(objects.c.point.is_not(None))):
        yield from blobs_of(point)
