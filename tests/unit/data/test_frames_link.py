"""When the requests of one turn of the loop are written: many not all at its end, few together."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from slipway.data.frames_link import FramesLink
from slipway.data.invoke import Call
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
