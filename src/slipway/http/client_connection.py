"""The client's side of one connection: one request at a time, its answer parsed as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import httptools

from slipway.http import render
from slipway.http.body import IncomingBody, gone
from slipway.http.messages import Headers

if TYPE_CHECKING:
    from slipway.http.client import Pool

_HEAD_BYTES = 64 * 1024
_HEADERS = 256


class ClientConnection(asyncio.Protocol):
    """Owned by a Pool; lent to one request."""

    def __init__(self, pool: Pool, bound: int) -> None:
        self._pool = pool
        self._bound = bound
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.served = 0
        self.idle_since = 0.0
        self.touched = False
        """A byte of the current answer has come."""
        self.status = 0
        self.headers: Headers = []
        self.length: int | None = None
        self._parser: Any = None
        self._method = ""
        self._informed: Callable[[int], None] | None = None
        self._busy = False
        self._lost = False
        self._clean = True
        self._head_done = False
        self._head_size = 0
        self._keep = True
        self._sent = True
        self._head: asyncio.Future[bool] | None = None
        self._continue: asyncio.Future[bool] | None = None
        self._drain: asyncio.Future[None] | None = None
        self.body = self._new_body()

    def _new_body(self) -> IncomingBody:
        return IncomingBody(None, self._bound, None, self._pause)

    def _pause(self, on: bool) -> None:
        if not self.transport.is_closing():
            if on:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # ---- the request's side

    def begin(self, method: str, informed: Callable[[int], None] | None = None) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self._informed = informed
        self._busy = True
        self.touched = False
        self._reset()
        self.body = self._new_body()
        self._sent = True
        loop = asyncio.get_running_loop()
        self._head = loop.create_future()
        if self._lost:
            self._head.set_result(False)

    def _reset(self) -> None:
        self.status = 0
        self.headers = []
        self.length = None
        self._head_done = False
        self._head_size = 0

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def go_on(self) -> bool:
        """After a head with Expect: True at 100 Continue, False when an answer (or the end) came instead."""
        self._continue = asyncio.get_running_loop().create_future()
        head = self.head_future()
        try:
            await asyncio.wait({self._continue, head}, return_when=asyncio.FIRST_COMPLETED)
            proceed = self._continue.done() and not head.done()
            if not proceed:
                self._sent = False
            return proceed
        finally:
            self._continue = None

    async def send_body(self, source: AsyncIterator[bytes], chunked: bool, length: int | None) -> None:
        """Send the pieces of `source`, with backpressure, until they end or the connection does."""
        self._sent = False
        count = 0
        async for data in source:
            if not data:
                continue
            count += len(data)
            self.send(render.chunk(data) if chunked else data)
            if self._drain is not None:
                await self._drain
            if self.transport.is_closing():
                raise ConnectionResetError("the peer closed while the body was sent")
        if length is not None and count != length:
            self.transport.abort()
            raise ValueError(f"the body has {count} bytes, not {length}")
        if chunked:
            self.send(render.LAST_CHUNK)
        self._sent = True

    def head_future(self) -> asyncio.Future[bool]:
        """True when the answer's head is here, False when it will not come."""
        assert self._head is not None
        return self._head

    def usable(self) -> bool:
        return not self._lost and not self.transport.is_closing()

    def reusable(self) -> bool:
        clean = self._keep and self._clean and self._sent and not self._busy
        return self.usable() and clean and not self.transport.get_write_buffer_size()

    # ---- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self._clean = False
            self.transport.abort()
            return
        self.touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._busy:
                self._fail()
            self._clean = False
            return
        if not self._head_done:
            self._head_size += len(data)
            if self._head_size > _HEAD_BYTES:
                self._fail()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._busy and self._head_done and not self._keep and self.length is None and not self._chunked():
            self._complete()
        self._end()
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._pool.lost(self)

    def pause_writing(self) -> None:
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    # ---- the parser's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return
        name = name.lower()
        if name == b"content-length":
            self.length = int(value)
        self._head_size += len(name) + len(value) + 4
        if self._head_size > _HEAD_BYTES or len(self.headers) >= _HEADERS:
            raise ValueError("the answer's head is too large")
        self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            return
        self._head_done = True
        self._keep = self._parser.should_keep_alive()
        body_length = self.length
        if self._method == "HEAD" or self.status in (204, 304):
            self.body.length = 0
            self._complete()
            self._clean = self._keep
        else:
            self.body.length = body_length
        if self._head is not None and not self._head.done():
            self._head.set_result(True)

    def on_body(self, data: bytes) -> None:
        if self._busy:
            self.body.feed(data)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200:
            informed, waiter = self.status, self._continue
            self._reset()
            if informed == 100 and waiter is not None and not waiter.done():
                waiter.set_result(True)
            elif self._informed is not None:
                self._informed(informed)
            return
        if self._busy:
            self._complete()

    # ---- endings

    def _chunked(self) -> bool:
        return any(name == b"transfer-encoding" for name, _ in self.headers)

    def _complete(self) -> None:
        self._busy = False
        self.body.finish()

    def _fail(self) -> None:
        self.transport.abort()
        self._end()

    def _end(self) -> None:
        self._busy = False
        self.body.fail(gone())
        if self._head is not None and not self._head.done():
            self._head.set_result(False)
