"""Queues in the store: sending, receiving, visibility, redrive, retention, and watches; on both databases."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from slipway.core.queue_attributes import Redrive
from slipway.core.queue_messages import Attribute, Message, Receipt, Received
from slipway.store import queue_messages, queues
from slipway.store.announcements import announce
from slipway.store.db import Connection, Db
from slipway.store.queue_messages import Counts
from slipway.store.queues import QueueRow
from tests.deadlines import PATIENCE

ARN = "arn:aws:sqs:eu-central-1:123456789012:q"


def row(name: str = "q", **attributes: Any) -> QueueRow:
    values = {key: str(value) for key, value in attributes.items()}
    return QueueRow(ARN[:-1] + name, 0, "123456789012", "eu-central-1", name, values, 1.0, 1.0)


async def create(db: Db, name: str = "q", **attributes: Any) -> QueueRow:
    def write(connection: Connection) -> QueueRow:
        made = row(name, **attributes)
        assert queues.create(connection, made) is None
        found = queues.get(connection, made.arn)
        assert found is not None
        return found

    return await db.write(write)


async def send(db: Db, body: str = "x", now: float = 0.0, arn: str = ARN, **more: Any) -> str | None:
    return await db.write(lambda c: queues.send(c, arn, Message(body, **more), now))


async def receive(db: Db, queue: QueueRow, now: float, visibility: float = 30.0, most: int = 10) -> list[Received]:
    return await db.write(lambda c: queue_messages.receive(c, queue, most, visibility, now))


async def test_sending_to_no_queue(db: Db) -> None:
    assert await send(db) is None


async def test_a_message_keeps_all_it_came_with(db: Db) -> None:
    queue = await create(db)
    attributes = {"a": Attribute("String", "ä"), "b": Attribute("Binary.x", b"\x00\xff"), "c": Attribute("Number", "1")}
    uid = await send(db, "grüße\n", 5.0, attributes=attributes, sender="me", trace="Root=1", group="g")
    assert uid is not None
    assert str(uuid.UUID(uid)) == uid
    (found,) = await receive(db, queue, 7.0)
    assert found == Received(uid, "grüße\n", attributes, found.receipt, 5.0, 7.0, 1, "me", "Root=1", "g", None)


async def test_messages_come_in_the_order_they_became_visible(db: Db) -> None:
    queue = await create(db)
    await send(db, "late", 0.0, delay=5)
    for n in range(12):
        await send(db, str(n), 1.0)
    assert [m.body for m in await receive(db, queue, 10.0)] == [str(n) for n in range(10)]
    assert [m.body for m in await receive(db, queue, 10.0)] == ["10", "11", "late"]


async def test_a_batch_and_the_queues_own_delay(db: Db) -> None:
    queue = await create(db, DelaySeconds=10)
    ids = await db.write(lambda c: queues.send_all(c, queue, [Message("a"), Message("b", delay=0)], 1.0))
    assert len(set(ids)) == 2
    assert await db.write(lambda c: queues.send_all(c, queue, [], 1.0)) == []
    assert await db.read(lambda c: queue_messages.counts(c, queue, 1.0)) == Counts(1, 0, 1)
    assert [m.id for m in await receive(db, queue, 1.0)] == [ids[1]]
    assert await db.read(lambda c: queue_messages.counts(c, queue, 1.0)) == Counts(0, 1, 1)
    assert await db.read(lambda c: queue_messages.next_visible(c, queue, 1.0)) == 11.0
    assert await db.read(lambda c: queue_messages.oldest(c, queue)) == 1.0


async def test_receiving_hides_and_a_new_receive_voids_the_old_receipt(db: Db) -> None:
    queue = await create(db)
    await send(db)
    (first,) = await receive(db, queue, 1.0)
    assert await receive(db, queue, 30.9) == []
    (second,) = await receive(db, queue, 31.0)
    assert (second.id, second.receives, second.first_received) == (first.id, 2, 1.0)
    assert second.receipt.token != first.receipt.token
    await db.write(lambda c: queue_messages.discard(c, [first.receipt]))
    assert await db.read(lambda c: queue_messages.counts(c, queue, 31.0)) == Counts(0, 1, 0)
    await db.write(lambda c: queue_messages.discard(c, [second.receipt, first.receipt, Receipt(10**9, "00")]))
    assert await db.read(lambda c: queue_messages.counts(c, queue, 31.0)) == Counts(0, 0, 0)
    await db.write(lambda c: queue_messages.discard(c, []))


async def test_changing_visibility(db: Db) -> None:
    queue = await create(db)
    await send(db)
    (found,) = await receive(db, queue, 1.0)

    async def hide(seconds: float, now: float, receipt: Receipt = found.receipt) -> bool | None:
        return await db.write(lambda c: queue_messages.hide(c, queue, receipt, seconds, now))

    assert await hide(100, 2.0) is True
    assert await receive(db, queue, 101.0) == []
    assert await hide(0, 50.0) is True
    assert await hide(10, 50.0) is False
    assert await hide(10, 50.0, Receipt(found.receipt.message, "00" * 16)) is None
    assert len(await receive(db, queue, 50.0)) == 1
    assert await hide(10, 50.0) is None


async def test_redrive(db: Db) -> None:
    queue, dead = await create(db), await create(db, "dead")
    for n in range(25):
        await send(db, str(n))
    redrive = (Redrive(dead.arn, 1), dead)

    async def take(now: float) -> list[str]:
        found = await db.write(lambda c: queue_messages.receive(c, queue, 10, 10.0, now, redrive))
        return [m.body for m in found]

    assert await take(0.0) == [str(n) for n in range(10)]
    await send(db, "new", 20.0)
    assert await take(20.0) == [str(n) for n in range(10, 20)], "those that were not received yet lie before the spent ones"
    assert sorted(await take(25.0)) == ["20", "21", "22", "23", "24", "new"]
    assert await db.read(lambda c: queue_messages.counts(c, queue, 25.0)) == Counts(0, 16, 0)
    moved = await receive(db, dead, 25.0)
    assert [m.body for m in moved] == [str(n) for n in range(10)]
    assert {(m.source, m.sent, m.receives) for m in moved} == {(queue.arn, 0.0, 2)}


async def test_a_receive_that_only_moves_has_its_watchers_look_again(db: Db) -> None:
    queue, dead = await create(db), await create(db, "dead")
    most = queue_messages.ROUNDS
    await db.write(lambda c: queues.send_all(c, queue, [Message(str(n)) for n in range(most + 1)], 0.0))
    for _ in range(most + 1):
        await receive(db, queue, 0.0, 1.0, 1)
    redrive = (Redrive(dead.arn, 1), dead)
    with db.watch(queues.topic_of(queue.arn)) as watch:
        assert await db.write(lambda c: queue_messages.receive(c, queue, 1, 1.0, 5.0, redrive)) == []
        assert await watch.wait(PATIENCE)
    assert await db.read(lambda c: queue_messages.counts(c, dead, 5.0)) == Counts(most, 0, 0)


async def test_the_bound_of_messages_in_flight(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_messages, "IN_FLIGHT", 3)
    queue = await create(db)
    for _ in range(5):
        await send(db)
        await send(db, delay=100)
    assert len(await receive(db, queue, 0.0, most=3)) == 3
    with pytest.raises(queue_messages.TooManyInFlight):
        await receive(db, queue, 0.0)
    assert await db.read(lambda c: queue_messages.counts(c, queue, 0.0)) == Counts(2, 3, 5)


async def test_purging_and_deleting_leave_what_the_sweep_takes(db: Db) -> None:
    queue, other = await create(db), await create(db, "other")
    for n in range(5):
        await send(db, str(n))
        await send(db, str(n), arn=other.arn)
    await db.write(lambda c: queues.purge(c, ARN, 9.0))
    purged = await db.read(lambda c: queues.get(c, ARN))
    assert purged is not None
    assert (purged.purged, purged.id == queue.id) == (9.0, False)
    assert await receive(db, purged, 9.0) == []
    await send(db, "after", 9.0)
    assert await db.write(lambda c: queues.remove(c, other.arn))
    assert not await db.write(lambda c: queues.remove(c, other.arn))
    assert [await db.write(lambda c: queue_messages.sweep(c, 9.0, 4)) for _ in range(4)] == [4, 4, 2, 0]
    assert [m.body for m in await receive(db, purged, 9.0)] == ["after"]


async def test_retention(db: Db) -> None:
    queue, short = await create(db), await create(db, "short", MessageRetentionPeriod=60)
    for arn in (queue.arn, short.arn):
        await send(db, "old", 0.0, arn)
        await send(db, "new", 30.0, arn)
    assert [m.body for m in await receive(db, short, 60.0, 0.0)] == ["new"]
    assert await db.write(lambda c: queue_messages.sweep(c, 60.0)) == 1
    assert await db.write(lambda c: queue_messages.sweep(c, 90.0)) == 1
    assert [m.body for m in await receive(db, queue, 90.0)] == ["old", "new"]
    assert await db.write(lambda c: queue_messages.sweep(c, 345_600.0)) == 1


async def test_finding_queues(db: Db) -> None:
    for name in ("b", "a", "B", "ab"):
        await create(db, name)

    async def names(prefix: str = "", after: str = "", limit: int = 10) -> list[str]:
        rows = await db.read(lambda c: queues.find(c, "123456789012", "eu-central-1", prefix, after, limit))
        return [found.name for found in rows]

    assert await names() == ["B", "a", "ab", "b"]
    assert await names("a") == ["a", "ab"]
    assert await names(after="a", limit=1) == ["ab"]
    assert await db.read(lambda c: queues.find(c, "123456789012", "us-east-1", "", "", 10)) == []


async def test_every_query_of_a_receive_is_by_index(tmp_path: Path) -> None:
    """A queue of a million is as fast as one of ten: no query of the hot path reads or sorts the table."""
    db = await Db.open(str(tmp_path / "db"))
    queue = await create(db)

    def plans(connection: Connection) -> Sequence[str]:
        m = queues.messages.c
        query = select(queues.messages).where(m.queue == queue.id, m.visible <= 5.0, m.sent > 1.0).order_by(m.visible, m.id)
        text = str(query.limit(10).compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        return [found[3] for found in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]

    (plan,) = await db.read(plans)
    assert "ix_sqs_messages_receivable" in plan
    await db.close()


# Watches


async def test_a_watch_is_woken_by_the_commit(db: Db) -> None:
    await create(db)
    with db.watch(queues.topic_of(ARN)) as watch, db.watch("another") as other:
        assert not await watch.wait(0.0)
        await send(db)
        assert await watch.wait(PATIENCE)
        assert not await watch.wait(0.01), "once for each time"
        assert not await other.wait(0.0)
        await send(db)
        await send(db)
        await asyncio.sleep(0.01)
        assert await watch.wait(PATIENCE), "before the wait counts too"
    assert not db._announcements._watches


async def test_many_watches_of_several_topics(db: Db) -> None:
    with db.watch("a") as first, db.watch("a") as second, db.watch("b") as third:

        def write(connection: Connection) -> None:
            announce(connection, "a")
            announce(connection, "b")

        await db.write(write)
        for watch in (first, second, third):
            assert await watch.wait(PATIENCE)


async def test_a_failed_call_may_wake_for_nothing_but_never_swallows_anothers(db: Db) -> None:
    await create(db)

    def fail(connection: Connection) -> None:
        announce(connection, "failed")
        raise ValueError("no")

    with db.watch(queues.topic_of(ARN)) as watch:
        results = await asyncio.gather(send(db), db.write(fail), send(db), return_exceptions=True)
        assert isinstance(results[1], ValueError)
        assert await watch.wait(PATIENCE)
    with db.watch("failed") as watch:
        assert not await watch.wait(0.01), "it is not kept for those who come later"


# A model


class QueueMachine(RuleBasedStateMachine):
    """One queue against a list: what is visible, in flight, which receipt holds."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.db = self.loop.run_until_complete(Db.open(self.url))
        self.now = 1000.0
        self.model: dict[str, dict[str, Any]] = {}
        self.receipts: list[tuple[str, Receipt]] = []

    @initialize()
    def begin(self) -> None:
        name = uuid.uuid4().hex
        self.queue = self.loop.run_until_complete(create(self.db, name, MessageRetentionPeriod=500))

    def do(self, fn: Any) -> Any:
        return self.loop.run_until_complete(self.db.write(fn))

    def there(self) -> dict[str, dict[str, Any]]:
        return {uid: m for uid, m in self.model.items() if m["sent"] > self.now - 500}

    @rule(seconds=st.integers(0, 200))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(delay=st.sampled_from([0, 0, 50]))
    def send(self, delay: int) -> None:
        uid = self.do(lambda c: queues.send(c, self.queue.arn, Message("b", delay=delay), self.now))
        self.model[uid] = {"sent": self.now, "visible": self.now + delay, "receives": 0, "receipt": None}

    @rule(most=st.integers(1, 10), visibility=st.sampled_from([0, 30, 100]))
    def receive(self, most: int, visibility: int) -> None:
        found = self.do(lambda c: queue_messages.receive(c, self.queue, most, visibility, self.now))
        due = {uid: m["visible"] for uid, m in self.there().items() if m["visible"] <= self.now}
        assert len(found) == min(most, len(due))
        assert sorted(due[m.id] for m in found) == sorted(due.values())[: len(found)]
        for message in found:
            known = self.model[message.id]
            known["receives"] += 1
            assert message.receives == known["receives"]
            known["visible"], known["receipt"] = self.now + visibility, message.receipt
            self.receipts.append((message.id, message.receipt))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.receipts:
            chosen = data.draw(st.lists(st.sampled_from(self.receipts), max_size=4, unique_by=lambda r: r[0]))
            self.do(lambda c: queue_messages.discard(c, [receipt for _, receipt in chosen]))
            for uid, receipt in chosen:
                if uid in self.model and self.model[uid]["receipt"] == receipt:
                    del self.model[uid]

    @rule(data=st.data(), seconds=st.sampled_from([0, 40]))
    def hide(self, data: st.DataObject, seconds: int) -> None:
        if self.receipts:
            uid, receipt = data.draw(st.sampled_from(self.receipts))
            answer = self.do(lambda c: queue_messages.hide(c, self.queue, receipt, seconds, self.now))
            known = self.model.get(uid)
            if known is None or known["receipt"] != receipt:
                assert answer is None
            elif known["visible"] <= self.now:
                assert answer is False
            else:
                assert answer is True
                known["visible"] = self.now + seconds

    @rule()
    def sweep(self) -> None:
        self.do(lambda c: queue_messages.sweep(c, self.now))
        self.model = self.there()

    @rule()
    def purge(self) -> None:
        self.do(lambda c: queues.purge(c, self.queue.arn, self.now))
        self.queue = self.do(lambda c: queues.get(c, self.queue.arn))
        self.do(lambda c: queue_messages.sweep(c, self.now))
        self.model = {}

    @invariant()
    def the_numbers_agree(self) -> None:
        found = self.loop.run_until_complete(self.db.read(lambda c: queue_messages.counts(c, self.queue, self.now)))
        hidden = [m for m in self.model.values() if m["visible"] > self.now]
        flying = len([m for m in hidden if m["receives"]])
        assert found == Counts(len(self.model) - len(hidden), flying, len(hidden) - flying)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.db.close())
        self.loop.close()


def test_a_queue_against_a_model(database_url: str) -> None:
    machine = type("Machine", (QueueMachine,), {"url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],  # a database is too slow to shrink with
        ),
    )


# Durability

_SENDER = """
    import asyncio, sys
    from slipway.store import queues
    from slipway.store.db import Db
    from slipway.store.queues import Message, QueueRow

    async def main():
        db = await Db.open(sys.argv[1])
        await db.write(lambda c: queues.create(c, QueueRow(sys.argv[2], 0, "1", "r", "q", {}, 1.0, 1.0)))
        n = 0
        while True:
            sends = [lambda c, i=i: queues.send(c, sys.argv[2], Message(str(i)), 1.0) for i in range(n, n + 20)]
            await asyncio.gather(*map(db.write, sends))
            n += 20
            print(n, flush=True)

    asyncio.run(main())
"""


def send_until_killed(database_url: str) -> int:
    """How many messages a process says it has sent, before it is killed."""
    command = [sys.executable, "-c", textwrap.dedent(_SENDER), database_url, ARN]
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert sender.stdout is not None
    told = 0
    for line in sender.stdout:
        told = int(line)
        if told >= 200:
            break
    os.kill(sender.pid, signal.SIGKILL)
    told = max([told, *(int(line) for line in sender.stdout if line.endswith("\n"))])
    sender.wait()
    sender.stdout.close()
    return told


async def test_what_was_acknowledged_survives_a_kill(database_url: str) -> None:
    told = await asyncio.to_thread(send_until_killed, database_url)
    db = await Db.open(database_url)
    queue = await db.read(lambda c: queues.get(c, ARN))
    assert queue is not None
    bodies: list[int] = []
    while found := await receive(db, queue, 2.0, 100.0):
        bodies += [int(m.body) for m in found]
        await db.write(lambda c, found=found: queue_messages.discard(c, [m.receipt for m in found]))  # type: ignore[misc]
    assert len(bodies) == len(set(bodies))
    assert set(range(told)) <= set(bodies)
    assert await db.read(lambda c: queue_messages.counts(c, queue, 2.0)) == Counts(0, 0, 0)
    await db.close()
