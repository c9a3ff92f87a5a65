"""The client of one worker's frames: one write per turn of the loop, answers matched by id; no task, no future per request.

Only of a turn with many requests do the first ones go earlier, and one that comes alone goes at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING

from slipway.data.invoke import BROKEN, DIED, TOO_LARGE, Call
from slipway_host import frames

if TYPE_CHECKING:
    from slipway.data.lanes import WorkerLane

logger = logging.getLogger(__name__)

_unpack = frames.HEADER.unpack_from
_pack = frames.HEADER.pack
_HEADER_SIZE = frames.HEADER_SIZE
_REQUEST, _RESPONSE, _PART, _BUSY, _HELLO = frames.REQUEST, frames.RESPONSE, frames.PART, frames.BUSY, frames.HELLO
_BEGUN = frames.BEGUN
_BYE = frames.BYE
_GREETING = frames.hello()
_MAX_FRAME = frames.MAX_BODY + 65536
"""A worker that announces more is not one of ours (or not any more)."""

_EARLY = 8
"""Requests that are worth a write of their own before the turn of the loop is over: the worker begins while we still parse.

Of many in flight it takes three quarters: enough for the worker to have answers when the turn ends, and few writes more.
"""
_PIECES = 3
"""Of a request in `_outgoing`."""
_DEPTHS = ((0.0002, 64), (0.001, 16), (0.010, 2))
LOOK_SECONDS = 0.00025
"""For so long the loop looks for the answer to a pipeline's step that came alone, of a container that is quicker than that.

To sleep and be woken costs each step as much as a quick container takes; a core that has nothing else to do pays for it.
"""
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
UNKNOWN = 0.005
"""Service time assumed of a worker that has not answered yet."""


def depth_for(service: float) -> int:
    """How many requests a worker may hold, given its mean service time in seconds.

    One running and one prefetched; deeper under 1 ms (about 13 ms of work at most). None prefetched above 10 ms: it would
    gain nothing there and might wait behind a slow one while another worker is free.
    """
    for bound, depth in _DEPTHS:
        if service < bound:
            return depth
    return 1


def depth_for_batches(service: float, batch: int) -> int:
    """The same of a worker that answers up to `batch` requests together: one batch running and the next one complete."""
    return max(depth_for(service), 2 * batch)


class FramesLink(asyncio.Protocol):
    """One connection to one worker."""

    __slots__ = (
        "_begun",
        "_buffer",
        "_due",
        "_early",
        "_hello",
        "_ident",
        "_lane",
        "_lone",
        "_loop",
        "_mark",
        "_outgoing",
        "_parts",
        "_service",
        "_transport",
        "pending",
    )

    def __init__(self, lane: WorkerLane, hello: bytes = _GREETING) -> None:
        """`hello`: the first frame."""
        self._lane = lane
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._outgoing: list[bytes] = []
        self._ident = secrets.randbits(32)  # ids also name requests to the host, among those of other connections
        self._due = False
        self._early = _EARLY * _PIECES
        """So much in `_outgoing` is not held until the end of the turn; `_due`: that end is awaited."""
        self._lone = False
        """The last request was the only one of its turn, and nothing else was with the worker."""
        self._mark = 0.0
        self._service = UNKNOWN
        self._parts: dict[int, list[bytes]] = {}
        self._begun = 0
        """How many of the oldest in `pending` are known to run, of a worker that makes batches or tells."""
        self.pending: dict[int, Call] = {}
        """By id, oldest first: the order in which the worker does them, with what others have sent it between."""

    # ---- out

    def send(self, call: Call) -> None:
        self._ident = ident = (self._ident + 1) & 0xFFFFFFFF
        call.sent = now = perf_counter()
        head, body, pending = call.head, call.body, self.pending
        size = len(head)
        frame = (_pack(size + len(body), _REQUEST, call.flags, size, 0, call.timeout_ms, ident), head, body)
        if not pending:
            self._mark = now
            if self._lone and self._transport is not None and not self._transport.is_closing():
                pending[ident] = call
                self._transport.write(b"".join(frame))
                if call.step and _CORES > 1 and self._service < LOOK_SECONDS:
                    self._loop.call_soon(self._look, now + LOOK_SECONDS)
                return
        self._lone = False
        pending[ident] = call
        outgoing = self._outgoing
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)
        outgoing += frame
        if len(outgoing) >= self._early:
            self._write()

    def _look(self, until: float) -> None:
        """Another turn of the loop without sleep, unless the answer is here or does not come."""
        if self.pending and perf_counter() < until:
            self._loop.call_soon(self._look, until)

    def ident(self, call: Call) -> int | None:
        """Of a call that has not been answered."""
        return next((ident for ident, each in self.pending.items() if each is call), None)

    def _flush(self) -> None:
        """The end of a turn in which there were requests."""
        self._due = False
        count = len(self.pending)
        self._early = max(_EARLY, count * 3 // 4) * _PIECES
        self._lone = count == 1
        self._write()

    def _write(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ---- in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        transport.set_write_buffer_limits(high=0)  # type: ignore[attr-defined]  # else uvloop keeps it until the turn ends
        transport.write(self._hello)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        position, end = 0, len(data)
        answers = 0
        now = perf_counter()
        pending, parts = self.pending, self._parts
        lane = self._lane
        response_bytes = lane.limits.response_bytes
        while end - position >= _HEADER_SIZE:
            length, kind, flags, head_size, status, _, ident = _unpack(data, position)
            if length > _MAX_FRAME or head_size > length:
                self.close()
                return
            start = position + _HEADER_SIZE
            stop = start + length
            if stop > end:
                break
            position = stop
            head = data[start : start + head_size]
            body = data[start + head_size : stop]
            if kind == _RESPONSE:
                call = pending.pop(ident, None)
                if call is None:
                    continue
                answers += 1
                if parts and ident in parts:
                    body = b"".join((*parts.pop(ident), body))
                if not call.done:
                    call.done = True
                    bucket = call.bucket
                    if bucket is not None:
                        bucket.discard(call)
                    try:
                        if flags or len(body) > response_bytes:
                            call.failed(BROKEN if flags & frames.BROKEN else TOO_LARGE)
                        else:
                            call.replied(status, head, body, now)
                    except Exception:
                        logger.exception("answer-failed", extra={"worker": lane.address})
            elif kind == _PART:
                self._part(ident, status, head, body)
            elif kind == _BUSY:
                lane.refused(pending.pop(ident, None))
            elif kind == _BYE:
                lane.parted()
            elif kind == _HELLO:
                lane.greeted(frames.hello_version(body), frames.hello_batch(body))
            elif kind == _BEGUN:
                self._begun = ident + answers  # those are taken off below
                lane.begun(list(islice(pending.values(), ident)))
        self._buffer = data[position:] if position < end else b""
        if answers:
            self._measure(now, answers)
            lane.freed(answers)

    def pause(self, on: bool) -> None:
        """Let the worker wait with its answers, or (False) go on."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _part(self, ident: int, status: int, head: bytes, body: bytes) -> None:
        call = self.pending.get(ident)
        if call is None or call.done or call.part(status, head, body, self):
            return
        parts = self._parts.setdefault(ident, [])
        parts.append(body)
        if sum(map(len, parts)) > self._lane.limits.response_bytes:
            del self._parts[ident]
            if call.settle():
                call.failed(TOO_LARGE)

    def _measure(self, now: float, answers: int) -> None:
        service = (now - self._mark) / answers
        self._mark = now
        self._service = mean = self._service * 0.8 + service * 0.2
        lane = self._lane
        if self._begun:
            self._begun = max(0, self._begun - answers)
        lane.depth = depth_for(mean) if lane.batch == 1 else depth_for_batches(mean, lane.batch)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        calls = list(self.pending.values())
        self.pending.clear()
        self._parts.clear()
        self._outgoing.clear()
        begun, self._begun = self._begun, 0
        if not begun and calls and not calls[0].flags & frames.TELL:
            begun = 1  # it tells of batches alone
        self._lane.lost(calls, begun)


def settle_lost(calls: list[Call], begun: int) -> list[Call]:
    """What becomes of the requests of a dead worker: those it was at, the first ones, have failed; the others, to be sent
    elsewhere once."""
    again = []
    for index, call in enumerate(calls):
        if call.done:
            continue
        if index < begun or call.retried:
            call.settle()
            call.failed(DIED)
        else:
            call.retried = True
            again.append(call)
    return again
