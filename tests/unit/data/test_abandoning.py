"""Requests that are cancelled while a worker has them: what the host hears, and what becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from slipway.data import abandoning
from slipway.link import claims
from slipway_host import frames
from tests.deadlines import PATIENCE
from tests.unit.data.dispatching import Stack, stack
from tests.unit.data.workers import Asked, Told, Worker, replica, variant, workers


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not happen"
        await asyncio.sleep(0.005)


class Host:
    """A host's own socket: notes what it is told. `statuses` are answered in turn, then 202; 0 cuts the connection."""

    def __init__(self, folder: Path, *statuses: int) -> None:
        self.path = folder / "host.sock"
        self.told: list[str] = []
        self._statuses = list(statuses)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.told.append(head.split(b" HTTP/", 1)[0].decode())
            status = self._statuses.pop(0) if self._statuses else 202
            if status:
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
        writer.close()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Host]:
        async with await asyncio.start_unix_server(self._serve, self.path):
            yield self

    async def heard(self, count: int) -> list[str]:
        await until(lambda: len(self.told) >= count)
        return self.told


class Gate:
    """A model that answers when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, asked: Asked) -> Told:
        await self.open.wait()
        return Told(body=asked.body)


async def running(each: Stack, worker: Worker, count: int = 1) -> None:
    """`count` requests are with the worker, the first of them running."""
    await until(lambda: worker.running > 0 and each.variant.in_flight >= count)


@pytest.mark.parametrize("size", [10, 300_000], ids=["frame", "http"])
async def test_a_running_request_that_is_cancelled_is_named_to_its_host(tmp_path: Path, size: int) -> None:
    gate, host = Gate(), Host(tmp_path)
    async with stack(tmp_path) as each, workers(tmp_path, 2, gate) as both, host.open():
        worker = both[1]
        each.serve(variant(replica("r1", worker)))
        request = each.control.request(b"x" * size)
        each.control.submit(request)
        await running(each, worker)
        each.control.tell(claims.CANCEL, (request.id,))
        (told,) = await host.heard(1)
        start, _, name = told.partition("&request=")
        assert start == "POST /abandon?worker=1"
        if size > frames.MAX_BODY:
            assert dict(worker.asked[0].head)[frames.NAME_HEADER.lower().encode()] == name.encode()
        else:
            assert int(name) in worker.idents
        assert each.variant.in_flight == 1, "until the worker is free"
        gate.open.set()


async def test_what_waits_behind_it_goes_elsewhere_once_and_what_was_cancelled_too_does_not(tmp_path: Path) -> None:
    gate, host = Gate(), Host(tmp_path)
    async with stack(tmp_path) as each, workers(tmp_path, 1, gate) as (worker,), host.open():
        each.serve(variant(replica("r1", worker)))
        first, second = each.control.request(b"first"), each.control.request(b"second")
        each.control.submit(first, second)
        await running(each, worker, 2)
        each.control.tell(claims.CANCEL, (first.id,))
        await host.heard(1)
        assert [started.id for started in each.control.started] == [first.id]
        await worker.kill()  # as its host does, in the end
        gate.open.set()
        worker.asked.clear()
        await worker.start()
        (outcome,) = await each.control.settled(1)
        assert (outcome.id, outcome.kind) == (second.id, "succeeded")
        assert [asked.body for asked in worker.asked] == [b"second"]
        assert each.control.held.keys() == {first.id}
        assert len(host.told) == 1


async def test_one_that_was_sent_ahead_is_named_as_well(tmp_path: Path) -> None:
    gate, host = Gate(), Host(tmp_path)
    async with stack(tmp_path) as each, workers(tmp_path, 1, gate) as (worker,), host.open():
        each.serve(variant(replica("r1", worker)))
        first, second = each.control.request(b"first"), each.control.request(b"second")
        each.control.submit(first, second)
        await running(each, worker, 2)
        each.control.tell(claims.CANCEL, (second.id,))
        (told,) = await host.heard(1)
        gate.open.set()
        await each.control.settled(1)
        await until(lambda: len(worker.asked) >= 2)
        assert int(told.rpartition("=")[2]) == worker.idents[1]


async def test_nothing_is_said_of_requests_that_have_ended_or_that_no_worker_has(tmp_path: Path) -> None:
    gate, host = Gate(), Host(tmp_path)
    async with stack(tmp_path) as each, workers(tmp_path, 1, gate) as (worker,), host.open():
        gate.open.set()
        each.serve(variant(replica("r1", worker)))
        done = each.control.request(b"done")
        each.control.submit(done)
        await each.control.settled(1)
        each.control.tell(claims.CANCEL, (done.id,))
        gate.open.clear()
        waiting = [each.control.request(b"%d" % number) for number in range(4)]
        each.control.submit(*waiting)
        await running(each, worker, 2)
        await until(lambda: each.variant.waiting > 0)
        each.control.tell(claims.CANCEL, (waiting[-1].id,))
        await until(lambda: waiting[-1].id not in each.dispatch.ledger._held)
        gate.open.set()
        await each.control.settled(4)
        assert host.told == []


async def test_a_host_that_is_not_there_for_a_moment_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoning, "PAUSE", 0.01)
    host = Host(tmp_path, 0)
    async with host.open():
        await abandoning.abandon(f"unix:{tmp_path}/w3.sock", 5)
    assert host.told[-1] == "POST /abandon?worker=3&request=5"
    host.path.unlink(missing_ok=True)
    await abandoning.abandon(f"unix:{tmp_path}/w3.sock", 5)


async def test_an_older_host_and_a_worker_without_one_are_left_alone(tmp_path: Path) -> None:
    async with Host(tmp_path, 404).open() as host:
        await abandoning.abandon(f"unix:{tmp_path}/w0.sock", 5)
        await abandoning.abandon("tcp:127.0.0.1:80", 5)
        await abandoning.abandon(f"unix:{tmp_path}/other.sock", 5)
    assert len(host.told) == 1
