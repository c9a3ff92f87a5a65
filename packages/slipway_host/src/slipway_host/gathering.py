"""A worker that answers requests together: it gathers what comes as frames, and begins when a batch is full or old enough.

While one batch runs the next one comes together in the socket. Requests over HTTP/1.1 (large bodies, streams) and those
that are marked ALONE are answered singly.
"""

from __future__ import annotations

import select
import socket
import time
from functools import partial
from typing import Callable, NamedTuple

from . import frames, slots
from .batching import Batch
from .service import Answer, Call, Service
from .worker import MAX_LENGTH, FrameConnection, Limits, Worker

_SECOND = 1.0 if hasattr(select, "epoll") else 1000.0
"""In the unit of the poller."""


class Member(NamedTuple):
    """A request that waits for its batch."""

    connection: GatheringConnection
    ident: int
    call: Call
    body: bytes
    came: float
    """Monotonic."""
    seconds: float
    """How long its worker may be at it."""
    flags: int

    @property
    def alone(self) -> bool:
        return bool(self.flags & frames.ALONE)

    @property
    def tell(self) -> bool:
        return bool(self.flags & frames.TELL)


class GatheringWorker(Worker):
    """`names`: the worker's list in shared memory, of the requests that run together."""

    def __init__(
        self,
        listener: socket.socket,
        service: Service,
        cells: memoryview[float],
        base: int,
        limits: Limits,
        names: memoryview[float],
    ) -> None:
        super().__init__(listener, service, cells, base, limits)
        assert service.batch is not None
        self.batch: Batch = service.batch
        self._names = names
        self._gathered: list[Member] = []

    def connection(self, sock: socket.socket) -> GatheringConnection:
        return GatheringConnection(self, sock)

    def gather(self, member: Member) -> None:
        self._gathered.append(member)

    def forget(self, connection: GatheringConnection) -> None:
        """Its peer is gone: nobody would read the answers."""
        self._gathered = [member for member in self._gathered if member.connection is not connection]

    def loop(self) -> None:
        poll = self._poller.poll
        while not self.stopping:
            wait = self._wait(time.monotonic())
            for descriptor, _event in poll() if wait is None else poll(wait * _SECOND):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
            if not self.stopping and self._wait(time.monotonic()) == 0:
                self._run()
        for member in self._gathered:
            member.connection.refuse(member.ident)

    def _wait(self, now: float) -> float | None:
        """Seconds until the next batch begins; None: nothing is here."""
        gathered = self._gathered
        if not gathered:
            return None
        if len(gathered) >= self.batch.settings.size or any(member.alone for member in gathered):
            return 0
        return max(0, gathered[0].came + self.batch.settings.seconds - now)

    def _take(self) -> list[Member]:
        """The next batch: the oldest, up to one that is to be alone."""
        gathered = self._gathered
        end = min(self.batch.settings.size, len(gathered))
        for index in range(end):
            if gathered[index].alone:
                end = max(1, index)
                break
        taken, self._gathered = gathered[:end], gathered[end:]
        return taken

    def _run(self) -> None:
        members = self._take()
        self._tell_begun(members)
        began = time.monotonic()
        self._publish(members, began)
        try:
            if len(members) == 1:
                answers = [self.service.invoke(members[0].call, members[0].body)]
            else:
                requests = [(member.call, member.body) for member in members]
                answers = self.batch.answers(requests, lambda index: self._publish([members[index]], began))
            for connection in dict.fromkeys(member.connection for member in members):
                own = [(each.ident, answer) for each, answer in zip(members, answers) if each.connection is connection]
                connection.answer(own)
        finally:
            self.end()

    def _tell_begun(self, members: list[Member]) -> None:
        for connection in dict.fromkeys(member.connection for member in members):
            own = [member for member in members if member.connection is connection]
            if len(own) > 1 or own[0].tell:
                connection.send(frames.pack(frames.BEGUN, len(own)))

    def _publish(self, members: list[Member], began: float) -> None:
        """What runs now, for the parent: it kills this worker once the last of the callers has given up."""
        cells, base = self.cells, self.base
        cells[base] = 0.0
        for index, member in enumerate(members):
            self._names[index] = float(member.ident)
        cells[base + slots.MEMBERS] = float(len(members))
        cells[base + slots.NAME] = float(members[0].ident)
        cells[base] = began + max(member.seconds for member in members)

    def begin(self, name: int, timeout_ms: int, now: float) -> None:
        self.cells[self.base + slots.MEMBERS] = 0.0
        super().begin(name, timeout_ms, now)


class GatheringConnection(FrameConnection):
    """A gateway's connection whose requests wait for their batch."""

    _worker: GatheringWorker

    def _consume(self, end: int) -> bool:
        """Hand over the whole frames in the buffer and keep the rest. False: the peer does not keep to the protocol."""
        view, worker, offset, now = self._view, self._worker, 0, time.monotonic()
        limits = worker.limits
        while end - offset >= frames.HEADER_SIZE:
            length, kind, flags, head_length, _status, timeout, ident = frames.HEADER.unpack_from(self._buffer, offset)
            if length > MAX_LENGTH or head_length > length:
                return False
            start = offset + frames.HEADER_SIZE
            if end - start < length:
                break
            offset = start + length
            if kind != frames.REQUEST or not self._greeted:
                if not self._greet(kind, view[start:offset].tobytes()):
                    return False
                continue
            if worker.stopping:
                self.refuse(ident)
                continue
            head = view[start : start + head_length].tobytes()
            call = self._calls.get(head) or self._call(head)
            body = view[start + head_length : offset].tobytes()
            worker.gather(Member(self, ident, call, body, now, limits.patience(timeout), flags))
        rest = end - offset
        if rest and offset:
            view[:rest] = view[offset:end]
        self._end = rest
        return True

    def hello(self) -> bytes:
        return frames.hello(batch=self._worker.batch.settings.size)

    def gone(self) -> None:
        self._worker.forget(self)
        super().gone()

    def refuse(self, ident: int) -> None:
        self.send(frames.pack(frames.BUSY, ident))

    def answer(self, answers: list[tuple[int, Answer]]) -> None:
        """In the order of the requests."""
        largest = self._worker.limits.response_bytes
        out: list[bytes] = []
        for ident, answer in answers:
            status, head, body = answer
            if type(body) is bytes and len(body) <= min(frames.MAX_BODY, largest):
                out.append(frames.pack(frames.RESPONSE, ident, status, head=head, body=body))
                continue
            self.send(b"".join(out))
            out = []
            self._sending(partial(self._send_long, ident, self._worker.bounded(answer)))
        self.send(b"".join(out))

    def send(self, data: bytes) -> None:
        if data:
            self._sending(partial(self._sock.sendall, data))

    def _sending(self, send: Callable[[], None]) -> None:
        """A peer that is gone, or takes nothing, ends this connection."""
        if self._sock.fileno() < 0:
            return
        try:
            send()
        except OSError:
            self.gone()
