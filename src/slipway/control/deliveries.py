"""Delivers what topics owe their HTTP subscriptions: from the outbox, signed, tried again by policy, settled with an outcome.

Each subscription has a lane of its own while something of it is due, so that a slow endpoint delays nobody else. A row leaves
the outbox only with its outcome: after a crash it is delivered (again), under the same MessageId.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from slipway.backing.notices_addresses import Guard
from slipway.core import sns_messages, sns_retries
from slipway.core.queue_messages import Message
from slipway.core.sns_messages import NOTIFICATION, Attribute, Notice, Seal
from slipway.core.sns_retries import DeliveryPolicy
from slipway.store import topics, topics_outbox, topics_queues
from slipway.store.announcements import Watch
from slipway.store.db import Connection, Db, StoreError
from slipway.store.topics import Subscription, Topic
from slipway.store.topics_outbox import ANNOUNCED, OutboxRow, Outcome

logger = logging.getLogger(__name__)

BATCH = 8
"""Rows of one subscription that are on their way at a time."""
PER_HOST = 16
OVERALL = 256
IDLE_SECONDS = 30.0
"""How long without a look at the outbox, should nobody have told of anything."""
TROUBLE_SECONDS = 2.0
AGENT = "Amazon Simple Notification Service Agent"


class Sender(Protocol):
    """`backing.notices_http.HttpSender`; tests give a fake."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message as it goes over the wire."""

    body: bytes
    headers: Mapping[str, str]


class Deliveries:
    """Run it as a task: `run` returns when it is cancelled, and cancels what is on its way (which stays in the outbox)."""

    def __init__(
        self, db: Db, seal: Seal, guard: Guard, now: Callable[[], float], *, open_sender: Callable[[], Sender] | None = None
    ) -> None:
        """`open_sender`: a fake's; None: HTTP, loaded when there is something to send."""
        self._db = db
        self._seal = seal
        self._guard = guard
        self._now = now
        self._open = open_sender
        self._sender: Sender | None = None
        self._opening = asyncio.Lock()
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._overall = asyncio.Semaphore(OVERALL)
        self._hosts: dict[str, asyncio.Semaphore] = {}

    async def run(self) -> None:
        try:
            with self._db.watch(ANNOUNCED) as watch:
                while True:
                    await watch.wait(await self._look(watch))
        finally:
            for task in self._lanes.values():
                task.cancel()
            await asyncio.gather(*self._lanes.values(), return_exceptions=True)
            if self._sender is not None:
                await self._sender.close()

    async def _look(self, watch: Watch) -> float:
        """Start a lane for each subscription with something due; seconds until the next look."""
        try:
            waiting = await self._db.read(topics_outbox.waiting)
        except StoreError as error:
            logger.warning("deliveries-unreadable", extra={"error": str(error)})
            return TROUBLE_SECONDS
        now = self._now()
        wait = IDLE_SECONDS
        for subscription, first in waiting.items():
            if subscription in self._lanes:
                continue
            if first > now:
                wait = min(wait, first - now)
                continue
            task = asyncio.create_task(self._lane(subscription))
            self._lanes[subscription] = task
            task.add_done_callback(partial(self._ended, subscription, watch))
        return wait

    def _ended(self, subscription: str, watch: Watch, _: object) -> None:
        del self._lanes[subscription]
        if not self._lanes:
            self._hosts.clear()
        watch.wake()  # what came while the lane was ending, and what waits for its next try

    async def _lane(self, subscription: str) -> None:
        """Deliver all that is due, a batch at a time."""
        try:
            while batch := await self._db.read(lambda c: topics_outbox.due(c, subscription, self._now(), BATCH)):
                found, topic = await self._db.read(lambda c: _receiver(c, subscription))
                if found is None or topic is None:
                    await self._db.write(lambda c: topics_outbox.drop(c, subscription))
                    return
                own, general = found.attributes.get("DeliveryPolicy"), topic.attributes.get("DeliveryPolicy")
                policy = sns_retries.effective(own, general)
                if policy.rate is None:
                    tries = (self._deliver(row, found, topic, policy) for row in batch)
                    failed = [one for one in await asyncio.gather(*tries, return_exceptions=True) if one is not None]
                    if failed:
                        raise failed[0]
                    continue
                for row in batch:
                    await self._deliver(row, found, topic, policy)
                    await asyncio.sleep(1.0 / policy.rate)
        except StoreError as error:
            logger.warning("delivery-store-failed", extra={"subscription": subscription, "error": str(error)})
            await asyncio.sleep(TROUBLE_SECONDS)
        except Exception:
            logger.exception("delivery-lane-failed", extra={"subscription": subscription})
            await asyncio.sleep(IDLE_SECONDS)

    async def _deliver(self, row: OutboxRow, found: Subscription, topic: Topic, policy: DeliveryPolicy) -> None:
        """One try of one message, and what it came to."""
        attempts = row.attempts + 1
        message: Rendered | None = None
        try:
            message = await asyncio.to_thread(render, row, found, topic, policy, self._seal)
            slots = self._hosts.setdefault(urlsplit(found.endpoint).netloc, asyncio.Semaphore(PER_HOST))
            async with slots, self._overall:
                status = await (await self._ready()).post(found.endpoint, message.headers, message.body)
        except Exception as error:
            permanent = getattr(error, "permanent", None)
            if permanent is None:
                logger.exception("delivery-failed-unexpectedly", extra={"subscription": found.arn, "message_id": row.message})
            cause = str(error) if permanent is not None else f"slipway failed to send it ({type(error).__name__})."
            await self._failed(row, found, message, None if permanent else policy.delay(attempts), cause)
            return
        outcome = Outcome(row.message, found.arn, "delivered", "", attempts, self._now())
        await self._db.write(lambda c: topics_outbox.settle(c, row.id, outcome if row.kind == NOTIFICATION else None))
        fields = {"subscription": found.arn, "message_id": row.message, "kind": row.kind}
        logger.info("delivered", extra={**fields, "status": status, "attempts": attempts})

    async def _failed(
        self, row: OutboxRow, found: Subscription, message: Rendered | None, delay: float | None, cause: str
    ) -> None:
        """Try again after `delay` seconds; None: no more, it goes to the dead-letter queue if there is one."""
        attempts, now = row.attempts + 1, self._now()
        fields = {"subscription": found.arn, "message_id": row.message, "attempts": attempts, "cause": cause}
        if delay is not None:
            logger.info("delivery-postponed", extra={**fields, "seconds": delay})
            await self._db.write(lambda c: topics_outbox.postpone(c, row.id, attempts, now + delay, cause))
            return

        def give_up(connection: Connection) -> bool:
            buried = False
            if row.kind == NOTIFICATION and message is not None:
                queue = topics_queues.dead_letter(found.attributes)
                attributes = topics_queues.raw_attributes(_notice(row).attributes) if found.raw else {}
                buried = topics_queues.bury(connection, queue, Message(message.body.decode(), attributes), now)
            outcome = Outcome(row.message, found.arn, "dead-letter" if buried else "failed", cause, attempts, now)
            topics_outbox.settle(connection, row.id, outcome)
            return buried

        logger.warning("delivery-given-up", extra={**fields, "dead_letter": await self._db.write(give_up)})

    async def _ready(self) -> Sender:
        async with self._opening:
            if self._sender is None:
                if self._open is None:
                    # In a thread: loading aiohttp would hold up everything else that control does.
                    http = await asyncio.to_thread(importlib.import_module, "slipway.backing.notices_http")
                    self._sender = http.HttpSender(self._guard)
                else:
                    self._sender = self._open()
            return self._sender


def _receiver(connection: Connection, subscription: str) -> tuple[Subscription | None, Topic | None]:
    found = topics.subscription(connection, subscription)
    return found, topics.get(connection, found.topic) if found is not None else None


def _notice(row: OutboxRow) -> Notice:
    body = row.body
    attributes = {name: Attribute(*value) for name, value in body["attributes"].items()}
    return Notice(body["text"], body["subject"], attributes, id=row.message)


def render(row: OutboxRow, found: Subscription, topic: Topic, policy: DeliveryPolicy, seal: Seal) -> Rendered:
    """The request's headers and body, as AWS sends them; a confirmation is never raw."""
    headers = {
        "x-amz-sns-message-type": row.kind,
        "x-amz-sns-message-id": row.message,
        "x-amz-sns-topic-arn": found.topic,
        "Content-Type": policy.content_type or sns_retries.CONTENT_TYPE,
        "User-Agent": AGENT,
    }
    version = topic.attributes.get("SignatureVersion", "1")
    if row.kind != NOTIFICATION:
        token, at = row.body["token"], row.body["at"]
        envelope: dict[str, Any] = sns_messages.confirmation(row.kind, found.topic, token, row.message, at, seal.url)
        return Rendered(sns_messages.render(sns_messages.sealed(envelope, seal, version), {}).encode(), headers)
    headers["x-amz-sns-subscription-arn"] = found.arn
    notice = _notice(row)
    if found.raw:
        return Rendered(notice.message.encode(), {**headers, "x-amz-sns-rawdelivery": "true"})
    envelope = sns_messages.notification(found.topic, notice, found.protocol, row.body["at"])
    url = sns_messages.unsubscribe_url(seal.url, found.arn)
    text = sns_messages.render(sns_messages.sealed(envelope, seal, version), notice.attributes, UnsubscribeURL=url)
    return Rendered(text.encode(), headers)
