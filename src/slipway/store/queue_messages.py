"""Receiving from queues, and what becomes of messages after: deleted, shown again, moved to a dead-letter queue, expired.

A received message is a row whose `visible` lies ahead and whose `receipt` is the secret of that receive; whoever receives it
again changes the secret, and older handles are void. Every query is by index; the sweep works in chunks.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from slipway.core.queue_attributes import RETENTION, Redrive
from slipway.core.queue_messages import Attribute, Receipt, Received
from slipway.store.announcements import announce
from slipway.store.queues import QueueRow, every, messages, topic_of

IN_FLIGHT = 120_000
"""Messages of one queue that may be received and neither deleted nor visible (SQS's quota)."""
SWEEP = 1000
"""Rows that one sweep deletes at most: others wait for the writer meanwhile."""
ROUNDS = 20
"""How often one receive looks for others after it moved spent messages away."""

_m = messages.c


class TooManyInFlight(Exception):
    """IN_FLIGHT messages of the queue are being worked on."""


@dataclass(frozen=True, slots=True)
class Counts:
    visible: int
    in_flight: int
    delayed: int


def receive(
    connection: Connection,
    queue: QueueRow,
    most: int,
    visibility: float,
    now: float,
    dead: tuple[Redrive, QueueRow] | None = None,
) -> list[Received]:
    """Up to `most` messages, hidden for `visibility` seconds; those that were received too often go to the queue in `dead`.

    Raises TooManyInFlight.
    """
    found: list[Any] = []
    for _ in range(ROUNDS):
        rows = _candidates(connection, queue, most - len(found), now, [row.id for row in found])
        spent = [row for row in rows if dead is not None and row.receives >= dead[0].most]
        found += [row for row in rows if row not in spent] if spent else rows
        if not spent or dead is None:
            break
        _move(connection, [row.id for row in spent], queue.arn, dead[1], now)
    else:
        announce(connection, topic_of(queue.arn))  # there may be more behind them
    if not found:
        return []
    if _is_full(connection, queue, now):
        raise TooManyInFlight(queue.arn)
    token = secrets.token_hex(16)
    connection.execute(
        update(messages)
        .where(_m.id.in_([row.id for row in found]))
        .values(
            receipt=token,
            receives=_m.receives + 1,
            visible=now + visibility,
            first_received=func.coalesce(_m.first_received, now),
        )
    )
    return [_received(row, token, now) for row in found]


def _candidates(connection: Connection, queue: QueueRow, most: int, now: float, taken: Sequence[int]) -> Sequence[Any]:
    query = select(messages).where(
        _m.queue == queue.id, _m.visible <= now, _m.sent > now - queue.seconds("MessageRetentionPeriod", RETENTION)
    )
    if taken:
        query = query.where(_m.id.not_in(taken))
    return connection.execute(query.order_by(_m.visible, _m.id).limit(most)).all()


def _move(connection: Connection, ids: Sequence[int], source: str, target: QueueRow, now: float) -> None:
    """To a dead-letter queue: a message keeps its id, its age and its count (SQS developer guide, "Dead-letter queues")."""
    values = {"queue": target.id, "visible": now, "receipt": None, "source": source}
    connection.execute(update(messages).where(_m.id.in_(ids)).values(**values))
    announce(connection, topic_of(target.arn))


def _is_full(connection: Connection, queue: QueueRow, now: float) -> bool:
    query = select(_m.id).where(_m.queue == queue.id, _m.visible > now).order_by(_m.visible).offset(IN_FLIGHT - 1).limit(1)
    return connection.execute(query).first() is not None and counts(connection, queue, now).in_flight >= IN_FLIGHT


def _received(row: Any, token: str, now: float) -> Received:
    return Received(
        id=row.uid,
        body=row.body,
        attributes=from_column(row.attributes),
        receipt=Receipt(row.id, token),
        sent=row.sent,
        first_received=now if row.first_received is None else row.first_received,
        receives=row.receives + 1,
        sender=row.sender,
        trace=row.trace,
        group=row.group,
        source=row.source,
        seal=row.seal,
    )


def from_column(value: Mapping[str, Sequence[str]] | None) -> dict[str, Attribute]:
    return {
        name: Attribute(kind, base64.b64decode(text) if kind.startswith("Binary") else text)
        for name, (kind, text) in (value or {}).items()
    }


def next_visible(connection: Connection, queue: QueueRow, now: float) -> float | None:
    """When the next hidden or delayed message can be received; None: there is none."""
    query = select(_m.visible).where(_m.queue == queue.id, _m.visible > now).order_by(_m.visible).limit(1)
    return connection.execute(query).scalar_one_or_none()


def discard(connection: Connection, receipts: Sequence[Receipt]) -> None:
    """Delete those messages whose receipt still holds; others are left, as SQS does, without a word."""
    held = [number for number, _ in _held(connection, receipts)]
    if held:
        connection.execute(delete(messages).where(_m.id.in_(held)))


def _held(connection: Connection, receipts: Sequence[Receipt]) -> list[tuple[int, float]]:
    """Message and visibility of the receipts that hold; of one message there may be older ones among them."""
    tokens: dict[int, list[str]] = {}
    for receipt in receipts:
        tokens.setdefault(receipt.message, []).append(receipt.token)
    rows = connection.execute(select(_m.id, _m.receipt, _m.visible).where(_m.id.in_(list(tokens)))).all()
    return [(row.id, row.visible) for row in rows if row.receipt and _is_among(row.receipt, tokens[row.id])]


def _is_among(token: str, tokens: Sequence[str]) -> bool:
    return any(hmac.compare_digest(token, each) for each in tokens)


def hide(connection: Connection, queue: QueueRow, receipt: Receipt, seconds: float, now: float) -> bool | None:
    """Change when a received message can be received again; False: it can be already, None: the receipt does not hold."""
    held = _held(connection, [receipt])
    if not held:
        return None
    number, visible = held[0]
    if visible <= now:
        return False
    connection.execute(update(messages).where(_m.id == number).values(visible=now + seconds))
    announce(connection, topic_of(queue.arn))
    return True


def counts(connection: Connection, queue: QueueRow, now: float) -> Counts:
    """What GetQueueAttributes calls approximate numbers: exact, but for expired messages that the next sweep takes."""
    there, hidden = (and_(_m.queue == queue.id, when) for when in (_m.visible <= now, _m.visible > now))
    number = func.count()
    visible = connection.execute(select(number).select_from(messages).where(there)).scalar_one()
    rest = connection.execute(select(number, number.filter(_m.receives > 0)).select_from(messages).where(hidden)).one()
    return Counts(visible, rest[1], rest[0] - rest[1])


def oldest(connection: Connection, queue: QueueRow) -> float | None:
    """When the oldest message was sent; None: the queue is empty."""
    return connection.execute(select(func.min(_m.sent)).where(_m.queue == queue.id)).scalar_one_or_none()


def sweep(connection: Connection, now: float, limit: int | None = None) -> int:
    """Delete up to `limit` (SWEEP) messages past their queue's retention, or of queues deleted or purged; how many."""
    limit = SWEEP if limit is None else limit
    live = {queue.id: queue for queue in every(connection)}
    swept = 0
    number = connection.execute(select(func.min(_m.queue))).scalar_one_or_none()
    while number is not None and swept < limit:
        queue = live.get(number)
        query = select(_m.id).where(_m.queue == number)
        if queue is not None:
            query = query.where(_m.sent <= now - queue.seconds("MessageRetentionPeriod", RETENTION))
        expired = query.limit(limit - swept)
        swept += connection.execute(delete(messages).where(_m.id.in_(expired))).rowcount
        number = connection.execute(select(func.min(_m.queue)).where(_m.queue > number)).scalar_one_or_none()
    return swept
