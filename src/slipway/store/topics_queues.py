"""Deliveries from topics into queues: the envelope or the plain message, and what is done when the queue is gone."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from slipway.core import sns_messages
from slipway.core.queue_messages import Attribute, Message
from slipway.core.sns_messages import Notice, Seal
from slipway.store import queues, topics_outbox
from slipway.store.topics_outbox import Outcome

RAW_ATTRIBUTES = 10
"""A message of a queue has so many attributes at most: a raw delivery of more fails (AWS: a client-side error)."""
HELD_BYTES = 4 * 1024 * 1024
"""Of messages that wait here for others that go into the same queue."""


def dead_letter(attributes: Mapping[str, str]) -> str | None:
    """ARN of the queue that a subscription's RedrivePolicy names."""
    text = attributes.get("RedrivePolicy")
    return json.loads(text)["deadLetterTargetArn"] if text else None


@dataclass(frozen=True, slots=True)
class _Delivery:
    notice: str
    subscription: str
    message: Message
    dead_letter: str | None


class QueueDeliveries:
    """Notices of one topic on their way into queues: what goes into one queue is written at once. `store` ends it.

    With a `seal`, envelopes get their signature when they are received (`Message.seal`): `version` says which.
    """

    def __init__(self, connection: Connection, topic: str, now: float, seal: Seal | None, version: str) -> None:
        self.delivered: Counter[str] = Counter()
        """By MessageId of the notice, like the next."""
        self.failed: Counter[str] = Counter()
        self._connection = connection
        self._topic = topic
        self._now = now
        self._seal = seal
        self._version = version
        self._held: dict[str, list[_Delivery]] = {}
        self._bytes = 0

    def deliver(self, notice: Notice, subscription: str, queue: str, raw: bool, dead_letter: str | None) -> None:
        """Into the queue; if that cannot be, into the dead-letter queue; else it failed. An outcome says so."""
        message = self._message(notice, subscription, raw)
        delivery = _Delivery(notice.id, subscription, message, dead_letter)
        if len(message.attributes) > RAW_ATTRIBUTES:
            self._fail(delivery, "The message has more attributes than a message of a queue can have.")
            return
        self._held.setdefault(queue, []).append(delivery)
        self._bytes += len(message.body)
        if self._bytes > HELD_BYTES:
            self.store()

    def store(self) -> None:
        """Write what is held."""
        held, self._held, self._bytes = self._held, {}, 0
        for queue, deliveries in held.items():
            row = queues.get(self._connection, queue)
            if row is None:
                for each in deliveries:
                    self._fail(each, f"The queue {queue} does not exist.")
                continue
            queues.send_all(self._connection, row, [each.message for each in deliveries], self._now)
            self.delivered.update(each.notice for each in deliveries)

    def _fail(self, delivery: _Delivery, cause: str) -> None:
        self.failed[delivery.notice] += 1
        buried = bury(self._connection, delivery.dead_letter, delivery.message, self._now)
        state: topics_outbox.State = "dead-letter" if buried else "failed"
        outcome = Outcome(delivery.notice, delivery.subscription, state, cause, 1, self._now)
        topics_outbox.record(self._connection, outcome)

    def _message(self, notice: Notice, subscription: str, raw: bool) -> Message:
        if raw:
            return Message(notice.text("sqs"), attributes=raw_attributes(notice.attributes))
        envelope = sns_messages.notification(self._topic, notice, "sqs", self._now)
        if self._seal is None:
            return Message(sns_messages.render(envelope, notice.attributes))
        url = sns_messages.unsubscribe_url(self._seal.url, subscription)
        return Message(sns_messages.render(envelope, notice.attributes, UnsubscribeURL=url), seal=self._version)


def bury(connection: Connection, queue: str | None, message: Message, now: float) -> bool:
    """Put a message that could not be delivered into a dead-letter queue; False: there is none."""
    kept = Message(message.body, dict(list(message.attributes.items())[:RAW_ATTRIBUTES]), seal=message.seal)
    return queue is not None and queues.send(connection, queue, kept, now) is not None


def raw_attributes(attributes: Mapping[str, sns_messages.Attribute]) -> dict[str, Attribute]:
    """As attributes of a queue's message."""
    return {
        name: Attribute(one.type, base64.b64decode(one.value) if one.type.startswith("Binary") else one.value)
        for name, one in attributes.items()
    }
