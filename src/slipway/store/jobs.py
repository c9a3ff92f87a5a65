"""Asynchronous requests: their tables, and how they are accepted.

Ids are microseconds of the epoch, or one more than the highest: they order requests by arrival. An endpoint's incarnation
(ARN and time of creation) has a row that counts its queued and running requests, so that the length of a queue, its bound and
its backlog cost the same at a million requests as at ten. Claims: `store.jobs_claims`, ends: `store.jobs_settle`, reading:
`store.jobs_queries`. Only control writes here, in one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    literal_column,
    select,
    text,
    update,
)

from slipway.core.asynchronous import CANCELLED, EXPIRED, FAILED, QUEUED, RUNNING, SUCCEEDED, AsyncOptions, State
from slipway.store.schema import Json, Moment, Number, Serial, Word, metadata

queues = Table(
    "async_queues",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("endpoint", Word, nullable=False),
    Column("arn", Word, nullable=False),
    Column("created", Moment, nullable=False),  # of the endpoint: with its ARN, one incarnation
    Column("queued", Number, nullable=False),
    Column("running", Number, nullable=False),
    Column("succeeded", Number, nullable=False),
    Column("failed", Number, nullable=False),
    Column("expired", Number, nullable=False),
    Column("cancelled", Number, nullable=False),
    Column("options", Json, nullable=False),
    UniqueConstraint("arn", "created"),
)

requests = Table(
    "async_requests",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("queue", Number, nullable=False),
    Column("state", Word, nullable=False),
    Column("ready_at", Moment, nullable=False),  # 0: at once, and always when it is not queued
    Column("lease", Number, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("received", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("timeout", Integer, nullable=False),
    Column("inference_id", Word, nullable=False),
    Column("input_location", Text),
    Column("content_type", Text),
    Column("accept", Text),
    Column("custom_attributes", Text),
    Column("output_location", Text, nullable=False),
    Column("failure_location", Text),
    Column("token", Word),
    Column("fingerprint", Word),
    Column("replay_of", Number),
    Column("holder", Word),
    Column("lease_until", Moment),
    Column("claimed", Moment),
    Column("started", Moment),
    Column("finished", Moment),
    Column("variant", Word),
    Column("instance", Word),
    Column("dead", Integer, nullable=False),
    Column("cause_kind", Word),
    Column("cause", Text),
    Column("status", Integer),
    Column("notice", Json),
    Column("decided", Json),  # the Outcome that won, where an external store has yet to be told (`Claimed.publish`)
    Column("failure", Text),  # a failure object that an external store has yet to be given
    Column("body", LargeBinary),  # last: what reads the columns before it does not touch SQLite's overflow pages
    Index("ix_async_requests_queue", "queue", "state", "ready_at", "id"),
    Index("ix_async_requests_inference", "inference_id"),
    Index(
        "ix_async_requests_expires",
        "queue",
        "expires",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "uq_async_requests_token",
        "queue",
        "token",
        unique=True,
        sqlite_where=text("token IS NOT NULL"),
        postgresql_where=text("token IS NOT NULL"),
    ),
    Index("ix_async_requests_dead", "queue", "id", sqlite_where=text("dead = 1"), postgresql_where=text("dead = 1")),
    Index(
        "ix_async_requests_failure",
        "id",
        sqlite_where=text("failure IS NOT NULL"),
        postgresql_where=text("failure IS NOT NULL"),
    ),
)


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint's incarnation: a later endpoint of that name is another one."""

    account: str
    region: str
    endpoint: str
    """In its creator's case."""
    arn: str
    created: float
    """Epoch seconds; with the ARN it names the incarnation."""

    @property
    def key(self) -> str:
        """`core.routing.endpoint_key`."""
        return f"{self.account}/{self.region}/{self.endpoint}"


@dataclass(frozen=True, slots=True)
class Queue:
    """One incarnation's requests, counted."""

    id: int
    place: Place
    queued: int
    """Waiting, those that wait for another attempt too."""
    running: int
    options: AsyncOptions
    """As last known: what remains of an endpoint that is gone."""
    succeeded: int = 0
    """Ever, like the next three."""
    failed: int = 0
    expired: int = 0
    cancelled: int = 0

    @property
    def backlog(self) -> int:
        """Waiting or in process (hosting.md 7.4)."""
        return self.queued + self.running


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request to be accepted; its id is given on the way in. Times are epoch seconds."""

    received: float
    expires: float
    timeout: int
    inference_id: str
    output_location: str
    failure_location: str | None = None
    input_location: str | None = None
    body: bytes | None = None
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    token: str | None = None
    """Idempotency token, unique in the incarnation for as long as the record is kept."""
    fingerprint: str | None = None
    """Of the input, where there is a token: the same token with another fingerprint is refused."""
    replay_of: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    id: int
    inference_id: str
    output_location: str
    failure_location: str | None
    fresh: bool = True
    """False: an earlier request with the same token, whose answer is given again."""


Refusal = Literal["full", "token"]
"""The queue is full; the token was used with another input."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request as it stands, without its body. Times are epoch seconds."""

    id: int
    queue: int
    state: State
    ready_at: float
    lease: int
    attempts: int
    """How often it was claimed, those claims taken back that never reached a container."""
    received: float
    expires: float
    timeout: int
    inference_id: str
    input_location: str | None
    content_type: str | None
    accept: str | None
    custom_attributes: str | None
    output_location: str
    failure_location: str | None
    token: str | None
    replay_of: int | None
    holder: str | None
    lease_until: float | None
    claimed: float | None
    started: float | None
    """When a container got it, as far as is known."""
    finished: float | None
    variant: str | None
    instance: str | None
    dead: int
    """1: a dead letter."""
    cause_kind: str | None
    cause: str | None
    status: int | None
    """The container's."""
    notice: dict[str, Any] | None
    """`topic` and `message` (its id), or `topic` and `error`; None: nobody was to be told."""
    decided: dict[str, Any] | None


COLUMNS = tuple(requests.c[field.name] for field in fields(Job))
QUEUED_LITERAL: ColumnElement[str] = literal_column(f"'{QUEUED}'")
"""In the statement's text: SQLite uses a partial index only where it sees its condition."""

COUNTED: tuple[State, ...] = (QUEUED, RUNNING, SUCCEEDED, FAILED, EXPIRED, CANCELLED)
"""Each is a column of a queue's row: how many are in the state now, or have come to it."""

QUEUE_COLUMNS = tuple(queues.c[name] for name in ("id", "account", "region", "endpoint", "arn", "created", "options", *COUNTED))
_BLANK: dict[str, Any] = {"state": QUEUED, "ready_at": 0.0, "lease": 0, "attempts": 0, "dead": 0}
_INSERTED = [*(field.name for field in fields(NewRequest)), "id", "queue", *_BLANK]
_INSERT = requests.insert().values({name: bindparam(name) for name in _INSERTED})
_COUNT = (
    update(queues)
    .where(queues.c.id == bindparam("of"))
    .values({state: queues.c[state] + bindparam(f"more_{state}") for state in COUNTED})
)
_GET_QUEUE = select(*QUEUE_COLUMNS).where(queues.c.arn == bindparam("arn"), queues.c.created == bindparam("created"))
_HIGHEST = select(func.max(requests.c.id))


def accept(
    connection: Connection, place: Place, options: AsyncOptions, rows: Sequence[NewRequest], *, bound: int, now: float
) -> list[Accepted | Refusal]:
    """Queue `rows` in their order, as far as fewer than `bound` wait or run; an answer for each.

    The endpoint was found invocable in the same transaction.
    """
    queue = open_queue(connection, place, options)
    room = bound - queue.backlog
    known = _by_token(connection, queue.id, [row.token for row in rows if row.token is not None])
    ident = first_id(connection, now)
    answers: list[Accepted | Refusal] = []
    values: list[dict[str, Any]] = []
    for row in rows:
        if row.token is not None and (before := known.get(row.token)) is not None:
            answers.append(before[0] if before[1] == row.fingerprint else "token")
            continue
        if len(values) >= room:
            answers.append("full")
            continue
        answer = Accepted(ident, row.inference_id, row.output_location, row.failure_location)
        values.append(_values(row, ident, queue.id))
        answers.append(answer)
        if row.token is not None:
            again = Accepted(ident, row.inference_id, row.output_location, row.failure_location, fresh=False)
            known[row.token] = (again, row.fingerprint)
        ident += 1
    if values:
        connection.execute(_INSERT, values)
        count(connection, {queue.id: {QUEUED: len(values)}})
    return answers


def _values(row: NewRequest, ident: int, queue: int) -> dict[str, Any]:
    return {
        "id": ident,
        "queue": queue,
        "received": row.received,
        "expires": row.expires,
        "timeout": row.timeout,
        "inference_id": row.inference_id,
        "output_location": row.output_location,
        "failure_location": row.failure_location,
        "input_location": row.input_location,
        "body": row.body,
        "content_type": row.content_type,
        "accept": row.accept,
        "custom_attributes": row.custom_attributes,
        "token": row.token,
        "fingerprint": row.fingerprint,
        "replay_of": row.replay_of,
        **_BLANK,
    }


def first_id(connection: Connection, now: float) -> int:
    """The next request's id; those after it count up from there."""
    highest = connection.execute(_HIGHEST).scalar()
    return max(int(now * 1_000_000), (highest or 0) + 1)


def _by_token(connection: Connection, queue: int, tokens: Sequence[str]) -> dict[str, tuple[Accepted, str | None]]:
    """Earlier requests with one of these tokens, and their fingerprints."""
    if not tokens:
        return {}
    c = requests.c
    # "token IS NOT NULL" in so many words: SQLite uses the partial index only then
    where = (c.queue == queue) & c.token.is_not(None) & c.token.in_(sorted(set(tokens)))
    found = connection.execute(
        select(c.token, c.fingerprint, c.id, c.inference_id, c.output_location, c.failure_location).where(where)
    )
    return {row[0]: (Accepted(row[2], row[3], row[4], row[5], fresh=False), row[1]) for row in found}


# Queues


def open_queue(connection: Connection, place: Place, options: AsyncOptions) -> Queue:
    """The incarnation's queue, made with its first request; `options` are remembered for when the endpoint is gone."""
    found = queue_of(connection, place.arn, place.created)
    if found is None:
        connection.execute(
            queues.insert().values(
                account=place.account,
                region=place.region,
                endpoint=place.endpoint,
                arn=place.arn,
                created=place.created,
                options=options,
                **dict.fromkeys(COUNTED, 0),
            )
        )
        found = queue_of(connection, place.arn, place.created)
        if found is None:
            raise LookupError(f"the queue of {place.arn} was not kept")
    elif found.options != options:
        connection.execute(update(queues).where(queues.c.id == found.id).values(options=options))
    return found


def queue_of(connection: Connection, arn: str, created: float) -> Queue | None:
    row = connection.execute(_GET_QUEUE, {"arn": arn, "created": created}).first()
    return None if row is None else to_queue(row)


def queues_by_id(connection: Connection, ids: Sequence[int]) -> dict[int, Queue]:
    if not ids:
        return {}
    rows = connection.execute(select(*QUEUE_COLUMNS).where(queues.c.id.in_(ids)))
    return {row[0]: to_queue(row) for row in rows}


def every_queue(connection: Connection) -> list[Queue]:
    """Of all accounts, the oldest first; those of endpoints that are gone too, while their records are kept."""
    return [to_queue(row) for row in connection.execute(select(*QUEUE_COLUMNS).order_by(queues.c.id))]


def to_queue(row: Any) -> Queue:
    ident, account, region, endpoint, arn, created, options, queued, running, *ended = row
    place = Place(account, region, endpoint, arn, created)
    return Queue(ident, place, queued, running, msgspec.convert(options, AsyncOptions), *ended)


def count(connection: Connection, changes: Mapping[int, Mapping[State, int]]) -> None:
    """Add to the counters: by queue and state, how many more there are."""
    values = [
        {"of": queue, **{f"more_{state}": more.get(state, 0) for state in COUNTED}} for queue, more in changes.items() if more
    ]
    if values:
        connection.execute(_COUNT, values)


def get(connection: Connection, ident: int) -> Job | None:
    row = connection.execute(select(*COLUMNS).where(requests.c.id == ident)).first()
    return None if row is None else Job(*row)


def body(connection: Connection, ident: int) -> bytes | None:
    """The inline body, while the request may still need it."""
    found = connection.execute(select(requests.c.body).where(requests.c.id == ident)).scalar()
    return None if found is None else bytes(found)
