"""Queues and the sending of messages into them: `send` may be called inside any `Db.write` (receiving: `store.queue_messages`).

A queue's messages belong to one incarnation of it (`id`): deleting or purging a queue with a million messages changes one row,
and what it leaves is swept later in chunks. Only control writes here.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Column, Connection, Index, Integer, Table, Text, UniqueConstraint, delete, func, insert, select, update

from slipway.core.queue_messages import Attribute, Message
from slipway.store.announcements import announce
from slipway.store.resources import tags
from slipway.store.schema import Json, Moment, Number, Serial, Word, metadata

__all__ = ["Attribute", "Message", "QueueRow", "messages", "queues", "send", "send_all", "topic_of"]

queues = Table(
    "sqs_queues",
    metadata,
    Column("arn", Word, primary_key=True),
    Column("id", Number, nullable=False),
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("attributes", Json, nullable=False),
    Column("created", Moment, nullable=False),
    Column("modified", Moment, nullable=False),
    Column("purged", Moment),
    UniqueConstraint("account", "region", "name"),
)

messages = Table(
    "sqs_messages",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("queue", Number, nullable=False),
    Column("uid", Word, nullable=False),
    Column("visible", Moment, nullable=False),  # it can be received from then on
    Column("sent", Moment, nullable=False),
    Column("receives", Integer, nullable=False),
    Column("first_received", Moment),
    Column("receipt", Word),  # the secret of the last receive
    Column("sender", Word, nullable=False),
    Column("trace", Text),
    Column("group", Word),
    Column("source", Word),
    Column("seal", Word),  # the envelope in the body is signed, in this version, when it is received
    Column("attributes", Json),
    Column("body", Text, nullable=False),
    Index("ix_sqs_messages_receivable", "queue", "visible", "id"),
    Index("ix_sqs_messages_age", "queue", "sent"),
)


@dataclass(frozen=True, slots=True)
class QueueRow:
    arn: str
    id: int
    """This incarnation's number: another one after a purge."""
    account: str
    region: str
    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Those that were set, by AWS's names."""
    created: float = 0.0
    """Epoch seconds, like the others."""
    modified: float = 0.0
    purged: float | None = None

    def seconds(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        return float(self.attributes.get(name, default))


def topic_of(arn: str) -> str:
    """What is announced when a queue may have something to receive (`Db.watch`)."""
    return f"queue {arn}"


# Queues


def create(connection: Connection, row: QueueRow) -> QueueRow | None:
    """Create it (`id` is chosen here); the present one instead when the name is taken."""
    if (present := get(connection, row.arn)) is not None:
        return present
    connection.execute(
        insert(queues).values(
            arn=row.arn,
            id=_new_id(),
            account=row.account,
            region=row.region,
            name=row.name,
            attributes=dict(row.attributes),
            created=row.created,
            modified=row.modified,
        )
    )
    return None


def _new_id() -> int:
    return secrets.randbits(62)


def get(connection: Connection, arn: str) -> QueueRow | None:
    row = connection.execute(select(queues).where(queues.c.arn == arn)).first()
    return QueueRow(*row) if row else None


def find(connection: Connection, account: str, region: str, prefix: str, after: str, limit: int) -> list[QueueRow]:
    """By name, those after `after`, at most `limit`."""
    query = select(queues).where(queues.c.account == account, queues.c.region == region, queues.c.name > after)
    if prefix:
        query = query.where(func.substr(queues.c.name, 1, len(prefix)) == prefix)
    return [QueueRow(*row) for row in connection.execute(query.order_by(queues.c.name).limit(limit))]


def every(connection: Connection) -> list[QueueRow]:
    return [QueueRow(*row) for row in connection.execute(select(queues).order_by(queues.c.arn))]


def set_attributes(connection: Connection, arn: str, values: Mapping[str, str], now: float) -> None:
    """Replace all of them."""
    connection.execute(update(queues).where(queues.c.arn == arn).values(attributes=dict(values), modified=now))
    announce(connection, topic_of(arn))


def purge(connection: Connection, arn: str, now: float) -> None:
    """All messages are gone at once."""
    connection.execute(update(queues).where(queues.c.arn == arn).values(id=_new_id(), purged=now))


def remove(connection: Connection, arn: str) -> bool:
    """The queue, its messages and its tags; False: there was none. Those who wait for its messages are woken."""
    gone = connection.execute(delete(queues).where(queues.c.arn == arn)).rowcount
    connection.execute(delete(tags).where(tags.c.arn == arn))
    announce(connection, topic_of(arn))
    return bool(gone)


# Sending


def send(connection: Connection, queue_arn: str, message: Message, now: float) -> str | None:
    """Put a message into the queue; its MessageId, None when there is no such queue. Received after the commit at the earliest.

    The caller has checked the message (size, characters). Those who wait for the queue hear of the commit by themselves.
    """
    row = connection.execute(select(queues).where(queues.c.arn == queue_arn)).first()
    return send_all(connection, QueueRow(*row), [message], now)[0] if row else None


def send_all(connection: Connection, queue: QueueRow, batch: Sequence[Message], now: float) -> list[str]:
    """Put several messages into a queue in their order; their MessageIds."""
    ids = [str(uuid.uuid4()) for _ in batch]
    delay = queue.seconds("DelaySeconds", 0)
    rows = [
        {
            "queue": queue.id,
            "uid": uid,
            "visible": now + (delay if message.delay is None else message.delay),
            "sent": now,
            "receives": 0,
            "sender": message.sender,
            "trace": message.trace,
            "group": message.group,
            "seal": message.seal,
            "attributes": to_column(message.attributes),
            "body": message.body,
        }
        for uid, message in zip(ids, batch, strict=True)
    ]
    if rows:
        connection.execute(insert(messages), rows)
        announce(connection, topic_of(queue.arn))
    return ids


def to_column(attributes: Mapping[str, Attribute]) -> dict[str, list[str | bytes]] | None:
    """Type and value by name; a binary value as base64, which its type tells."""
    return {name: [attribute.type, attribute.value] for name, attribute in attributes.items()} or None
