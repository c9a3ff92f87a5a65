"""Requests meet workers: order, bounds, deaths, time, new tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from slipway.core.routing import RouteTable
from slipway.data import invoke
from slipway.data.frames_link import depth_for
from slipway.data.invoke import Call, Ticket, post
from slipway.data.lanes import DataLimits
from slipway.data.slots import Slots, VariantSlots
from slipway_host import frames
from tests.deadlines import PATIENCE
from tests.unit.data.workers import ACCOUNT, REGION, Asked, Told, Worker, echo, replica, table, variant, workers
from tests.unit.http.serving import until


class Asking(Call):
    """Notes what became of it."""

    def __init__(self, body: bytes = b"x", head: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(frames.pack_head(head or [(b"content-type", b"text/plain")]), body)
        self.outcome: asyncio.Future[tuple[int, bytes] | str] = asyncio.get_running_loop().create_future()

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        self.outcome.set_result((status, body))

    def failed(self, why: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(why)


@contextlib.asynccontextmanager
async def slots_of(**limits: float) -> AsyncIterator[Slots]:
    slots = Slots(DataLimits(**limits))  # type: ignore[arg-type]
    slots.start()
    try:
        yield slots
    finally:
        slots.close()
        await asyncio.sleep(0)


def only(slots: Slots, name: str = "AllTraffic") -> VariantSlots:
    return slots.endpoints[f"{ACCOUNT}/{REGION}/demo"].by_name[name]


async def ask(slots: VariantSlots, body: bytes = b"x") -> tuple[int, bytes] | str:
    call = Asking(body)
    slots.submit(call)
    return await asyncio.wait_for(call.outcome, PATIENCE)


class Gate:
    """Answers wait until it opens."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, asked: Asked) -> Told:
        await self.open.wait()
        return Told(body=asked.body)


def test_depth_follows_service_time() -> None:
    assert [depth_for(seconds) for seconds in (0.00002, 0.0005, 0.003, 0.5)] == [64, 16, 2, 1]


async def test_frames_there_and_back(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        assert await ask(only(slots), b"hello") == (200, b"hello")
        assert worker.asked[0].head == [(b"content-type", b"text/plain")]
        assert worker.asked[0].over == "frames"
        assert 50_000 < worker.asked[0].timeout <= 60_000  # what is left of them
        calls = [Asking(b"%d" % number) for number in range(200)]
        for call in calls:
            only(slots).submit(call)
        assert await asyncio.gather(*(call.outcome for call in calls)) == [(200, b"%d" % n) for n in range(200)]
        assert only(slots).in_flight == 0


async def test_large_bodies_go_over_http(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        body = b"z" * (frames.MAX_BODY + 1)
        assert await ask(only(slots), body) == (200, body)
        assert worker.asked[0].over == "http"
        assert 50_000 < int(dict(worker.asked[0].head)[b"x-slipway-timeout-ms"]) <= 60_000
        await until(lambda: only(slots).in_flight == 0)


async def test_parts_are_joined_up_to_the_limit(tmp_path: Path) -> None:
    async def parts(asked: Asked) -> Told:
        return Told(parts=(b"a" * 1000, b"b" * 1000), body=b"c" * int(asked.body), flags=0)

    async with workers(tmp_path, answer=parts) as (worker,), slots_of(response_bytes=2500) as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        assert await ask(only(slots), b"3") == (200, b"a" * 1000 + b"b" * 1000 + b"ccc")
        assert await ask(only(slots), b"900") == invoke.TOO_LARGE
        assert await ask(only(slots), b"0") == (200, b"a" * 1000 + b"b" * 1000)


async def test_broken_answer(tmp_path: Path) -> None:
    async def broken(asked: Asked) -> Told:
        return Told(parts=(b"half",), flags=frames.BROKEN)

    async with workers(tmp_path, answer=broken) as (worker,), slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        assert await ask(only(slots)) == invoke.BROKEN


async def test_other_version_of_frames_gets_http(tmp_path: Path) -> None:
    worker = await Worker(tmp_path / "w.sock", version=frames.VERSION + 1).start()
    async with slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        assert await ask(only(slots), b"hello") == (200, b"hello")
        assert worker.asked[0].over == "http"
    await worker.kill()


async def test_least_outstanding_over_workers(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 3, gate) as three, slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", three[0]), replica("r2", three[1], three[2]))))
        await until(lambda: len(only(slots).lanes) == 3)
        calls = [Asking() for _ in range(6)]
        for call in calls:
            only(slots).submit(call)
        assert [lane.busy for lane in only(slots).lanes] == [2, 2, 2]
        gate.open.set()
        await asyncio.gather(*(call.outcome for call in calls))


async def test_waiting_is_bounded_and_in_order(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 1, gate) as (worker,), slots_of(waiting=3) as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        await until(lambda: len(only(slots).lanes) == 1)
        calls = [Asking(b"%d" % number) for number in range(6)]
        for call in calls:
            only(slots).submit(call)
        assert await calls[5].outcome == invoke.OVERLOADED
        assert only(slots).waiting == 3
        calls[3].cancel()
        assert only(slots).waiting == 2
        gate.open.set()
        await asyncio.gather(*(calls[number].outcome for number in (0, 1, 2, 4)))
        assert [asked.body for asked in worker.asked] == [b"0", b"1", b"2", b"4"]


async def test_no_replica_in_time(tmp_path: Path) -> None:
    async with slots_of(capacity_seconds=0.1) as slots:
        slots.apply(table(1, variant()))
        assert await ask(only(slots)) == invoke.NO_CAPACITY
        assert only(slots).waiting == 0


async def test_waiting_requests_get_the_first_replica_that_comes(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), slots_of() as slots:
        slots.apply(table(1, variant()))
        call = Asking(b"early")
        only(slots).submit(call)
        slots.apply(table(2, variant(replica("r1", worker))))
        assert await asyncio.wait_for(call.outcome, PATIENCE) == (200, b"early")


async def test_timeout_answers_the_caller_and_keeps_the_slot(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 1, gate) as (worker,), slots_of(invoke_seconds=1.0) as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        assert await ask(only(slots), b"slow") == invoke.TIMEOUT
        assert only(slots).in_flight == 1
        gate.open.set()
        await until(lambda: only(slots).in_flight == 0)
        assert await ask(only(slots), b"next") == (200, b"next")


async def test_timeout_over_http_cuts_the_connection(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 1, gate) as (worker,), slots_of(invoke_seconds=0.2) as slots:
        slots.apply(table(1, variant(replica("r1", worker, protocol="http"))))
        assert await ask(only(slots), b"slow") == invoke.TIMEOUT
        await until(lambda: only(slots).in_flight == 0)


async def test_a_dying_worker_fails_what_it_was_at_and_the_rest_goes_elsewhere(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 1, gate) as (worker,), slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        await until(lambda: len(only(slots).lanes) == 1)
        calls = [Asking(b"%d" % number) for number in range(4)]
        for call in calls:
            only(slots).submit(call)
        await until(lambda: worker.running == 1)
        await worker.kill()
        assert await asyncio.wait_for(calls[0].outcome, PATIENCE) == invoke.DIED
        assert not calls[1].outcome.done()
        again = await Worker(worker.path).start()
        assert await asyncio.gather(*(call.outcome for call in calls[1:])) == [(200, b"1"), (200, b"2"), (200, b"3")]
        await again.kill()


async def test_a_call_is_moved_once_only(tmp_path: Path) -> None:
    gate = Gate()
    async with slots_of() as slots:
        worker = await Worker(tmp_path / "w0.sock", gate).start()
        slots.apply(table(1, variant(replica("r1", worker))))
        await until(lambda: len(only(slots).lanes) == 1)
        calls = [Asking(b"%d" % number) for number in range(3)]
        for call in calls:
            only(slots).submit(call)
        outcomes = []
        for _ in range(3):
            await until(lambda w=worker: w.running == 1)
            await worker.kill()
            worker = await Worker(worker.path, gate).start()
            outcomes = [call.outcome.done() and call.outcome.result() for call in calls]
            if all(outcomes):
                break
        assert [await asyncio.wait_for(call.outcome, PATIENCE) for call in calls] == [invoke.DIED] * 3
        await worker.kill()


async def test_busy_goes_to_another_worker(tmp_path: Path) -> None:
    async def busy(asked: Asked) -> Told:
        return Told(busy=True)

    first = await Worker(tmp_path / "a.sock", busy).start()
    second = await Worker(tmp_path / "b.sock", echo).start()
    async with slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", first), replica("r2", second))))
        await until(lambda: len(only(slots).lanes) == 2)
        assert [await ask(only(slots)) for _ in range(6)] == [(200, b"x")] * 6
        assert first.asked
    await first.kill()
    await second.kill()


async def test_removed_replicas_drain_and_are_reported(tmp_path: Path) -> None:
    gate = Gate()
    drained: list[list[str]] = []
    async with workers(tmp_path, 2, gate) as (old, new):
        slots = Slots(DataLimits(), on_drained=lambda: drained.append(slots.busy_removed()))
        slots.start()
        slots.apply(table(1, variant(replica("old", old))))
        await until(lambda: len(only(slots).lanes) == 1)
        running = Asking(b"running")
        only(slots).submit(running)
        await until(lambda: old.running == 1)
        slots.apply(table(2, variant(replica("new", new))))
        assert slots.busy_removed() == ["old"]
        later = Asking(b"later")
        only(slots).submit(later)
        gate.open.set()
        assert await running.outcome == (200, b"running")
        assert await asyncio.wait_for(later.outcome, PATIENCE) == (200, b"later")
        await until(lambda: bool(drained))
        assert drained[-1] == []
        assert [asked.body for asked in new.asked] == [b"later"]
        slots.close()


async def test_tables_change_under_load_and_no_request_is_lost(tmp_path: Path) -> None:
    async def brief(asked: Asked) -> Told:
        await asyncio.sleep(0.001)
        return Told(body=asked.body)

    async with workers(tmp_path, 4, brief) as four, slots_of() as slots:
        slots.apply(table(1, variant(replica("r0", four[0]))))
        stop = False
        outcomes: list[tuple[int, bytes] | str] = []

        async def client() -> None:
            while not stop:
                outcomes.append(await ask(only(slots)))

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for version in range(2, 40):
            chosen = four[version % 4], four[(version + 1) % 4]
            slots.apply(table(version, variant(*(replica(f"r{version}-{i}", one) for i, one in enumerate(chosen)))))
            seen = len(outcomes)
            await until(lambda seen=seen: len(outcomes) > seen + 3)
        stop = True
        await asyncio.gather(*clients)
        assert len(outcomes) > 100
        assert set(outcomes) == {(200, b"x")}
        await until(lambda: not slots.busy_removed())


async def test_an_endpoint_that_goes_fails_who_waits(tmp_path: Path) -> None:
    async with slots_of() as slots:
        slots.apply(table(1, variant()))
        gone = only(slots)
        call = Asking()
        gone.submit(call)
        slots.apply(RouteTable(2))
        assert await call.outcome == invoke.GONE
        late = Asking()
        gone.submit(late)
        assert await late.outcome == invoke.GONE


async def test_ticket_is_a_place_on_a_lane(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,), slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        ticket = Ticket(b"", b"body")
        only(slots).submit(ticket)
        lane = await asyncio.wait_for(ticket.lane, PATIENCE)
        assert only(slots).in_flight == 1
        response = await post(lane, ticket)
        assert await response.read(100) == b"body"
        ticket.release(clean=True)
        assert only(slots).in_flight == 0


async def test_a_ticket_cut_short_holds_its_place_until_the_worker_is_free(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 1, gate) as (worker,), slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker))))
        ticket = Ticket(b"", b"body")
        only(slots).submit(ticket)
        lane = await asyncio.wait_for(ticket.lane, PATIENCE)
        posting = asyncio.create_task(post(lane, ticket))
        await until(lambda: worker.running == 1)
        posting.cancel()
        ticket.release(clean=False)
        await asyncio.sleep(0.05)
        assert only(slots).in_flight == 1
        gate.open.set()
        async with asyncio.timeout(PATIENCE):
            await until(lambda: only(slots).in_flight == 0)
        assert await ask(only(slots), b"next") == (200, b"next")


async def test_foreign_container_that_is_not_there(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "nobody.sock")
    async with slots_of() as slots:
        slots.apply(table(1, variant(replica("r1", worker, protocol="http"))))
        assert await ask(only(slots)) == invoke.DIED
