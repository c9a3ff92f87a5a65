"""Events of buckets are committed with the object, or not at all; on both databases."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slipway.core.filter_policies import TooMuchWork
from slipway.core.s3_events import Origin, Rule
from slipway.store import bucket_notifications, objects, queue_messages, queues, topics
from slipway.store.db import Connection, Db
from slipway.store.objects import BucketRow, Expect, ObjectRow, Precondition
from slipway.store.queues import QueueRow
from tests.deadlines import PATIENCE

QUEUE = "arn:aws:sqs:r:1:q"
ROW = ObjectRow("b", "a/k", 3, "etag", 5.0, data=b"xyz")


@pytest.fixture
async def bucket(db: Db) -> Db:
    def prepare(connection: Connection) -> None:
        objects.insert_bucket(connection, BucketRow("b", "1", "r", 1.0))
        queues.create(connection, QueueRow(QUEUE, 0, "1", "r", "q", {}, 1.0, 1.0))
        rule = Rule("id", "queue", QUEUE, ("s3:ObjectCreated:*", "s3:ObjectRemoved:*"), prefix="a/")
        objects.set_notifications(connection, "b", [rule])

    await db.write(prepare)
    return db


async def told(db: Db) -> list[tuple[str, str]]:
    def take(connection: Connection) -> list[tuple[str, str]]:
        queue = queues.get(connection, QUEUE)
        assert queue is not None
        found = queue_messages.receive(connection, queue, 100, 0.0, 100.0)
        queue_messages.discard(connection, [message.receipt for message in found])
        (*records,) = (record for message in found for record in json.loads(message.body)["Records"])
        return [(record["eventName"], record["s3"]["object"]["key"]) for record in records]

    return await db.write(take)


async def test_every_write_of_the_store_tells(bucket: Db) -> None:
    await bucket.write(lambda c: objects.put_object(c, ROW))
    await bucket.write(lambda c: objects.put_object(c, replace(ROW, key="b/k")))
    many = [replace(ROW, key=key) for key in ("a/1", "b/1", "a/2", "a/1")]
    await bucket.write(lambda c: objects.put_objects(c, "b", many, Origin("ObjectCreated:Copy")))
    for key in ("a/k", "a/k", "a/never", "b/k"):
        await bucket.write(lambda c, key=key: objects.delete_object(c, "b", key, now=6.0))  # type: ignore[misc]
    assert await told(bucket) == [
        ("ObjectCreated:Put", "a/k"),
        ("ObjectCreated:Copy", "a/1"),
        ("ObjectCreated:Copy", "a/2"),
        ("ObjectCreated:Copy", "a/1"),
        ("ObjectRemoved:Delete", "a/k"),
    ]


async def test_what_is_undone_is_not_told(bucket: Db) -> None:
    with pytest.raises(Precondition):
        await bucket.write(lambda c: objects.put_object(c, ROW, Expect(etag="other")))

    def fail(connection: Connection) -> None:
        objects.put_object(connection, ROW)
        raise ValueError("later in the transaction")

    with pytest.raises(ValueError, match="later"):
        await bucket.write(fail)
    assert await told(bucket) == []


async def test_whoever_waits_for_the_queue_hears_of_it(bucket: Db) -> None:
    with bucket.watch(queues.topic_of(QUEUE)) as watch:
        await bucket.write(lambda c: objects.put_object(c, ROW))
        assert await watch.wait(PATIENCE)


async def test_destinations_that_are_gone(bucket: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [
        Rule("one", "queue", "arn:aws:sqs:r:1:gone", ("s3:ObjectCreated:*",)),
        Rule("two", "topic", "arn:aws:sns:r:1:gone", ("s3:ObjectCreated:*",)),
    ]
    for rule in rules:
        assert not await bucket.write(lambda c, rule=rule: bucket_notifications.send(c, rule, ["x"], Origin(), 1.0))  # type: ignore[misc]
    await bucket.write(lambda c: objects.set_notifications(c, "b", rules))
    await bucket.write(lambda c: objects.put_object(c, ROW))

    def too_much(*_: object, **__: object) -> list[TooMuchWork]:
        return [TooMuchWork("is too much")]

    monkeypatch.setattr(topics, "publish_all", too_much)
    await bucket.write(lambda c: objects.put_object(c, ROW))
    assert await bucket.read(lambda c: objects.get_object(c, "b", "a/k", content=False)) is not None
