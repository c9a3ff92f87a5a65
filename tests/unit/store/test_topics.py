"""Topics in the store, on both databases: what a publication writes, and what is committed with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from slipway.core.filter_policies import TooMuchWork
from slipway.core.queue_messages import Received
from slipway.core.sns_messages import Attribute, Notice, sealed_text, signed_text
from slipway.store import queue_messages, queues, topics, topics_outbox
from slipway.store.db import Connection, Db
from slipway.store.queues import QueueRow
from slipway.store.topics import Subscription, Topic
from slipway.store.topics_outbox import ANNOUNCED, Outcome
from tests.deadlines import PATIENCE

T = TypeVar("T")
ACCOUNT = "123456789012"
TOPIC = f"arn:aws:sns:eu-west-1:{ACCOUNT}:results"
QUEUE = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:inbox"
NOW = 1_700_000_000.0


def subscription(name: str, protocol: str, endpoint: str, **more: str) -> Subscription:
    """A confirmed one; `more` are attributes."""
    return Subscription(f"{TOPIC}:{name}", TOPIC, ACCOUNT, protocol, endpoint, more, state="confirmed", created=NOW)


@pytest.fixture
async def topic(db: Db) -> None:
    def write(connection: Connection) -> None:
        assert topics.create(connection, Topic(TOPIC, ACCOUNT, "eu-west-1", "results", {"DisplayName": "R"}, NOW)) is None
        queues.create(connection, QueueRow(QUEUE, 0, ACCOUNT, "eu-west-1", "inbox", created=NOW))

    await db.write(write)


async def add(db: Db, *rows: Subscription) -> None:
    def write(connection: Connection) -> None:
        for row in rows:
            topics.subscribe(connection, row)

    await db.write(write)


async def receive(db: Db, queue: str = QUEUE) -> list[Received]:
    def take(connection: Connection) -> list[Received]:
        row = queues.get(connection, queue)
        assert row is not None
        return queue_messages.receive(connection, row, 10, 30.0, NOW + 1)

    return await db.write(take)


async def bodies(db: Db, queue: str = QUEUE) -> list[str]:
    return [found.body for found in await receive(db, queue)]


async def publish(db: Db, notice: Notice, **more: Any) -> topics.Published:
    published = await db.write(lambda c: topics.publish(c, TOPIC, notice, NOW, **more))
    assert published is not None
    return published


class FakeSeal:
    url = "http://here"
    certificate_url = "http://here/c.pem"

    def __init__(self) -> None:
        self.signed: list[tuple[bytes, str]] = []

    def sign(self, text: bytes, version: str) -> str:
        self.signed.append((text, version))
        return f"signature {len(self.signed)}"


@pytest.mark.usefixtures("topic")
async def test_a_topic_is_there_once(db: Db) -> None:
    again = Topic(TOPIC, ACCOUNT, "eu-west-1", "results", {}, NOW + 1)
    present = await db.write(lambda c: topics.create(c, again))
    assert present == Topic(TOPIC, ACCOUNT, "eu-west-1", "results", {"DisplayName": "R"}, NOW)
    assert await db.read(lambda c: topics.count(c, ACCOUNT, "eu-west-1")) == 1
    assert await db.read(lambda c: topics.find(c, ACCOUNT, "eu-west-1", "", 10)) == [present]
    assert await db.read(lambda c: topics.find(c, ACCOUNT, "eu-west-1", TOPIC, 10)) == []
    assert await db.read(lambda c: topics.find(c, ACCOUNT, "us-east-1", "", 10)) == []


async def test_no_topic_is_none(db: Db) -> None:
    assert await db.write(lambda c: topics.publish(c, TOPIC, Notice("m"), NOW)) is None


@pytest.mark.usefixtures("topic")
async def test_a_topic_without_subscriptions_takes_messages(db: Db) -> None:
    assert await publish(db, Notice("m", id="the-id")) == topics.Published("the-id")


@pytest.mark.usefixtures("topic")
async def test_one_row_for_each_subscription(db: Db) -> None:
    other = QUEUE.replace("inbox", "other")
    await db.write(lambda c: queues.create(c, QueueRow(other, 0, ACCOUNT, "eu-west-1", "other", created=NOW)))
    await add(
        db,
        subscription("1", "sqs", QUEUE),
        subscription("2", "sqs", other, RawMessageDelivery="true"),
        subscription("3", "https", "https://example.com/a"),
        subscription("4", "http", "http://example.com/b"),
        replace(subscription("5", "http", "http://example.com/c"), state="pending"),
        replace(subscription("6", "http", "http://example.com/d"), state="gone"),
        replace(subscription("7", "email", "a@example.com"), state="pending"),
    )
    attributes = {"k": Attribute("String", "v"), "b": Attribute("Binary", "AAE=")}
    seal = FakeSeal()
    notice = Notice("text", "subject", attributes, {"sqs": "for queues", "https": "for https"})
    published = await publish(db, notice, seal=seal, new_id=lambda: "id-1")
    assert published == topics.Published("id-1", queues=2, pending=2)
    assert seal.signed == [], "the writer signs nothing"
    (received,) = await receive(db)
    assert received.seal == "1"
    envelope = json.loads(sealed_text(received.body, seal, "1"))
    assert seal.signed == [(signed_text(envelope), "1")]
    assert list(envelope) == [
        "Type",
        "MessageId",
        "TopicArn",
        "Subject",
        "Message",
        "Timestamp",
        "SignatureVersion",
        "Signature",
        "SigningCertURL",
        "UnsubscribeURL",
        "MessageAttributes",
    ]
    assert (envelope["Message"], envelope["Subject"], envelope["MessageId"]) == ("for queues", "subject", "id-1")
    assert envelope["Timestamp"] == "2023-11-14T22:13:20.000Z"
    assert envelope["Signature"] == "signature 1"
    assert envelope["UnsubscribeURL"] == f"http://here/_slipway/sns/?Action=Unsubscribe&SubscriptionArn={TOPIC}:1"
    assert envelope["MessageAttributes"]["b"] == {"Type": "Binary", "Value": "AAE="}
    assert await bodies(db, other) == ["for queues"]
    waiting = await db.read(topics_outbox.waiting)
    assert waiting == {f"{TOPIC}:3": NOW, f"{TOPIC}:4": NOW}
    (row,) = await db.read(lambda c: topics_outbox.due(c, f"{TOPIC}:3", NOW, 10))
    assert (row.message, row.body["text"], row.attempts) == ("id-1", "for https", 0)
    assert row.body["attributes"] == {"k": ["String", "v"], "b": ["Binary", "AAE="]}


@pytest.mark.usefixtures("topic")
async def test_without_a_seal_the_envelope_is_unsigned(db: Db) -> None:
    await add(db, subscription("1", "sqs", QUEUE))
    await publish(db, Notice("m"))
    (received,) = await receive(db)
    assert received.seal is None
    assert "Signature" not in json.loads(received.body)


@pytest.mark.usefixtures("topic")
async def test_an_envelope_is_signed_also_out_of_a_dead_letter_queue(db: Db) -> None:
    redrive = json.dumps({"deadLetterTargetArn": QUEUE})
    await add(db, subscription("1", "sqs", QUEUE.replace("inbox", "gone"), RedrivePolicy=redrive))
    await db.write(lambda c: topics.set_attributes(c, TOPIC, {"SignatureVersion": "2"}))
    await publish(db, Notice("m"), seal=FakeSeal())
    (received,) = await receive(db)
    assert received.seal == "2"


@pytest.mark.usefixtures("topic")
async def test_several_at_once(db: Db) -> None:
    """In their order, in few statements, and one that is too much work by itself."""
    large = "x" * (topics.PUBLICATION_BYTES // 2 + 1)
    rules = {"FilterPolicy": '{"k": ["v"]}'}
    await add(db, subscription("1", "sqs", QUEUE), subscription("2", "sqs", QUEUE.replace("inbox", "gone"), **rules))
    wanted = {"k": Attribute("String", "v")}
    notices = [Notice("a", id="1"), Notice(large, attributes=wanted, id="2"), Notice("b", attributes=wanted, id="3")]
    told = await db.write(lambda c: topics.publish_all(c, TOPIC, notices, NOW))
    assert told is not None
    assert told[0] == topics.Published("1", 1)
    assert isinstance(told[1], TooMuchWork)
    assert told[2] == topics.Published("3", 1, failed=1)
    assert [json.loads(body)["Message"] for body in await bodies(db)] == ["a", "b"]
    assert await db.write(lambda c: topics.publish_all(c, f"{TOPIC}-not", notices, NOW)) is None


@pytest.mark.usefixtures("topic")
async def test_all_or_nothing(db: Db) -> None:
    await add(db, subscription("1", "sqs", QUEUE), subscription("2", "http", "http://example.com/"))

    def write(connection: Connection) -> None:
        topics.publish(connection, TOPIC, Notice("m"), NOW)
        raise ValueError("the caller changed its mind")

    with pytest.raises(ValueError, match="changed its mind"):
        await db.write(write)
    assert await bodies(db) == []
    assert await db.read(topics_outbox.waiting) == {}


@pytest.mark.usefixtures("topic")
async def test_the_deliverer_is_told_after_the_commit(db: Db) -> None:
    await add(db, subscription("2", "http", "http://example.com/"))
    with db.watch(ANNOUNCED) as watch:
        await publish(db, Notice("m"))
        assert await watch.wait(PATIENCE)


@pytest.mark.usefixtures("topic")
async def test_a_policy_that_is_not_met(db: Db) -> None:
    await add(
        db,
        subscription("1", "sqs", QUEUE, FilterPolicy='{"k": ["v"]}'),
        subscription("2", "http", "http://example.com/", FilterPolicy='{"n": [1]}', FilterPolicyScope="MessageBody"),
    )
    assert await publish(db, Notice('{"n": 1}', id="a")) == topics.Published("a", 0, 1)
    assert await publish(db, Notice("{}", attributes={"k": Attribute("String", "v")}, id="b")) == topics.Published("b", 1, 0)
    rules = [{"prefix": str(n)} for n in range(150)]
    deep = {"FilterPolicy": json.dumps({"n": rules}), "FilterPolicyScope": "MessageBody"}
    await add(db, subscription("3", "http", "http://example.com/3", **deep))
    with pytest.raises(TooMuchWork):
        await publish(db, Notice(json.dumps({"n": ["x"] * 10_000}), id="c"))
    assert await db.read(lambda c: topics_outbox.outcomes_of(c, ["c"])) == []


@pytest.mark.usefixtures("topic")
async def test_a_queue_that_is_gone(db: Db) -> None:
    gone = QUEUE.replace("inbox", "gone")
    redrive = json.dumps({"deadLetterTargetArn": QUEUE})
    await add(db, subscription("1", "sqs", gone, RedrivePolicy=redrive), subscription("2", "sqs", f"{gone}2"))
    assert await publish(db, Notice("m", id="a")) == topics.Published("a", failed=2)
    found = {outcome.subscription: outcome for outcome in await db.read(lambda c: topics_outbox.outcomes_of(c, ["a"]))}
    assert found[f"{TOPIC}:1"].state == "dead-letter"
    assert found[f"{TOPIC}:2"].state == "failed"
    assert found[f"{TOPIC}:2"].cause == f"The queue {gone}2 does not exist."
    assert len(await bodies(db)) == 1


@pytest.mark.usefixtures("topic")
async def test_what_becomes_of_a_delivery(db: Db) -> None:
    arn = f"{TOPIC}:1"
    await add(db, subscription("1", "http", "http://example.com/"))
    for id in ("a", "b"):
        await publish(db, Notice("m", id=id))
    first, second = await db.read(lambda c: topics_outbox.due(c, arn, NOW, 10))
    await db.write(lambda c: topics_outbox.postpone(c, first.id, 1, NOW + 20, "no answer"))
    assert [row.id for row in await db.read(lambda c: topics_outbox.due(c, arn, NOW, 10))] == [second.id]
    assert (await db.read(topics_outbox.waiting))[arn] == NOW
    done = Outcome("b", arn, "delivered", "", 1, NOW)
    assert await db.write(lambda c: topics_outbox.settle(c, second.id, done))
    assert not await db.write(lambda c: topics_outbox.settle(c, second.id, done)), "settled once"
    pending, delivered = await db.read(lambda c: topics_outbox.outcomes_of(c, ["a", "b", "c"]))
    assert pending == Outcome("a", arn, "pending", "no answer", 1, NOW + 20)
    assert delivered == done
    assert (await db.read(topics_outbox.waiting))[arn] == NOW + 20
    assert not await db.write(lambda c: topics.purge(c, NOW + topics_outbox.KEPT_SECONDS + 1))
    assert [one.state for one in await db.read(lambda c: topics_outbox.outcomes_of(c, ["a", "b"]))] == ["pending"]


@pytest.mark.usefixtures("topic")
@pytest.mark.parametrize("remove", [lambda c: topics.remove(c, TOPIC), lambda c: topics.unsubscribe(c, f"{TOPIC}:1")])
async def test_who_is_gone_gets_nothing_more(db: Db, remove: Callable[[Connection], bool]) -> None:
    await add(db, subscription("1", "http", "http://example.com/"))
    await publish(db, Notice("m"))
    assert await db.write(remove)
    assert not await db.write(remove)
    assert await db.read(topics_outbox.waiting) == {}
    assert await db.read(lambda c: topics.subscription(c, f"{TOPIC}:1")) is None


@pytest.mark.usefixtures("topic")
async def test_tokens_and_lists(db: Db) -> None:
    row = Subscription(
        f"{TOPIC}:1", TOPIC, ACCOUNT, "http", "http://a/", token=topics.token_digest("t"), token_expires=NOW, created=NOW
    )
    gone = replace(subscription("2", "http", "http://b/"), state="gone")
    await add(db, row, gone)
    assert await db.read(lambda c: topics.by_token(c, TOPIC, "t")) == row
    assert await db.read(lambda c: topics.by_token(c, TOPIC, "u")) is None
    assert await db.read(lambda c: topics.by_token(c, f"{TOPIC}x", "t")) is None
    assert await db.read(lambda c: topics.subscribed(c, TOPIC, "http", "http://b/")) == gone
    everything = {"account": ACCOUNT, "region": "eu-west-1"}
    assert await db.read(lambda c: topics.list_subscriptions(c, "", 10, **everything)) == [row]
    assert await db.read(lambda c: topics.list_subscriptions(c, "", 10, topic=TOPIC)) == [row]
    assert await db.read(lambda c: topics.list_subscriptions(c, row.arn, 10, topic=TOPIC)) == []
    assert await db.read(lambda c: topics.list_subscriptions(c, "", 10, account=ACCOUNT, region="eu-west-2")) == []
    assert await db.read(lambda c: topics.counts(c, TOPIC)) == {"pending": 1, "gone": 1}
    await db.write(lambda c: topics.purge(c, NOW - 1))
    assert await db.read(lambda c: topics.subscription(c, row.arn)) == row
    await db.write(lambda c: topics.purge(c, NOW))
    assert await db.read(lambda c: topics.subscription(c, row.arn)) is None


async def test_old_outcomes_are_forgotten_some_at_a_time(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics_outbox, "PURGED", 2)

    def write(connection: Connection) -> None:
        for n in range(5):
            topics_outbox.record(connection, Outcome(f"m{n}", "s", "delivered", at=NOW + n // 4))

    await db.write(write)
    later = NOW + topics_outbox.KEPT_SECONDS + 0.5
    assert [await db.write(lambda c: topics.purge(c, later)) for _ in range(3)] == [True, True, False]
    left = await db.read(lambda c: topics_outbox.outcomes_of(c, [f"m{n}" for n in range(5)]))
    assert [outcome.message for outcome in left] == ["m4"]
