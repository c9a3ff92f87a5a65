"""What topics still have to deliver over HTTP, and what became of each delivery.

`sns_outbox` holds what is to be sent, and survives any crash: a row goes only with the outcome that replaces it, so that a
message is delivered at least once. `sns_outcomes` is kept for a while, so that a status can show what failed and why.
Deliveries to queues have no row here: the message's own row in the queue is the delivery (a failure has an outcome).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Connection, Index, Integer, Table, Text, delete, func, select, tuple_, update

from slipway.store.announcements import announce
from slipway.store.schema import Json, Moment, Serial, Word, insert, metadata

ANNOUNCED = "sns deliveries"
"""What `Db.watch` is told when there is something to deliver."""
KEPT_SECONDS = 7 * 86_400.0
"""How long an outcome is kept."""
PURGED = 1000
"""Outcomes that one transaction forgets, so that others get their turn."""

State = Literal["pending", "delivered", "failed", "dead-letter"]

outbox = Table(
    "sns_outbox",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("subscription", Word, nullable=False),
    Column("message", Word, nullable=False, index=True),
    Column("kind", Word, nullable=False),
    Column("body", Json, nullable=False),
    Column("created", Moment, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Index("ix_sns_outbox_due", "subscription", "next_at", "id"),
)

outcomes = Table(
    "sns_outcomes",
    metadata,
    Column("message", Word, primary_key=True),
    Column("subscription", Word, primary_key=True),
    Column("state", Word, nullable=False),
    Column("cause", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", Moment, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message for one subscription; times are epoch seconds."""

    id: int
    subscription: str
    message: str
    """MessageId."""
    kind: str
    """The envelope's Type."""
    body: Mapping[str, Any]
    created: float
    next_at: float
    attempts: int
    """How many have failed."""
    cause: str
    """Why the last one did."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery stands."""

    message: str
    subscription: str
    state: State
    cause: str = ""
    attempts: int = 0
    at: float = 0.0
    """When it was settled; of a pending one: when it is tried next."""


def put(connection: Connection, subscription: str, message: str, kind: str, body: Mapping[str, Any], now: float) -> None:
    """To be sent as soon as this is committed."""
    values = {"subscription": subscription, "message": message, "kind": kind, "body": dict(body)}
    connection.execute(outbox.insert().values(**values, created=now, next_at=now, attempts=0, cause=""))
    announce(connection, ANNOUNCED)


def waiting(connection: Connection) -> dict[str, float]:
    """By subscription, when the first of its rows is due."""
    query = select(outbox.c.subscription, func.min(outbox.c.next_at)).group_by(outbox.c.subscription)
    return {row[0]: row[1] for row in connection.execute(query)}


def due(connection: Connection, subscription: str, now: float, limit: int) -> list[OutboxRow]:
    """Those that may be sent, the longest due first."""
    query = select(outbox).where(outbox.c.subscription == subscription, outbox.c.next_at <= now)
    return [OutboxRow(*row) for row in connection.execute(query.order_by(outbox.c.next_at, outbox.c.id).limit(limit))]


def postpone(connection: Connection, id: int, attempts: int, next_at: float, cause: str) -> None:
    """The try failed; another one follows."""
    values = {"attempts": attempts, "next_at": next_at, "cause": cause}
    connection.execute(update(outbox).where(outbox.c.id == id).values(**values))


def settle(connection: Connection, id: int, outcome: Outcome | None) -> bool:
    """The row is done with, its outcome recorded (None: nothing worth it); False: it was settled before."""
    if connection.execute(delete(outbox).where(outbox.c.id == id)).rowcount == 0:
        return False
    if outcome is not None:
        record(connection, outcome)
    return True


def record(connection: Connection, outcome: Outcome) -> None:
    """An outcome of a delivery that had no row here, or no longer has one."""
    values = {"state": outcome.state, "cause": outcome.cause, "attempts": outcome.attempts, "at": outcome.at}
    statement = insert(connection, outcomes).values(message=outcome.message, subscription=outcome.subscription, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["message", "subscription"], set_=values))


def outcomes_of(connection: Connection, messages: Sequence[str]) -> list[Outcome]:
    """How the deliveries of these messages stand: over HTTP all of them, to queues those that failed."""
    found = [
        Outcome(row.message, row.subscription, "pending", row.cause, row.attempts, row.next_at)
        for row in connection.execute(select(outbox).where(outbox.c.message.in_(messages)).order_by(outbox.c.id))
    ]
    settled = select(outcomes).where(outcomes.c.message.in_(messages)).order_by(outcomes.c.at, outcomes.c.subscription)
    for row in connection.execute(settled):
        found.append(Outcome(row.message, row.subscription, row.state, row.cause, row.attempts, row.at))
    return found


def drop(connection: Connection, subscription: str, kind: str | None = None) -> int:
    """Nothing of this kind (None: nothing at all) is to be sent to the subscription any more; how much that was."""
    where = outbox.c.subscription == subscription
    if kind is not None:
        where &= outbox.c.kind == kind
    return connection.execute(delete(outbox).where(where)).rowcount


def purge(connection: Connection, now: float) -> bool:
    """Forget some of the old outcomes; whether there may be more."""
    old = select(outcomes.c.message, outcomes.c.subscription).where(outcomes.c.at < now - KEPT_SECONDS)
    keys = [tuple(row) for row in connection.execute(old.order_by(outcomes.c.at).limit(PURGED))]
    if keys:
        connection.execute(delete(outcomes).where(tuple_(outcomes.c.message, outcomes.c.subscription).in_(keys)))
    return len(keys) == PURGED
