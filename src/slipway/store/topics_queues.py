"""Deliveries from topics into queues: the envelope or the plain message, and what is done when the queue is gone."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping

from sqlalchemy import Connection

from slipway.core import sns_messages
from slipway.core.queue_messages import Attribute, Message
from slipway.core.sns_messages import Notice, Seal
from slipway.store import queues, topics_outbox
from slipway.store.topics_outbox import Outcome

logger = logging.getLogger(__name__)

RAW_ATTRIBUTES = 10
"""A message of a queue has so many attributes at most: a raw delivery of more fails (AWS: a client-side error)."""


def dead_letter(attributes: Mapping[str, str]) -> str | None:
    """ARN of the queue that a subscription's RedrivePolicy names."""
    text = attributes.get("RedrivePolicy")
    return json.loads(text)["deadLetterTargetArn"] if text else None


class QueueDelivery:
    """One notice on its way into queues. The signature is made once, when the first envelope needs it."""

    def __init__(self, connection: Connection, topic: str, notice: Notice, now: float, seal: Seal | None, version: str) -> None:
        self.delivered = 0
        self.failed = 0
        self._connection = connection
        self._notice = notice
        self._now = now
        self._seal = seal
        self._version = version
        self._envelope = sns_messages.notification(topic, notice, "sqs", now)
        self._sealed = seal is None

    def deliver(self, subscription: str, queue: str, raw: bool, dead_letter: str | None) -> None:
        """Into the queue; if that cannot be, into the dead-letter queue; else it failed. An outcome says so."""
        message = self._message(subscription, raw)
        cause = "The message has more attributes than a message of a queue can have."
        if len(message.attributes) <= RAW_ATTRIBUTES:
            if queues.send(self._connection, queue, message, self._now) is not None:
                self.delivered += 1
                return
            cause = f"The queue {queue} does not exist."
        self.failed += 1
        buried = bury(self._connection, dead_letter, message, self._now)
        state: topics_outbox.State = "dead-letter" if buried else "failed"
        outcome = Outcome(self._notice.id, subscription, state, cause, 1, self._now)
        topics_outbox.record(self._connection, outcome)

    def _message(self, subscription: str, raw: bool) -> Message:
        if raw:
            return Message(self._notice.text("sqs"), attributes=raw_attributes(self._notice.attributes))
        if self._seal is None:
            return Message(sns_messages.render(self._envelope, self._notice.attributes))
        if not self._sealed:
            self._sealed = True
            try:
                self._envelope = sns_messages.sealed(self._envelope, self._seal, self._version)
            except (OSError, ValueError) as error:  # the key cannot be made or read: the message matters more
                logger.error("notification-not-signed", extra={"message_id": self._notice.id, "error": str(error)})
        url = sns_messages.unsubscribe_url(self._seal.url, subscription)
        return Message(sns_messages.render(self._envelope, self._notice.attributes, UnsubscribeURL=url))


def bury(connection: Connection, queue: str | None, message: Message, now: float) -> bool:
    """Put a message that could not be delivered into a dead-letter queue; False: there is none."""
    kept = Message(message.body, dict(list(message.attributes.items())[:RAW_ATTRIBUTES]))
    return queue is not None and queues.send(connection, queue, kept, now) is not None


def raw_attributes(attributes: Mapping[str, sns_messages.Attribute]) -> dict[str, Attribute]:
    """As attributes of a queue's message."""
    return {
        name: Attribute(one.type, base64.b64decode(one.value) if one.type.startswith("Binary") else one.value)
        for name, one in attributes.items()
    }
