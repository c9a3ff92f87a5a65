"""Deliveries from the outbox: tried again by policy, settled once, lanes of their own; then over HTTP to a server here."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from slipway.backing.notices_addresses import guard
from slipway.backing.notices_http import Undelivered
from slipway.backing.notices_signing import Signer
from slipway.control.deliveries import Deliveries
from slipway.core.sns_messages import SUBSCRIPTION, Attribute, Notice
from slipway.store import queue_messages, queues, topics, topics_outbox
from slipway.store.db import Connection, Db
from slipway.store.queues import QueueRow
from slipway.store.topics import Subscription, Topic
from slipway.store.topics_outbox import Outcome
from tests.deadlines import PATIENCE

ACCOUNT = "123456789012"
TOPIC = f"arn:aws:sns:eu-west-1:{ACCOUNT}:results"
DEAD = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:dead"
QUICK = json.dumps({"healthyRetryPolicy": {"numRetries": 2, "numNoDelayRetries": 2, "minDelayTarget": 1, "maxDelayTarget": 1}})
ONCE = json.dumps({"healthyRetryPolicy": {"numRetries": 0}})


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


class FakeSender:
    """Answers by URL with what `answers` has for it, else 200; `posted` is what it was given."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answers: dict[str, Callable[[], Any]] = {}
        self.closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.posted.append((url, headers, body))
        if url in self.answers:
            answer = self.answers[url]()
            if asyncio.iscoroutine(answer):
                await answer
        return 200

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Db]:
    found = await Db.open(f"{tmp_path}/slipway.db")

    def write(connection: Connection) -> None:
        topics.create(connection, Topic(TOPIC, ACCOUNT, "eu-west-1", "results"))
        queues.create(connection, QueueRow(DEAD, 0, ACCOUNT, "eu-west-1", "dead"))

    await found.write(write)
    yield found
    await found.close()


@pytest.fixture
def seal(tmp_path: Path) -> Signer:
    return Signer(str(tmp_path), "http://here")


async def subscribe(db: Db, url: str, **attributes: str) -> str:
    arn = f"{TOPIC}:{url}"
    row = Subscription(arn, TOPIC, ACCOUNT, url.partition(":")[0], url, attributes, state="confirmed")
    await db.write(lambda c: topics.subscribe(c, row))
    return arn


async def publish(db: Db, id: str, now: float = 1_700_000_000.0, message: str = "m", **more: Any) -> None:
    await db.write(lambda c: topics.publish(c, TOPIC, Notice(message, id=id, **more), now))


async def settled(db: Db, *ids: str) -> list[Outcome]:
    """The outcomes, when nothing of these messages is pending any more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await db.read(lambda c: topics_outbox.outcomes_of(c, ids))
            if len(found) >= len(ids) and all(one.state != "pending" for one in found):
                return found
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for is another task's doing, which tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def delivering(db: Db, seal: Signer, clock: Callable[[], float], sender: FakeSender | None = None) -> AsyncIterator[None]:
    open_sender = None if sender is None else lambda: sender
    deliveries = Deliveries(db, seal, guard((), loopback=True), clock, open_sender=open_sender)
    task = asyncio.create_task(deliveries.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def failing(times: int, error: Exception) -> Callable[[], None]:
    left = [times]

    def answer() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error

    return answer


async def dead_letters(db: Db) -> list[str]:
    def read(connection: Connection) -> list[str]:
        row = queues.get(connection, DEAD)
        assert row is not None
        return [found.body for found in queue_messages.receive(connection, row, 10, 1.0, 1_700_000_100.0)]

    return await db.write(read)


async def test_a_message_is_delivered_and_its_outcome_kept(db: Db, seal: Signer) -> None:
    arn, sender = await subscribe(db, "http://a/"), FakeSender()
    await publish(db, "before", message="ä", subject="s", attributes={"k": Attribute("String", "v")})
    async with delivering(db, seal, Clock(), sender):
        await settled(db, "before")
        await publish(db, "after")
        (outcome,) = await settled(db, "after")
    assert sender.closed
    assert (outcome.subscription, outcome.state, outcome.attempts) == (arn, "delivered", 1)
    assert [json.loads(body)["MessageId"] for _, _, body in sender.posted] == ["before", "after"]
    _, headers, body = sender.posted[0]
    envelope = json.loads(body)
    assert (envelope["Message"], envelope["Subject"]) == ("ä", "s")
    assert envelope["MessageAttributes"] == {"k": {"Type": "String", "Value": "v"}}
    assert headers == {
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-message-id": "before",
        "x-amz-sns-topic-arn": TOPIC,
        "x-amz-sns-subscription-arn": arn,
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
    }


async def test_raw_delivery_and_another_content_type(db: Db, seal: Signer) -> None:
    policy = '{"requestPolicy": {"headerContentType": "application/json"}}'
    await subscribe(db, "http://a/", RawMessageDelivery="true", DeliveryPolicy=policy)
    sender = FakeSender()
    await publish(db, "a", message='{"x": 1}')
    async with delivering(db, seal, Clock(), sender):
        await settled(db, "a")
    ((_, headers, body),) = sender.posted
    assert body == b'{"x": 1}'
    assert headers["x-amz-sns-rawdelivery"] == "true"
    assert headers["Content-Type"] == "application/json"


async def test_tried_again_under_the_same_id(db: Db, seal: Signer) -> None:
    await subscribe(db, "http://a/", DeliveryPolicy=QUICK)
    sender = FakeSender()
    sender.answers["http://a/"] = failing(2, Undelivered("The endpoint answered 500."))
    await publish(db, "a")
    async with delivering(db, seal, Clock(), sender):
        (outcome,) = await settled(db, "a")
    assert (outcome.state, outcome.attempts) == ("delivered", 3)
    assert {json.loads(body)["MessageId"] for _, _, body in sender.posted} == {"a"}
    assert len({body for _, _, body in sender.posted}) == 1, "the same message, signature and all"


async def test_delays_are_waited_for(db: Db, seal: Signer) -> None:
    policy = json.dumps({"healthyRetryPolicy": {"numRetries": 1, "minDelayTarget": 50, "maxDelayTarget": 50}})
    await subscribe(db, "http://a/", DeliveryPolicy=policy)
    sender, clock = FakeSender(), Clock()
    sender.answers["http://a/"] = failing(1, Undelivered("No answer."))
    await publish(db, "a")
    async with delivering(db, seal, clock, sender):
        async with asyncio.timeout(PATIENCE):
            while True:
                (outcome,) = await db.read(lambda c: topics_outbox.outcomes_of(c, ["a"]))
                if outcome.attempts == 1:
                    break
                await asyncio.sleep(0.01)
        assert outcome == Outcome("a", f"{TOPIC}:http://a/", "pending", "No answer.", 1, clock.time + 50)
        await publish(db, "b")
        await settled(db, "b")
        assert len(sender.posted) == 2
        clock.time += 50
        await publish(db, "c", clock.time)
        assert (await settled(db, "a"))[0].attempts == 2


@pytest.mark.parametrize("permanent", [False, True])
async def test_given_up_to_the_dead_letter_queue(db: Db, seal: Signer, permanent: bool) -> None:
    redrive = json.dumps({"deadLetterTargetArn": DEAD})
    await subscribe(db, "http://a/", DeliveryPolicy=QUICK, RedrivePolicy=redrive)
    await subscribe(db, "http://b/", DeliveryPolicy=ONCE)
    sender = FakeSender()
    for url in ("http://a/", "http://b/"):
        sender.answers[url] = failing(99, Undelivered("The endpoint answered.", permanent=permanent))
    await publish(db, "id")
    async with delivering(db, seal, Clock(), sender):
        await until(lambda: len(sender.posted) == (2 if permanent else 4))
        found = await settled(db, "id", "id")
    states = {one.subscription.removeprefix(f"{TOPIC}:"): (one.state, one.attempts) for one in found}
    assert states == {"http://a/": ("dead-letter", 1 if permanent else 3), "http://b/": ("failed", 1)}
    (body,) = await dead_letters(db)
    assert json.loads(body)["MessageId"] == "id"


async def test_a_slow_endpoint_delays_nobody_else(db: Db, seal: Signer) -> None:
    await subscribe(db, "http://slow/")
    sender, release = FakeSender(), asyncio.Event()
    sender.answers["http://slow/"] = release.wait
    for n in range(20):
        await publish(db, f"slow-{n}")
    await subscribe(db, "http://quick/")
    async with delivering(db, seal, Clock(), sender):
        await publish(db, "quick")
        await until(lambda: any(url == "http://quick/" for url, _, _ in sender.posted))
        assert sum(url == "http://slow/" for url, _, _ in sender.posted) <= 8, "bounded"
        release.set()
        await settled(db, *(f"slow-{n}" for n in range(20)))


async def test_what_was_on_its_way_at_a_crash_is_delivered_again(db: Db, seal: Signer) -> None:
    await subscribe(db, "http://a/")
    sender = FakeSender()
    sender.answers["http://a/"] = asyncio.Event().wait
    await publish(db, "a")
    async with delivering(db, seal, Clock(), sender):
        await until(lambda: bool(sender.posted))
    after = FakeSender()
    async with delivering(db, seal, Clock(), after):
        (outcome,) = await settled(db, "a")
    assert outcome.state == "delivered"
    assert after.posted == sender.posted, "the same message"


async def test_a_confirmation_asks_and_leaves_no_outcome(db: Db, seal: Signer) -> None:
    arn, sender = await subscribe(db, "http://a/", RawMessageDelivery="true"), FakeSender()
    body = {"token": "the-token", "at": 1_700_000_000.0}
    await db.write(lambda c: topics_outbox.put(c, arn, "id", SUBSCRIPTION, body, 1_700_000_000.0))
    async with delivering(db, seal, Clock(), sender):
        await until(lambda: bool(sender.posted))
        await publish(db, "after")
        await settled(db, "after")
    (_, headers, sent), _ = sender.posted
    assert headers["x-amz-sns-message-type"] == "SubscriptionConfirmation"
    assert "x-amz-sns-subscription-arn" not in headers
    envelope = json.loads(sent)
    assert envelope["Token"] == "the-token"
    assert envelope["SubscribeURL"] == f"http://here/_slipway/sns/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=the-token"
    assert await db.read(lambda c: topics_outbox.outcomes_of(c, ["id"])) == []


async def test_a_sender_that_fails_oddly_does_not_stop_the_others(db: Db, seal: Signer) -> None:
    await subscribe(db, "http://odd/", DeliveryPolicy=ONCE)
    sender = FakeSender()
    sender.answers["http://odd/"] = failing(1, RuntimeError("secret"))
    await publish(db, "a")
    async with delivering(db, seal, Clock(), sender):
        (outcome,) = await settled(db, "a")
        assert (outcome.state, outcome.cause) == ("failed", "slipway failed to send it (RuntimeError).")
        await publish(db, "b")
        assert (await settled(db, "b"))[0].state == "delivered"


async def test_the_rate_of_a_throttle_policy(db: Db, seal: Signer) -> None:
    await subscribe(db, "http://a/", DeliveryPolicy='{"throttlePolicy": {"maxReceivesPerSecond": 50}}')
    sender = FakeSender()
    for n in range(6):
        await publish(db, str(n))
    began = asyncio.get_running_loop().time()
    async with delivering(db, seal, Clock(), sender):
        await settled(db, *map(str, range(6)))
    assert asyncio.get_running_loop().time() - began > 0.09


# ---- over HTTP


class Receiver:
    """A real endpoint on loopback."""

    def __init__(self) -> None:
        self.requests: list[tuple[Mapping[str, str], str]] = []
        self.statuses: list[int] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.headers, await request.text()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


@pytest.mark.parametrize("version", ["1", "2"])
async def test_over_http_signed_and_verified_as_aws_documents_it(
    db: Db, seal: Signer, receiver: Receiver, version: str
) -> None:
    await db.write(lambda c: topics.set_attributes(c, TOPIC, {"SignatureVersion": version}))
    await subscribe(db, receiver.url, DeliveryPolicy=QUICK)
    receiver.statuses = [503, 500]
    await publish(db, "a", message="Größe\n", subject="s")
    async with delivering(db, seal, Clock()):
        (outcome,) = await settled(db, "a")
    assert (outcome.state, outcome.attempts) == ("delivered", 3)
    headers, text = receiver.requests[-1]
    assert headers["x-amz-sns-message-id"] == "a"
    envelope = json.loads(text)
    assert envelope["SigningCertURL"] == "http://here/_slipway/sns/SimpleNotificationService.pem"
    key = x509.load_pem_x509_certificate(seal.certificate()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    names = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
    signed = "".join(f"{name}\n{envelope[name]}\n" for name in names).encode()
    digest = hashes.SHA256() if version == "2" else hashes.SHA1()
    key.verify(base64.b64decode(envelope["Signature"]), signed, padding.PKCS1v15(), digest)


async def test_over_http_a_refusal_of_the_endpoint_is_final(db: Db, seal: Signer, receiver: Receiver) -> None:
    redrive = json.dumps({"deadLetterTargetArn": DEAD})
    await subscribe(db, receiver.url, RedrivePolicy=redrive, RawMessageDelivery="true")
    receiver.statuses = [404]
    await publish(db, "a", message="plain", attributes={"n": Attribute("Number", "1")})
    async with delivering(db, seal, Clock()):
        (outcome,) = await settled(db, "a")
    assert (outcome.state, outcome.cause, outcome.attempts) == ("dead-letter", "The endpoint answered 404.", 1)
    assert await dead_letters(db) == ["plain"]
