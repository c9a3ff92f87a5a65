"""A worker: one process, one thread, one request at a time, over frames and HTTP/1.1 on one unix socket.

It blocks in `poll`, in user code and in sending, never in receiving: a slow sender holds up nobody. While a request runs its
deadline stands in the shared slot; the parent kills a worker that outlives it.
"""

from __future__ import annotations

import math
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable

from . import frames, http11, slots
from .service import Answer, Service

POLLIN = 1
RECEIVE = 256 * 1024
COALESCE = 0.0001
"""Answers wait for each other this long at most (seconds), and only while further requests are already here."""
SEND_ROOM = 4 * 1024 * 1024
"""Bytes of a large answer that the kernel is asked to hold."""
SEND_SECONDS = 60
"""A peer that takes no byte of an answer for this long is cut off."""
MAX_LENGTH = frames.MAX_BODY + 0xFFFF
_KEPT_CALLS = 256
_TIMEOUT = frames.TIMEOUT_HEADER.lower().encode()
_NAME = frames.NAME_HEADER.lower().encode()
_TELL = frames.TELL_HEADER.lower().encode()
_GONE = frames.pack_head([(frames.GONE_HEADER.encode(), b"1")])


class Limits:
    """Of one worker: seconds a request may take when it names none, seconds more before the worker is killed, bytes of a
    request and of an answer; seconds after which it is killed even if the caller would wait."""

    def __init__(
        self,
        invoke_seconds: float,
        grace_seconds: float,
        request_bytes: int,
        response_bytes: int,
        server_seconds: float = math.inf,
    ) -> None:
        self.invoke_seconds = invoke_seconds
        self.grace_seconds = grace_seconds
        self.request_bytes = request_bytes
        self.response_bytes = response_bytes
        self.server_seconds = server_seconds

    def patience(self, timeout_ms: int) -> float:
        """Seconds until a worker is killed that is at a request with this timeout; 0 names none."""
        return min((timeout_ms * 0.001 or self.invoke_seconds) + self.grace_seconds, self.server_seconds)


class Worker:
    """Serves `service` on `listener` until SIGTERM."""

    invoke_path = "/invocations"

    def __init__(self, listener: socket.socket, service: Service, cells: memoryview[float], base: int, limits: Limits) -> None:
        self.listener = listener
        self.service = service
        self.cells = cells
        self.base = base
        self.limits = limits
        self.stopping = False
        self._handlers: dict[int, Callable[[], None]] = {}
        self._poller: Any = getattr(select, "epoll", select.poll)()
        self._wake_receive, self._wake_send = socket.socketpair()

    def run(self, ready: Callable[[], None]) -> None:
        """Returns after SIGTERM, when the running request has been answered. `ready` is called once requests are taken."""
        self._wake_send.setblocking(False)
        signal.signal(signal.SIGTERM, self._stop)
        self.listener.setblocking(False)
        self.add(self.listener, self._accept)
        self.add(self._wake_receive, self._woken)
        ready()
        self.loop()
        for descriptor, _event in self._poller.poll(0):  # what is here already is told to go elsewhere
            if descriptor != self.listener.fileno() and descriptor in self._handlers:
                self._handlers[descriptor]()
        self.part()

    def loop(self) -> None:
        """Until a stop is asked for."""
        handlers = self._handlers
        poll = self._poller.poll
        while not self.stopping:
            for descriptor, _event in poll():
                handler = handlers.get(descriptor)
                if handler is not None:
                    handler()

    def connection(self, sock: socket.socket) -> FrameConnection:
        """For a peer that speaks frames."""
        return FrameConnection(self, sock)

    def part(self) -> None:
        """The last thing before `run` returns."""

    def add(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        self._handlers[sock.fileno()] = handler
        self._poller.register(sock.fileno(), POLLIN)

    def replace(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        self._handlers[sock.fileno()] = handler

    def remove(self, sock: socket.socket) -> None:
        descriptor = sock.fileno()
        if descriptor >= 0 and self._handlers.pop(descriptor, None) is not None:
            self._poller.unregister(descriptor)
        sock.close()

    def begin(self, name: int, timeout_ms: int, now: float) -> None:
        """A request starts: its name and its deadline are published."""
        self.cells[self.base + slots.NAME] = name
        self.cells[self.base] = now + self.limits.patience(timeout_ms)

    def end(self) -> None:
        self.cells[self.base] = 0.0

    def bounded(self, answer: Answer) -> Answer:
        """The answer, or an error instead of one that is too large."""
        body = answer[2]
        if type(body) is bytes and len(body) > self.limits.response_bytes:
            message = (
                f"The model's answer has {len(body)} bytes; at most {self.limits.response_bytes} are allowed. "
                "Return less, use a response stream, or raise the limit of responses."
            )
            return 500, b"", message.encode()
        return answer

    def _stop(self, _number: int, _frame: Any) -> None:
        self.stopping = True
        try:
            self._wake_send.send(b"s")
        except BlockingIOError:
            return  # it is awake already

    def _woken(self) -> None:
        self._wake_receive.recv(64)

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors left: user code holds them; this must not become a spin
            time.sleep(0.02)
            return
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))

        def first() -> None:
            begin = sock.recv(1, socket.MSG_PEEK)
            if not begin:
                self.remove(sock)
                return
            connection: Any = self.connection(sock) if begin == b"\0" else HttpConnection(self, sock)
            self.replace(sock, connection.readable)
            connection.readable()

        self.add(sock, _closing(self, sock, first))


def _closing(worker: Worker, sock: socket.socket, step: Callable[[], None]) -> Callable[[], None]:
    """A connection's trouble ends that connection."""

    def run() -> None:
        try:
            step()
        except OSError:
            worker.remove(sock)

    return run


class FrameConnection:
    """A gateway's connection: many requests in one receive, answered in order."""

    def __init__(self, worker: Worker, sock: socket.socket) -> None:
        self._worker = worker
        self._sock = sock
        self._buffer = bytearray(RECEIVE)
        self._view = memoryview(self._buffer)
        self._end = 0
        self._greeted = False
        self._calls: dict[bytes, Any] = {}

    def begin(self, data: bytes) -> None:
        """Somebody else has read the first bytes."""
        self._view[: len(data)] = data
        try:
            if not self._consume(len(data)):
                self.gone()
        except OSError:
            self._worker.end()
            self.gone()

    def readable(self) -> None:
        try:
            count = self._sock.recv_into(self._view[self._end :] if self._end else self._view)
            if not count or not self._consume(self._end + count):
                self.gone()
        except OSError:
            self._worker.end()
            self.gone()

    def gone(self) -> None:
        """The peer has left, or must."""
        self._worker.remove(self._sock)

    def hello(self) -> bytes:
        """What the peer is greeted with."""
        return frames.hello()

    def _consume(self, end: int) -> bool:
        """Answer the whole frames in the buffer and keep the rest. False: the peer does not keep to the protocol."""
        buffer, view, worker, calls = self._buffer, self._view, self._worker, self._calls
        unpack, size = frames.HEADER.unpack_from, frames.HEADER_SIZE
        pack, invoke, clock = frames.HEADER.pack, worker.service.invoke, time.monotonic
        cells, base, out, oldest, offset = worker.cells, worker.base, [], 0.0, 0
        name = base + slots.NAME
        grace, largest = worker.limits.grace_seconds, worker.limits.response_bytes
        default_timeout, most = worker.limits.patience(0), worker.limits.server_seconds
        while end - offset >= size:
            length, kind, flags, head_length, _status, timeout, ident = unpack(buffer, offset)
            if length > MAX_LENGTH or head_length > length:
                return False
            start = offset + size
            if end - start < length:
                break
            offset = start + length
            if kind != frames.REQUEST or not self._greeted:
                if not self._greet(kind, view[start:offset].tobytes()):
                    return False
                continue
            if worker.stopping:
                out.append(pack(0, frames.BUSY, 0, 0, 0, 0, ident))
                continue
            head = view[start : start + head_length].tobytes()
            call = calls.get(head) or self._call(head)
            now = clock()
            if flags & frames.TELL:
                out.append(pack(0, frames.BEGUN, 0, 0, 0, 0, 1))
                oldest = 0.0
            if out and now - oldest > COALESCE:
                self._sock.sendall(b"".join(out))
                out = []
            if not out:
                oldest = now
            cells[name] = ident
            seconds = timeout * 0.001 + grace if timeout else default_timeout
            cells[base] = now + (seconds if seconds < most else most)
            status, answer_head, body = invoke(call, view[start + head_length : offset].tobytes())
            if type(body) is bytes and len(body) <= frames.MAX_BODY and len(body) <= largest:
                cells[base] = 0.0
                out.append(pack(len(answer_head) + len(body), frames.RESPONSE, 0, len(answer_head), status, 0, ident))
                out.append(answer_head)
                out.append(body)
                continue
            if out:
                self._sock.sendall(b"".join(out))
                out = []
            self._send_long(ident, worker.bounded((status, answer_head, body)))
            cells[base] = 0.0
        if out:
            self._sock.sendall(b"".join(out))
        rest = end - offset
        if rest and offset:
            view[:rest] = view[offset:end]
        self._end = rest
        return True

    def _greet(self, kind: int, body: bytes) -> bool:
        version = frames.hello_version(body) if kind == frames.HELLO and not self._greeted else None
        if version is None:
            return False
        self._sock.sendall(self.hello())
        self._greeted = version == frames.VERSION
        return self._greeted

    def _call(self, head: bytes) -> Any:
        if len(self._calls) >= _KEPT_CALLS:
            self._calls.clear()  # heads that carry ids of their own: keeping them gains nothing
        call = self._calls[head] = self._worker.service.prepare(frames.unpack_head(head))
        return call

    def _send_long(self, ident: int, answer: Answer) -> None:
        status, head, body = answer
        if isinstance(body, bytes):
            last = max(0, (len(body) - 1) // frames.MAX_BODY) * frames.MAX_BODY
            for at in range(0, last, frames.MAX_BODY):
                self._part(ident, status, head, body[at : at + frames.MAX_BODY])
            self._sock.sendall(frames.pack(frames.RESPONSE, ident, status, head=head, body=body[last:]))
            return
        broken = 0
        for piece in guarded(body):
            if piece is None:
                broken = frames.BROKEN
                break
            for at in range(0, len(piece), frames.MAX_BODY):
                self._part(ident, status, head, piece[at : at + frames.MAX_BODY])
        self._sock.sendall(frames.pack(frames.RESPONSE, ident, status, head=head, flags=broken))

    def _part(self, ident: int, status: int, head: bytes, piece: bytes) -> None:
        self._sock.sendall(frames.pack(frames.PART, ident, status, head=head, body=piece))


class HttpConnection:
    """Anyone's connection: large and streamed bodies of a gateway, and `/execution-parameters`."""

    def __init__(self, worker: Worker, sock: socket.socket) -> None:
        self._worker = worker
        self._sock = sock
        self._parser = http11.Parser(worker.limits.request_bytes)
        self._room = RECEIVE

    def begin(self, data: bytes) -> None:
        """Somebody else has read the first bytes."""
        self._parser.feed(data)
        try:
            if not self._serve():
                self._worker.remove(self._sock)
        except OSError:
            self._worker.remove(self._sock)

    def readable(self) -> None:
        try:
            room = self._parser.room()
            if room is not None:
                count = self._sock.recv_into(room)
                room.release()
                self._parser.filled(count)
            else:
                data = self._sock.recv(RECEIVE)
                count = len(data)
                self._parser.feed(data)
            if not count or not self._serve():
                self._worker.remove(self._sock)
        except OSError:
            self._worker.remove(self._sock)

    def _serve(self) -> bool:
        """Answer the whole requests that are here. False: close."""
        while True:
            try:
                request = self._parser.next()
            except http11.BadRequest as error:
                self._send((error.status, b"", str(error).encode()), None)
                return False
            if request is None:
                if self._parser.wants_continue:
                    self._parser.wants_continue = False
                    self._sock.sendall(http11.CONTINUE)
                return True
            if self._worker.stopping:
                self._send((503, _GONE, b"the worker is stopping"), None)
                return False
            if not self._answer(request):
                return False

    def _answer(self, request: http11.Request) -> bool:
        worker = self._worker
        if worker.invoke_path != "/invocations" and request.header(_TIMEOUT) is None:
            request.keep_alive = False  # not our gateway: its next request may be for another model
        if request.minor == 1 and request.header(_TELL) is not None:
            self._sock.sendall(http11.PROCESSING)
        worker.begin(_number(request, _NAME), _number(request, _TIMEOUT), time.monotonic())
        try:
            return self._send(worker.bounded(self._route(request)), request)
        finally:
            worker.end()

    def _route(self, request: http11.Request) -> Answer:
        invoke_path = self._worker.invoke_path
        methods = {invoke_path: "POST", "/ping": "GET", "/execution-parameters": "GET"}
        method = methods.get(request.path)
        if method is None:
            return 404, b"", b""
        if request.method != method:
            return 405, frames.pack_head([(b"Allow", method.encode())]), b""
        service = self._worker.service
        if request.path == invoke_path:
            body, request.body = request.body, b""  # one reference fewer: user code may drop a large body early
            return service.invoke(service.prepare(request.headers), body)
        if request.path == "/ping":
            return 200, b"", b""
        return service.execution_parameters() or (404, b"", b"")

    def _send(self, answer: Answer, request: http11.Request | None) -> bool:
        """Send an answer; True when the connection can be used further."""
        status, head, body = answer
        pairs = frames.unpack_head(head)
        keep = request is not None and request.keep_alive
        if isinstance(body, bytes):
            start = http11.head(status, pairs, len(body), keep)
            if len(body) <= RECEIVE:
                self._sock.sendall(start + (body if status != 204 else b""))
            else:
                self._widen(len(body))
                self._sock.sendall(start)
                self._sock.sendall(body)
            return keep
        chunked = request is not None and request.minor == 1
        self._sock.sendall(
            http11.head(status, pairs, None, keep)
            if chunked
            else http11.head(status, pairs, 0, False).replace(b"Content-Length: 0\r\n", b"")
        )
        for piece in guarded(body):
            if piece is None:
                return False  # no last chunk: the peer sees that the answer is not whole
            if piece:
                self._sock.sendall(http11.chunk(piece) if chunked else piece)
        if chunked:
            self._sock.sendall(http11.LAST_CHUNK)
        return keep and chunked

    def _widen(self, size: int) -> None:
        """A large answer waits in the kernel rather than here, as far as the kernel has room: the next request can begin."""
        size = min(size, SEND_ROOM)
        if size > self._room:
            self._room = size
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def _number(request: http11.Request, header: bytes) -> int:
    value = request.header(header) or b""
    return int(value) if value.isdigit() and len(value) <= 10 else 0


def guarded(body: Iterator[bytes]) -> Iterator[bytes | None]:
    """The pieces of a stream, and None if its handler raises. Closes the handler's iterator when the peer is gone."""
    try:
        while True:
            try:
                piece = next(body)
            except StopIteration:
                return
            except (Exception, SystemExit):  # noqa: BLE001  user code
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
                yield None
                return
            yield piece
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
