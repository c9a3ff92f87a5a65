"""Where batches of a transform job go: one ahead to each worker that is at one, and no more at work than the job says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from slipway.core.routing import Endpoint, Replica, RouteTable, Variant, endpoint_key
from slipway.core.transforms import TransformOptions
from slipway.data import transforms_places
from slipway.data.lanes import DataLimits
from slipway.data.transforms_calls import Caller, Refused, Result
from slipway.data.transforms_places import TransformSlots, TransformVariant
from slipway_host.frames import MAX_BODY
from tests.unit.data.workers import Asked, Told, Worker, workers
from tests.unit.http.serving import until

OPTIONS = TransformOptions("arn:j", "out")
KEY = endpoint_key("1", "r", "transform-job/j")
LARGE = 3 * MAX_BODY


class Gate:
    """Answers of workers wait for it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def answer(self, asked: Asked) -> Told:
        await self.open.wait()
        return Told(body=asked.body[:10])


@contextlib.asynccontextmanager
async def instance(*found: Worker, known: bool = True) -> AsyncIterator[TransformVariant]:
    """`known`: that batches are short."""
    slots = TransformSlots(DataLimits())
    variant = Variant("instances", 1.0, (Replica("i-1", "i-1", "frames", tuple(worker.address for worker in found)),))
    slots.apply(RouteTable(1, {KEY: Endpoint("1", "r", "transform-job/j", (variant,), transform=OPTIONS)}))
    places = cast("TransformVariant", slots.endpoints[KEY].by_name["i-1"])
    await until(lambda: len(places.lanes) == len(found))
    if known:
        places.measured(0.01)
    try:
        yield places
    finally:
        slots.close()


@pytest.mark.parametrize("size", [10, LARGE], ids=["frame", "http"])
async def test_the_next_batch_waits_at_the_worker_that_is_at_one(tmp_path: Path, size: int) -> None:
    gate = Gate()
    async with workers(tmp_path, 2, gate.answer) as found, instance(*found) as places:
        places.most = 1
        caller = Caller([places], OPTIONS)
        asking = [asyncio.create_task(caller.ask(b"%d" % number * size, 0)) for number in range(3)]
        await until(lambda: sum(lane.busy for lane in places.lanes) == 2)
        assert sorted(lane.busy for lane in places.lanes) == [0, 2], "MaxConcurrentTransforms=1: one worker is at work"
        assert places.waiting == 1
        await until(lambda: caller.requests > 0)
        assert sum(len(worker.asked) for worker in found) == 1
        assert caller.requests == 1, "what is ahead has not begun"
        gate.open.set()
        answers = await asyncio.gather(*asking)
        assert [answer.body for answer in answers] == [b"%d" % number * 10 for number in range(3)]
        assert caller.requests == 3


async def test_every_worker_is_at_one_before_any_has_two(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 2, gate.answer) as found, instance(*found) as places:
        caller = Caller([places], OPTIONS)
        asking = [asyncio.create_task(caller.ask(b"x" * LARGE, 0)) for _ in range(5)]
        await until(lambda: sum(lane.busy for lane in places.lanes) == 4)
        assert [lane.busy for lane in places.lanes] == [2, 2]
        assert places.waiting == 1
        gate.open.set()
        await asyncio.gather(*asking)


async def test_long_batches_are_not_sent_ahead(tmp_path: Path) -> None:
    """Nor what comes before anybody knows how long they are."""
    gate = Gate()
    async with workers(tmp_path, 1, gate.answer) as found, instance(*found, known=False) as places:
        caller = Caller([places], OPTIONS)
        asking = [asyncio.create_task(caller.ask(b"x" * LARGE, 0)) for _ in range(2)]
        await until(lambda: places.waiting == 1)
        assert [lane.busy for lane in places.lanes] == [1]
        gate.open.set()
        await asyncio.gather(*asking)


async def test_a_batch_that_was_ahead_of_a_death_goes_to_another_worker(tmp_path: Path) -> None:
    """Without a retry of its own: the one that was begun has to be tried again."""
    gate = Gate()
    async with workers(tmp_path, 2, gate.answer) as found, instance(*found) as places:
        places.most = 1
        caller = Caller([places], OPTIONS)
        begun = asyncio.create_task(caller.ask(b"a" * LARGE, 0))
        await until(lambda: caller.requests == 1)
        ahead = asyncio.create_task(caller.ask(b"b" * LARGE, 0))
        await until(lambda: [lane.busy for lane in places.lanes].count(2) == 1)
        dead = next(worker for worker in found if worker.asked)
        await dead.kill()
        gate.open.set()
        with pytest.raises(Refused):
            await begun
        assert (await ahead).body == b"b" * 10
        assert caller.requests == 2


async def test_what_kills_workers_while_it_arrives_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms_places, "MOST_SENT", 3)

    class Fragile(Worker):
        async def _ask(self, asked: Asked, writer: asyncio.StreamWriter, first: bytes) -> Told:
            raise ConnectionError

    worker = await Fragile(tmp_path / "w0.sock").start()
    try:
        async with instance(worker) as places:
            with pytest.raises(Refused, match="exited"):
                await Caller([places], OPTIONS).ask(b"x" * LARGE, 0)
    finally:
        await worker.kill()


async def test_a_pipelines_request_has_one_time_limit(tmp_path: Path) -> None:
    async def slow(asked: Asked) -> Told:
        await asyncio.sleep(0.2)
        return Told(head=[(b"content-type", b"text/first")], body=asked.body)

    options = replace(OPTIONS, timeout=10, content_type="text/csv", accept="a/b")
    async with workers(tmp_path, 2) as (one, two), instance(one) as first, instance(two) as second:
        one.answer = slow
        assert await Caller([first, second], options).ask(b"x", 0) == Result(b"x", "text/plain")
        assert (one.asked[0].timeout, two.asked[0].timeout <= 9800) == (10_000, True)
        assert one.asked[0].head == [(b"content-type", b"text/csv")]
        assert two.asked[0].head == [(b"content-type", b"text/first"), (b"accept", b"a/b")]
        two.answer = Gate().answer
        with pytest.raises(Refused, match=r"container .* did not answer within 1 s"):
            await Caller([first, second], replace(options, timeout=1)).ask(b"x", 0)
