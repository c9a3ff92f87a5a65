"""The events of a bucket, committed with the object that they tell of: into queues, and through topics.

`store.objects` calls `emit` in the transaction of the object's row, so that whoever writes objects (S3's operations, multipart
completion, asynchronous settlement) need not think of it. The rules are a column of the bucket's row.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from slipway.core import s3_events
from slipway.core.filter_policies import TooMuchWork
from slipway.core.queue_messages import Message
from slipway.core.s3_events import Event, Origin, Place, Rule
from slipway.core.sns_messages import Notice
from slipway.store import queues, topics

logger = logging.getLogger(__name__)


def emit(
    connection: Connection, column: Sequence[Mapping[str, Any]] | None, place: Place, events: Sequence[Event], origin: Origin
) -> None:
    """Send each event to those whom the bucket's rules name; a destination that is gone by now gets nothing."""
    if not column or not events:
        return
    host = new_host()
    for rule in s3_events.rules_of(column):
        texts = [s3_events.message(rule, place, event, origin, host) for event in events if rule.wants(event.name, event.key)]
        send(connection, rule, texts, origin, events[-1].time)


def send(connection: Connection, rule: Rule, texts: Sequence[str], origin: Origin, now: float) -> bool:
    """Put the texts into the rule's queue or topic; False: there is none."""
    if rule.kind == "queue":
        queue = queues.get(connection, rule.target)
        if queue is None:
            return False
        queues.send_all(connection, queue, [Message(text, sender=s3_events.SENDER) for text in texts], now)
        return True
    notices = [Notice(text, subject=s3_events.SUBJECT) for text in texts]
    published = topics.publish_all(connection, rule.target, notices, now, seal=origin.seal)
    if published is not None and any(isinstance(each, TooMuchWork) for each in published):
        # Another try would not be any easier, and the object has to be written.
        logger.warning("event-too-much-work", extra={"topic": rule.target})
    return published is not None


def new_host() -> str:
    """An x-amz-id-2."""
    return secrets.token_urlsafe(32)
