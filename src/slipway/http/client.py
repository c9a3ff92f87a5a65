"""A pooled HTTP/1.1 client for one address: `unix:/path` or `tcp:host:port`.

For what our processes and containers need of each other: kept connections, bodies streamed both ways with backpressure,
100 Continue, early answers, cancelling by closing. Redirects, proxies, cookies, TLS: not here.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from slipway.http import render
from slipway.http.client_connection import ClientConnection
from slipway.http.messages import Headers

_SO_SNDBUFFORCE = 32
"""Of Linux; Python does not name it."""

__all__ = ["ClientResponse", "ConnectFailed", "NoAnswer", "Pool", "PoolLimits"]


class ConnectFailed(ConnectionError):
    """No connection could be made: nothing was sent."""


class NoAnswer(ConnectionError):
    """The connection broke, or what came was no HTTP, before an answer's head was complete."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    connections: int = 256
    """At a time; further requests wait in order."""
    idle: int = 64
    """Kept without a request."""
    idle_seconds: float = 60.0
    """Shorter than the servers keep theirs."""
    connect_seconds: float = 5.0
    buffer_bytes: int = 256 * 1024
    send_bytes: int = 0
    """Asked for in the kernel, of what is sent over unix sockets; 0: what it gives by itself."""


class ClientResponse:
    """An answer whose body is still coming; read it to the end, or `close()` it (which cuts the connection)."""

    def __init__(self, pool: Pool, connection: ClientConnection, sending: asyncio.Task[None] | None) -> None:
        self._pool = pool
        self._connection: ClientConnection | None = connection
        self._sending = sending
        self.status = connection.status
        self.headers: Headers = connection.headers
        self.length = connection.length
        """Content-Length in bytes; None when chunked or until the connection ends."""
        self._body = connection.body

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge (and closes) beyond `limit`, ClientGone if it is cut short."""
        try:
            data = await self._body.read(limit)
        except BaseException:
            await self.close()
            raise
        self._release()
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while data := await self._body.piece():
                yield data
        except BaseException:
            await self.close()
            raise
        self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._sending is not None and not self._sending.done():
                self._sending.cancel()
                connection.transport.abort()
            self._pool.release(connection)

    async def close(self) -> None:
        """Give up what has not been read. Harmless after the end."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.transport.abort()
        self._pool.release(connection)
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await self._sending


class Pool:
    """Connections to one address."""

    def __init__(self, address: str, limits: PoolLimits | None = None) -> None:
        self.address = address
        self._limits = limits or PoolLimits()
        self._idle: list[ClientConnection] = []
        self._open = 0
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._closed = False

    async def request(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        length: int | None = None,
        expect: bool = False,
        informed: Callable[[int], None] | None = None,
    ) -> ClientResponse:
        """Send one request; returns at the answer's head (`informed` is told of a 1xx before it; it must not raise).

        `headers` go out as they are; Host and the framing are added where missing. `length` is for a `body` that is an
        iterator (None: chunked). With `expect` the body is not touched before the peer says 100 Continue (or answers).
        Raises ConnectFailed, NoAnswer. A kept connection that breaks before any byte of an answer is replaced once, if
        the body can be sent again.
        """
        head = self._head(method, target, headers, body, length, expect)
        chunked = not isinstance(body, bytes) and length is None
        while True:
            connection = await self._acquire()
            fresh = connection.served == 0
            connection.begin(method, informed)
            replayable = isinstance(body, bytes)
            sending: asyncio.Task[None] | None = None
            try:
                if isinstance(body, bytes) and not expect:
                    connection.send(head + body if len(body) < 65536 else head)
                    if len(body) >= 65536:
                        connection.send(body)
                else:
                    connection.send(head)
                    if not expect or await connection.go_on():
                        replayable = False
                        source = body if not isinstance(body, bytes) else _once(body)
                        sending = asyncio.create_task(connection.send_body(source, chunked, length))
                        sending.add_done_callback(_retrieve)
                await self._answer(connection, sending)
            except NoAnswer:
                self._drop(connection)
                if fresh or not replayable or connection.touched:
                    raise
                continue
            except BaseException:
                if sending is not None:
                    sending.cancel()
                self._drop(connection)
                raise
            return ClientResponse(self, connection, sending)

    async def _answer(self, connection: ClientConnection, sending: asyncio.Task[None] | None) -> None:
        """Wait for the head of the answer; an error of the body's source comes first, a broken pipe while sending does not."""
        if sending is not None:
            head = connection.head_future()
            both: set[asyncio.Future[Any]] = {sending, head}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.cancelled():
                error = sending.exception()
                if error is not None and not isinstance(error, ConnectionError):
                    raise error
        if not await connection.head_future():
            raise NoAnswer(f"{self.address} closed the connection without an answer")

    @staticmethod
    def _head(
        method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes], length: int | None, expect: bool
    ) -> bytes:
        names = {name for name, _ in headers}
        lines = [b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), target)]
        for name, value in headers:
            if not render.clean_value(value) or not render.clean_value(name) or b":" in name:
                raise render.BadHeader(f"header {name!r}")
            lines.append(b"%b: %b\r\n" % (name, value))
        if b"host" not in names:
            lines.append(b"host: localhost\r\n")
        if isinstance(body, bytes):
            length = len(body)
        if length is None:
            if b"transfer-encoding" not in names:
                lines.append(b"transfer-encoding: chunked\r\n")
        elif b"content-length" not in names and (length or method in ("POST", "PUT", "PATCH")):
            lines.append(b"content-length: %d\r\n" % length)
        if expect and b"expect" not in names:
            lines.append(b"expect: 100-continue\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    # ---- connections

    async def _acquire(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.usable() and loop.time() - connection.idle_since < self._limits.idle_seconds:
                    return connection
                self._drop(connection)
            if self._closed:
                raise ConnectFailed(f"the pool of {self.address} is closed")
            if self._open < self._limits.connections:
                return await self._connect(loop)
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> ClientConnection:
        self._open += 1
        bound = self._limits.buffer_bytes
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                if self.address.startswith("unix:"):
                    _, connection = await loop.create_unix_connection(lambda: ClientConnection(self, bound), self.address[5:])
                    if self._limits.send_bytes:
                        _widen(connection.transport.get_extra_info("socket"), self._limits.send_bytes)
                else:
                    host, _, port = self.address.removeprefix("tcp:").rpartition(":")
                    _, connection = await loop.create_connection(
                        lambda: ClientConnection(self, bound), host.strip("[]"), int(port)
                    )
        except BaseException as error:
            self._open -= 1
            self._wake()
            if isinstance(error, OSError | TimeoutError):
                raise ConnectFailed(f"cannot connect to {self.address}: {error or 'timed out'}") from error
            raise
        return connection

    def release(self, connection: ClientConnection) -> None:
        """Back from a request: kept if it is clean and there is room."""
        if connection.reusable() and not self._closed and len(self._idle) < self._limits.idle:
            connection.idle_since = asyncio.get_running_loop().time()
            connection.served += 1
            self._idle.append(connection)
            self._wake()
        else:
            self._drop(connection)

    def lost(self, connection: ClientConnection) -> None:
        """An idle connection was closed by the peer."""
        if connection in self._idle:
            self._idle.remove(connection)
            self._drop(connection)

    def _drop(self, connection: ClientConnection) -> None:
        connection.transport.abort()
        self._open -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Cut idle connections; those in use end with their request."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop())


async def _once(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


def _retrieve(task: asyncio.Task[None]) -> None:
    """The request's body failed after the answer had begun: the answer stands."""
    if not task.cancelled():
        task.exception()


def _widen(sock: socket.socket, size: int) -> None:
    """So much of what is sent may wait in the kernel; as much as it allows."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it is for administrators
            sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
            return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
