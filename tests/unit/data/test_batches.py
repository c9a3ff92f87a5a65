"""Workers that answer requests together, from the gateway's side: how much they get, who fails when they die."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from slipway.data import invoke
from slipway.data.frames_link import depth_for_batches
from slipway_host import frames
from tests.deadlines import PATIENCE
from tests.unit.data.dispatching import stack
from tests.unit.data.test_slots import Asking, only, slots_of
from tests.unit.data.workers import Worker, replica, table, variant
from tests.unit.http.serving import until


class Batcher(Worker):
    """Answers `size` requests together when so many are here; dies in a batch that holds `die`."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path)
        self.size = size
        self.batches: list[list[bytes]] = []
        self.flags: list[int] = []
        self.begins: asyncio.Event | None = None
        """Set: each batch waits for it."""

    async def _frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        gathered: list[tuple[int, bytes]] = []
        while True:
            header = first + await reader.readexactly(frames.HEADER_SIZE - len(first))
            first = b""
            length, kind, flags, head_size, _, _, ident = frames.HEADER.unpack(header)
            payload = await reader.readexactly(length)
            if kind == frames.HELLO:
                writer.write(frames.hello(batch=self.size))
                continue
            self.flags.append(flags)
            gathered.append((ident, payload[head_size:]))
            if len(gathered) < self.size and not flags & frames.ALONE:
                continue
            batch, gathered = gathered, []
            self.batches.append([body for _, body in batch])
            if len(batch) > 1 or flags & frames.TELL:
                writer.write(frames.pack(frames.BEGUN, len(batch)))
            if any(body == b"die" for _, body in batch):
                await writer.drain()
                writer.close()
                return
            if self.begins is not None:
                await self.begins.wait()
            for ident, body in batch:
                writer.write(frames.pack(frames.RESPONSE, ident, 200, body=body))
            await writer.drain()


@contextlib.asynccontextmanager
async def batcher(tmp_path: Path, size: int) -> AsyncIterator[Batcher]:
    worker = Batcher(tmp_path / "b.sock", size)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.kill()


def test_depth_has_room_for_the_next_batch_however_slow_this_one_is() -> None:
    assert [depth_for_batches(seconds, 8) for seconds in (0.0001, 0.0005, 0.003, 5.0)] == [64, 16, 16, 16]


async def test_a_worker_gets_one_batch_ahead(tmp_path: Path) -> None:
    async with batcher(tmp_path, 4) as worker, slots_of() as slots:
        worker.begins = asyncio.Event()
        slots.apply(table(1, variant(replica("r1", worker))))
        await until(lambda: len(only(slots).lanes) == 1)
        calls = [Asking(b"%d" % i) for i in range(12)]
        for call in calls:
            only(slots).submit(call)
        await until(lambda: len(worker.batches) == 1)
        assert (only(slots).in_flight, only(slots).waiting) == (8, 4)
        worker.begins.set()
        assert [await call.outcome for call in calls] == [(200, b"%d" % i) for i in range(12)]
        assert [len(batch) for batch in worker.batches] == [4, 4, 4]


async def test_all_that_ran_together_fail_with_the_worker_and_the_others_are_sent_again(tmp_path: Path) -> None:
    async with batcher(tmp_path, 3) as worker, slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        await until(lambda: len(only(slots).lanes) == 1)
        calls = [Asking(body) for body in (b"1", b"2", b"3", b"4", b"die", b"6")]
        for call in calls:
            only(slots).submit(call)
        assert [await asyncio.wait_for(call.outcome, PATIENCE) for call in calls[:3]] == [(200, b"%d" % i) for i in (1, 2, 3)]
        assert [await asyncio.wait_for(call.outcome, PATIENCE) for call in calls[3:]] == [invoke.DIED] * 3
        calls = [Asking(body) for body in (b"7", b"die", b"8", b"9", b"10")]
        for call in calls:
            only(slots).submit(call)
        assert [await asyncio.wait_for(call.outcome, PATIENCE) for call in calls[:3]] == [invoke.DIED] * 3
        only(slots).submit(Asking(b"11"))
        assert [await asyncio.wait_for(call.outcome, PATIENCE) for call in calls[3:]] == [(200, b"9"), (200, b"10")]
        assert worker.batches[-1] == [b"9", b"10", b"11"]


async def test_asynchronous_requests_run_together_and_a_second_attempt_runs_alone(tmp_path: Path) -> None:
    async with batcher(tmp_path, 2) as worker, stack(tmp_path) as found:
        found.serve(variant(replica("r1", worker)))
        await until(lambda: len(found.variant.lanes) == 1)
        assert found.variant.places == 4
        worker.begins = asyncio.Event()
        for body in (b"1", b"2"):
            found.control.submit(found.control.request(body))
        await until(lambda: len(worker.batches) == 1)
        await until(lambda: len(found.control.started) == 2)
        worker.begins.set()
        await until(lambda: len(found.control.outcomes) == 2)
        assert {outcome.kind for outcome in found.control.outcomes} == {"succeeded"}
        found.control.submit(found.control.request(b"3", attempt=2))
        await until(lambda: len(found.control.outcomes) == 3)
        assert worker.batches[-1] == [b"3"]
        assert worker.flags == [frames.TELL, frames.TELL, frames.TELL | frames.ALONE]
