"""When the requests of one turn of the loop are written: many not all at its end, few together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slipway.data import frames_link
from slipway.data.frames_link import FramesLink
from slipway.data.invoke import Call
from slipway.data.lanes import DataLimits
from slipway_host import frames


class Sink:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None: ...


def idents(writes: list[bytes]) -> list[list[int]]:
    """Of the frames in each write."""
    found = []
    for data in writes:
        inside, at = [], 0
        while at < len(data):
            length, *_, ident = frames.HEADER.unpack_from(data, at)
            inside.append(ident)
            at += frames.HEADER_SIZE + length
        found.append(inside)
    return found


async def test_the_first_of_many_go_before_the_turn_ends_and_the_rest_together() -> None:
    link, sink = FramesLink(cast("Any", None)), Sink()
    link.connection_made(cast("Any", sink))
    sink.writes.clear()
    sent: list[list[int]] = []
    for count, expected in ((20, [8, 8]), (20, [15]), (3, [])):
        for _ in range(count):
            call = Call(b"", b"body")
            call.timeout_ms = 1000
            link.send(call)
        early = idents(sink.writes)
        await asyncio.sleep(0)
        sent += idents(sink.writes)
        assert [len(write) for write in early] == expected
        assert sum(map(len, idents(sink.writes))) == count
        sink.writes.clear()
        await asyncio.sleep(0)
        assert not sink.writes
    sequence = [ident for write in sent for ident in write]
    assert sequence == [(sequence[0] + number) & 0xFFFFFFFF for number in range(43)]


async def test_ids_of_two_connections_differ() -> None:
    """They name requests to the host, which may have several clients."""
    found = set()
    for _ in range(2):
        link, sink = FramesLink(cast("Any", None)), Sink()
        link.connection_made(cast("Any", sink))
        sink.writes.clear()
        call = Call(b"", b"body")
        call.timeout_ms = 1000
        link.send(call)
        await asyncio.sleep(0)
        ((ident,),) = idents(sink.writes)
        assert link.ident(call) == ident
        assert link.ident(Call(b"")) is None
        found.add(ident)
    assert len(found) == 2


def _request() -> Call:
    call = Answered(b"", b"body")
    call.timeout_ms = 1000
    return call


class Answered(Call):
    __slots__ = ()

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        """Nobody asks."""


class _Lane:
    """As much of a lane as a link needs."""

    limits, batch, depth = DataLimits(), 1, 1

    def freed(self, count: int) -> None: ...


async def test_requests_that_come_alone_go_at_once_until_others_come_with_them() -> None:
    link, sink = FramesLink(cast("Any", _Lane())), Sink()
    link.connection_made(cast("Any", sink))

    def answer() -> None:
        for ident in list(link.pending):
            link.data_received(frames.pack(frames.RESPONSE, ident, 200))

    async def at_once(count: int) -> int:
        """How many are written before the turn ends; all are at its end."""
        sink.writes.clear()
        for _ in range(count):
            link.send(_request())
        early = sum(map(len, idents(sink.writes)))
        await asyncio.sleep(0)
        assert sum(map(len, idents(sink.writes))) == count
        return early

    found = []
    for count in (1, 1, 1, 3, 3, 1, 1):
        found.append(await at_once(count))
        answer()
    # One request of the first turn with several is as quick as those before it; the others show that it is not alone.
    assert found == [0, 1, 1, 1, 0, 0, 1]
    await at_once(1)
    assert await at_once(1) == 0, "it is not alone: the worker has another one"


@pytest.mark.parametrize(("step", "cores", "quick"), [(True, 2, True), (False, 2, True), (True, 1, True), (True, 2, False)])
async def test_the_loop_looks_for_the_answer_to_a_quick_step_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, step: bool, cores: int, quick: bool
) -> None:
    now = 100.0
    monkeypatch.setattr(frames_link, "_CORES", cores)
    monkeypatch.setattr(frames_link, "perf_counter", lambda: now)
    link = FramesLink(cast("Any", _Lane()))
    link.connection_made(cast("Any", Sink()))
    looks: list[tuple[Any, ...]] = []

    def ask(seconds: float) -> None:
        nonlocal now
        call = _request()
        monkeypatch.setattr(type(call), "step", step)
        link.send(call)
        now += seconds

    def answer() -> None:
        (ident,) = link.pending
        link.data_received(frames.pack(frames.RESPONSE, ident, 200))

    for _ in range(40):
        ask(0.0001 if quick else 0.01)
        await asyncio.sleep(0)  # the end of the turn
        answer()
    monkeypatch.setattr(link, "_loop", SimpleNamespace(call_soon=lambda *what: looks.append(what)))
    ask(0.0001)
    assert len(looks) == (step and cores > 1 and quick)
    if looks:
        look, until = looks.pop()
        look(until)
        assert looks == [(look, until)], "no answer yet"
        answer()
        look(until)
        assert len(looks) == 1, "it is here"
        ask(1.0)
        look, until = looks.pop()
        looks.clear()
        look(until)
        assert looks == [], "it does not come soon"
