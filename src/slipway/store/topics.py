"""Topics, subscriptions, and publishing: `publish` may be called inside any `Db.write`.

What a publication does is committed with it: one row in each subscribed queue, one in the outbox for each HTTP subscription.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Column, Connection, Table, UniqueConstraint, and_, bindparam, delete, func, or_, select, update

from slipway.core import filter_policies
from slipway.core.filter_policies import TooMuchWork, Work
from slipway.core.sns_messages import NOTIFICATION, Notice, Seal
from slipway.store import topics_outbox
from slipway.store.resources import tags
from slipway.store.schema import Json, Moment, Word, metadata
from slipway.store.topics_queues import QueueDeliveries, dead_letter

__all__ = ["Notice", "Published", "Subscription", "Topic", "publish", "publish_all"]

PUBLICATION_BYTES = 64 * 1024 * 1024
"""Of one message to all its receivers together: a topic with thousands of them takes short messages only."""

topics = Table(
    "sns_topics",
    metadata,
    Column("arn", Word, primary_key=True),
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("attributes", Json, nullable=False),
    Column("created", Moment, nullable=False),
    UniqueConstraint("account", "region", "name"),
)

subscriptions = Table(
    "sns_subscriptions",
    metadata,
    Column("arn", Word, primary_key=True),
    Column("topic", Word, nullable=False),
    Column("account", Word, nullable=False, index=True),
    Column("protocol", Word, nullable=False),
    Column("endpoint", Word, nullable=False),
    Column("attributes", Json, nullable=False),
    Column("state", Word, nullable=False),
    Column("authenticated", Word, nullable=False),
    Column("token", Word),
    Column("token_expires", Moment),
    Column("created", Moment, nullable=False),
    UniqueConstraint("topic", "protocol", "endpoint"),
)

State = Literal["pending", "confirmed", "gone"]
"""`gone`: unsubscribed, and still able to come back by the token of its UnsubscribeConfirmation."""


@dataclass(frozen=True, slots=True)
class Topic:
    arn: str
    account: str
    region: str
    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Those that were set, by AWS's names."""
    created: float = 0.0
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class Subscription:
    arn: str
    topic: str
    account: str
    protocol: str
    endpoint: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """FilterPolicy, RawMessageDelivery and the others that were set, as text; all of them checked."""
    state: State = "pending"
    authenticated: str = ""
    """How it was confirmed: `owner` (ConfirmationWasAuthenticated), `locked` (AuthenticateOnUnsubscribe too), or neither."""
    token: str | None = None
    """Digest of the token that its endpoint was sent last."""
    token_expires: float | None = None
    created: float = 0.0

    @property
    def raw(self) -> bool:
        return self.attributes.get("RawMessageDelivery") == "true"


@dataclass(frozen=True, slots=True)
class Published:
    """What one publication came to."""

    message_id: str
    queues: int = 0
    """Queues that have the message."""
    pending: int = 0
    """Deliveries over HTTP, to be made after the commit."""
    failed: int = 0
    """Subscribed queues that are not there any more: their outcomes are recorded."""


# Topics


def create(connection: Connection, topic: Topic) -> Topic | None:
    """Create it; the present one instead, unchanged, when the name is taken."""
    if (present := get(connection, topic.arn)) is not None:
        return present
    values = {"arn": topic.arn, "account": topic.account, "region": topic.region, "name": topic.name}
    connection.execute(topics.insert().values(**values, attributes=dict(topic.attributes), created=topic.created))
    return None


def get(connection: Connection, arn: str) -> Topic | None:
    row = connection.execute(select(topics).where(topics.c.arn == arn)).first()
    return Topic(*row) if row else None


def find(connection: Connection, account: str, region: str, after: str, limit: int) -> list[Topic]:
    """In the order of their ARNs, those after `after`."""
    query = select(topics).where(topics.c.account == account, topics.c.region == region, topics.c.arn > after)
    return [Topic(*row) for row in connection.execute(query.order_by(topics.c.arn).limit(limit))]


def count(connection: Connection, account: str, region: str) -> int:
    where = and_(topics.c.account == account, topics.c.region == region)
    return connection.execute(select(func.count()).select_from(topics).where(where)).scalar_one()


def set_attributes(connection: Connection, arn: str, values: Mapping[str, str]) -> None:
    """Replace all of them."""
    connection.execute(update(topics).where(topics.c.arn == arn).values(attributes=dict(values)))


def remove(connection: Connection, arn: str) -> bool:
    """The topic, its subscriptions and its tags; False: there was none. What waits to be delivered is given up."""
    for (subscription,) in connection.execute(select(subscriptions.c.arn).where(subscriptions.c.topic == arn)).all():
        topics_outbox.drop(connection, subscription)
    connection.execute(delete(subscriptions).where(subscriptions.c.topic == arn))
    connection.execute(delete(tags).where(tags.c.arn == arn))
    return bool(connection.execute(delete(topics).where(topics.c.arn == arn)).rowcount)


# Subscriptions


def subscribe(connection: Connection, row: Subscription) -> None:
    """Add it; one of the same topic, protocol and endpoint must not be there."""
    connection.execute(subscriptions.insert().values(**_values(row)))


def _values(row: Subscription) -> dict[str, object]:
    found: dict[str, object] = {name: getattr(row, name) for name in Subscription.__slots__}
    return {**found, "attributes": dict(row.attributes)}


def save(connection: Connection, row: Subscription) -> None:
    """Write it anew, found by its ARN."""
    connection.execute(update(subscriptions).where(subscriptions.c.arn == row.arn).values(**_values(row)))


def unsubscribe(connection: Connection, arn: str) -> bool:
    """Gone without a trace, with all that waits for it; False: there was none."""
    topics_outbox.drop(connection, arn)
    return bool(connection.execute(delete(subscriptions).where(subscriptions.c.arn == arn)).rowcount)


def subscription(connection: Connection, arn: str) -> Subscription | None:
    row = connection.execute(select(subscriptions).where(subscriptions.c.arn == arn)).first()
    return _subscription(row) if row else None


def subscribed(connection: Connection, topic: str, protocol: str, endpoint: str) -> Subscription | None:
    """The subscription of an endpoint, in whatever state."""
    where = and_(subscriptions.c.topic == topic, subscriptions.c.protocol == protocol, subscriptions.c.endpoint == endpoint)
    row = connection.execute(select(subscriptions).where(where)).first()
    return _subscription(row) if row else None


def token_digest(token: str) -> str:
    """What is kept of a token: comparing digests tells nothing about it."""
    return hashlib.sha256(token.encode()).hexdigest()


def by_token(connection: Connection, topic: str, token: str) -> Subscription | None:
    """The one that was asked with this token; whether it has expired is the caller's to look at."""
    where = and_(subscriptions.c.topic == topic, subscriptions.c.token == token_digest(token))
    row = connection.execute(select(subscriptions).where(where)).first()
    return _subscription(row) if row else None


def list_subscriptions(
    connection: Connection, after: str, limit: int, *, topic: str | None = None, account: str = "", region: str = ""
) -> list[Subscription]:
    """Of a topic, or of an account in a region; by ARN, those after `after`. Those that are gone are not listed."""
    query = select(subscriptions).where(subscriptions.c.arn > after, subscriptions.c.state != "gone")
    if topic is not None:
        query = query.where(subscriptions.c.topic == topic)
    else:
        prefix = f":sns:{region}:"
        query = query.where(subscriptions.c.account == account, subscriptions.c.topic.contains(prefix, autoescape=True))
    return [_subscription(row) for row in connection.execute(query.order_by(subscriptions.c.arn).limit(limit))]


def counts(connection: Connection, topic: str) -> Mapping[str, int]:
    """How many subscriptions the topic has, by state."""
    query = select(subscriptions.c.state, func.count()).where(subscriptions.c.topic == topic)
    return {row[0]: row[1] for row in connection.execute(query.group_by(subscriptions.c.state))}


def policies(connection: Connection, topic: str) -> int:
    """How many of the topic's subscriptions have a filter policy."""
    query = select(subscriptions.c.attributes).where(subscriptions.c.topic == topic, subscriptions.c.state != "gone")
    return sum("FilterPolicy" in attributes for (attributes,) in connection.execute(query))


def purge(connection: Connection, now: float) -> bool:
    """Forget HTTP subscriptions whose token expired before anybody used it (AWS does after two days), and old outcomes.

    Whether there may be more of these.
    """
    late = and_(subscriptions.c.token_expires <= now, or_(subscriptions.c.state == "pending", subscriptions.c.state == "gone"))
    connection.execute(delete(subscriptions).where(late))
    return topics_outbox.purge(connection, now)


def _subscription(row: Sequence[Any]) -> Subscription:
    return Subscription(*row)


# Publishing


def _uuid() -> str:
    return str(uuid.uuid4())


_RECEIVERS = (
    select(topics.c.attributes.label("settings"), subscriptions)
    .select_from(
        topics.outerjoin(subscriptions, and_(subscriptions.c.topic == topics.c.arn, subscriptions.c.state == "confirmed"))
    )
    .where(topics.c.arn == bindparam("topic"))
)
"""Built once: building it would cost as much as running it. One row at least for a topic that is there."""


def publish(
    connection: Connection,
    topic_arn: str,
    notice: Notice,
    now: float,
    *,
    seal: Seal | None = None,
    new_id: Callable[[], str] = _uuid,
) -> Published | None:
    """Give the notice to every confirmed subscription that wants it; None when there is no such topic.

    `now`: epoch seconds, the Timestamp. `seal` signs what goes into queues (when it is received); without it those envelopes
    have no signature. filter_policies.TooMuchWork, with nothing written, when the message has too many values for the topic's
    policies (it takes a body of thousands of them), or is too large for so many receivers.
    """
    published = publish_all(connection, topic_arn, [notice], now, seal=seal, new_id=new_id)
    if published is None:
        return None
    if isinstance(published[0], TooMuchWork):
        raise published[0]
    return published[0]


def publish_all(
    connection: Connection,
    topic_arn: str,
    notices: Sequence[Notice],
    now: float,
    *,
    seal: Seal | None = None,
    new_id: Callable[[], str] = _uuid,
) -> list[Published | TooMuchWork] | None:
    """As `publish`, of several notices in their order, in few statements; one that is too much work stops no other."""
    rows = connection.execute(_RECEIVERS, {"topic": topic_arn}).all()
    if not rows:
        return None
    receivers = [_subscription(row[1:]) for row in rows if row.arn is not None]
    version = rows[0].settings.get("SignatureVersion", "1")
    to_queues = QueueDeliveries(connection, topic_arn, now, seal, version)
    given = [notice if notice.id else _identified(notice, new_id()) for notice in notices]
    told = [_give(connection, notice, receivers, to_queues, now) for notice in given]
    to_queues.store()
    delivered, failed = to_queues.delivered, to_queues.failed
    return [
        pending if isinstance(pending, TooMuchWork) else Published(notice.id, delivered[notice.id], pending, failed[notice.id])
        for notice, pending in zip(given, told, strict=True)
    ]


def _give(
    connection: Connection, notice: Notice, receivers: Sequence[Subscription], to_queues: QueueDeliveries, now: float
) -> int | TooMuchWork:
    """To each that wants it; how many are to be told over HTTP."""
    wants = _Wanting(notice)
    try:
        wanting = [one for one in receivers if wants(one)]
    except TooMuchWork as error:
        return error
    if len(wanting) * len(notice.message) > PUBLICATION_BYTES:
        return TooMuchWork("is too large for so many subscriptions")
    pending = 0
    for found in wanting:
        if found.protocol == "sqs":
            to_queues.deliver(notice, found.arn, found.endpoint, found.raw, dead_letter(found.attributes))
        elif found.protocol in ("http", "https"):
            topics_outbox.put(connection, found.arn, notice.id, NOTIFICATION, outbox_body(notice, now, found.protocol), now)
            pending += 1
    return pending


def _identified(notice: Notice, id: str) -> Notice:
    return Notice(notice.message, notice.subject, notice.attributes, notice.texts, id)


def outbox_body(notice: Notice, now: float, protocol: str) -> dict[str, object]:
    """What the outbox keeps of a notice for one receiver; `control.deliveries` makes the message of it."""
    return {
        "text": notice.text(protocol),
        "subject": notice.subject,
        "attributes": {name: [one.type, one.value] for name, one in notice.attributes.items()},
        "at": now,
    }


class _Wanting:
    """Which subscriptions want a notice; its attributes and its body are read once, when a policy asks for them."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._work = Work()
        self._values: dict[str, object] = {}

    def __call__(self, found: Subscription) -> bool:
        text = found.attributes.get("FilterPolicy")
        if text is None:
            return True
        scope = found.attributes.get("FilterPolicyScope", "MessageAttributes")
        if scope not in self._values:
            self._values[scope] = self._read(scope)
        return filter_policies.matches(filter_policies.parse(text), self._values[scope], self._work)

    def _read(self, scope: str) -> object:
        if scope == "MessageBody":
            return filter_policies.parse_body(self._notice.message)
        return filter_policies.attribute_values({n: (a.type, a.value) for n, a in self._notice.attributes.items()})
