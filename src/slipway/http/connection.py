"""A server's side of one connection: parses, bounds, keeps order, and tells when the client has gone.

Three parties meet here: the parser's callbacks (what arrives), the exchange being answered, and the server's sweep (what
takes too long). A request is claimed by the server's `fast` hook at its head, or handled by a task. While one is being
answered nothing further is parsed: bytes that come early wait, and the socket is paused.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httptools

from slipway.http import render
from slipway.http.answering import answer_with
from slipway.http.body import IncomingBody, gone
from slipway.http.exchange import Exchange
from slipway.http.heads import ORDINARY, RARE, Fault, check_head, check_rare
from slipway.http.messages import Request, Response

if TYPE_CHECKING:
    from slipway.http.server import Server

logger = logging.getLogger(__name__)

_METHODS = {name.encode(): name for name in ("GET", "POST", "PUT", "HEAD", "DELETE")}
_WRITING, _AHEAD, _BODY = 1, 2, 4
"""Why reading is paused: the peer does not read, a next request came early, the handler has not read the body."""
_LINGER = 2.0
"""Seconds that a refused client may go on sending, so that it reads the refusal before a reset."""


class Connection(asyncio.Protocol):
    """Made by `Server`, one for each accepted socket."""

    __slots__ = (
        "_ahead",
        "_closing",
        "_current",
        "_drain",
        "_fault",
        "_fed",
        "_feeding",
        "_head_bytes",
        "_head_done",
        "_incoming",
        "_long",
        "_parser",
        "_paused",
        "_queue",
        "_resuming",
        "_stamp",
        "_task",
        "_trailing",
        "_unsent",
        "_values",
        "scheme",
        "server",
        "transport",
    )

    def __init__(self, server: Server, scheme: str) -> None:
        self.server = server
        self.scheme = scheme
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._parser: Any = None
        self._incoming: Exchange | None = None
        self._current: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._ahead: list[bytes] = []
        self._head_done = False
        self._values: dict[bytes, bytes] | None = None
        """Of the head that is arriving; without one, headers are trailers."""
        self._trailing = 0
        self._fed = 0
        """Bytes that came for a head that is not complete; `_long`: so many that it may exceed a bound."""
        self._long = False
        self._feeding = False
        self._resuming = False
        self._closing = False
        self._fault: Fault | None = None
        self._paused = 0
        self._unsent = 0
        self._head_bytes = server.limits.head_bytes
        self._stamp = server.clock
        self._task: asyncio.Task[None] | None = None
        self._drain: asyncio.Future[None] | None = None

    # ---- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._parser = httptools.HttpRequestParser(self)
        self.transport.set_write_buffer_limits(high=262144)
        if not self.server.opened(self):
            self._refuse(Fault(503, "too many connections"))

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        current = self._current
        if current is not None and current.complete:
            self._ahead.append(data)
            self._pause(_AHEAD, True)
            return
        self._feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self.server.closed(self)
        self._abandon()
        for exchange in self._queue:
            exchange.answered = True
        self._queue.clear()
        self._ahead.clear()
        self._parser = None
        drain = self._drain
        if drain is not None and not drain.done():
            drain.set_result(None)

    def pause_writing(self) -> None:
        self._stamp = self.server.clock
        self._unsent = self.transport.get_write_buffer_size()
        if self._current is None or self._current.complete:
            self._pause(_WRITING, True)
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        self._pause(_WRITING, False)
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    # ---- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._resuming or self._closing:
            return
        self._incoming = exchange = Exchange(self)
        self._values = exchange.values
        self._head_done = False
        self._stamp = self.server.clock

    def on_url(self, url: bytes) -> None:
        incoming = self._incoming
        if incoming is not None and not self._resuming:
            incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        values = self._values
        name = name.lower()
        if values is None:
            self._trailing += 1
        elif name in values:
            if self._incoming is not None:
                self._incoming.repeat(name, value.rstrip(b" \t"))
        else:
            values[name] = value.rstrip(b" \t")

    def on_headers_complete(self) -> None:
        incoming = self._incoming
        if self._resuming or incoming is None:
            return
        self._head_done = True
        values, self._values = incoming.values, None
        self._fed = 0
        server = self.server
        limits = server.limits
        repeated = incoming.repeated is not None
        incoming.ordinary = ordinary = not repeated and ORDINARY.issuperset(values)
        if self._long or repeated or len(values) > limits.headers or len(incoming.target) > limits.target_bytes:
            check_head(incoming, limits)
        parser = self._parser
        method = parser.get_method()
        incoming.method = _METHODS.get(method) or method.decode("ascii")
        if b"content-length" in values:
            incoming.length = int(values[b"content-length"])
        keep_alive = parser.should_keep_alive()
        if not keep_alive or not (ordinary or RARE.isdisjoint(values)):
            check_rare(incoming, parser.get_http_version())
        if server.stopping or not keep_alive:
            incoming.keep_alive = False
        if self._current is None:
            self._begin(incoming)
        elif len(self._queue) < limits.pipelined:
            self._queue.append(incoming)
        else:
            raise Fault(400, "too many pipelined requests")

    def on_body(self, data: bytes) -> None:
        exchange = self._incoming
        if exchange is None:
            return
        self._stamp = self.server.clock
        size = len(data)
        exchange.received = received = exchange.received + size
        claimant = exchange.claimant
        if exchange.body is not None:
            exchange.body.feed(data)
        elif exchange.answered:
            return
        elif claimant is not None:
            budget = self.server.budget
            if received > exchange.limit:
                claimant.refused("too-large")
            elif budget.used + size > budget.limit:
                claimant.refused("no-memory")
            else:
                budget.used += size
                exchange.held = received
                if received == size:
                    exchange.first = data
                else:
                    exchange.keep(data)
        else:
            exchange.keep(data)

    def on_message_complete(self) -> None:
        exchange = self._incoming
        if exchange is None:
            return
        if self._resuming:
            self._resuming = False
        elif exchange.upgrade and exchange.length != 0 and self._parser.should_upgrade():
            return
        self._incoming = None
        exchange.complete = True
        if exchange is not self._current:
            return
        self._deliver(exchange)

    # ---- parsing

    def _feed(self, data: bytes) -> None:
        self._feeding = True
        fed = self._fed + len(data)
        self._long = fed > self._head_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._malformed(error)
        self._feeding = False
        if self._incoming is not None and not self._head_done:
            self._fed = fed
            if self._long and not self._closing:
                self._broken(Fault(431, "the request's headers are too large"))
        if self._trailing:
            self._trailers()

    def _trailers(self) -> None:
        """Fields after a chunked body are dropped, and bounded."""
        if self._incoming is None:
            self._trailing = 0
        elif self._trailing > self.server.limits.headers and not self._closing:
            self._broken(Fault(431, "the request's trailers are too many"))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """The parser stops after the head of a request that offers another protocol: a new one goes on behind it."""
        exchange = self._incoming
        self._parser = httptools.HttpRequestParser(self)
        if exchange is not None:
            framing = b"transfer-encoding: chunked" if exchange.length is None else b"content-length: %d" % exchange.length
            self._resuming = True
            rest = b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n" + rest
        current = self._current
        if exchange is None and current is not None and current.complete:
            if rest:
                self._ahead.append(rest)
        elif rest:
            self._feed(rest)

    def _malformed(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(cause, Fault):
            self._broken(cause)
            return
        current = self._current
        if current is not None and current.complete and not current.keep_alive:
            return
        self._broken(Fault(400, f"malformed request: {error}"))

    def _broken(self, fault: Fault) -> None:
        """The stream cannot be parsed further: what was complete is answered, the fault after it, then it closes."""
        current = self._current
        if current is not None and current.complete:
            self._fault = fault
            self._queue = deque(exchange for exchange in self._queue if exchange.complete)
            self._incoming = None
            self._pause(_AHEAD, True)
            return
        if current is not None and current.answered:
            self.transport.abort()
            return
        self._abandon()
        self._refuse(fault)

    # ---- from head to answer

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        server = self.server
        fast = server.fast
        if fast is not None:
            try:
                claimed = fast(exchange)
            except Exception:
                logger.exception("fast-hook-failed")
                self._crashed()
                return
            if claimed:
                if exchange.expects and not exchange.answered:
                    self._send_continue()
                return
        exchange.body = body = IncomingBody(
            exchange.length,
            server.limits.buffer_bytes,
            self._send_continue if exchange.expects else None,
            self._pause_body,
        )
        if exchange.first:
            body.feed(exchange.collected())
        request = Request(exchange.method, exchange.target, exchange.headers, body, self.scheme)
        self.run(exchange, functools.partial(server.handler, request))

    def _crashed(self) -> None:
        answered = self._current is not None and self._current.answered
        self._abandon()
        if answered:
            self.transport.abort()
        else:
            self._refuse(Fault(500, "internal failure"))

    def _deliver(self, exchange: Exchange) -> None:
        claimant = exchange.claimant
        if exchange.body is not None:
            exchange.body.finish()
        elif claimant is not None and not exchange.answered:
            try:
                claimant.whole(exchange.first if exchange.rest is None else exchange.collected())
            except Exception:
                logger.exception("claimant-failed")
                self._crashed()

    def run(self, exchange: Exchange, answer: Callable[[], Awaitable[Response]]) -> None:
        self._task = asyncio.get_running_loop().create_task(answer_with(self, exchange, answer))

    async def writable(self) -> None:
        """Wait while the peer does not read. Raises ClientGone."""
        if self._drain is not None:
            await self._drain
        if self.transport.is_closing():
            raise gone()

    def answering_ends(self) -> None:
        """The task of the current exchange has nothing left to do but its last write: it must not be cancelled any more."""
        self._task = None

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def finished(self, exchange: Exchange) -> None:
        """The answer of `exchange` is written whole."""
        server = self.server
        if exchange.held:
            server.budget.used -= exchange.held
            exchange.held = 0
        if self._current is not exchange:
            return
        self._current = None
        exchange.claimant = None
        exchange.first, exchange.rest = b"", None
        self._stamp = server.clock
        if exchange.body is not None and not exchange.complete:
            exchange.body.fail(gone())
            exchange.body = None
            self._pause(_BODY, False)
        if not exchange.keep_alive:
            self._close(linger=not exchange.complete)
        elif self._queue:
            self._next(self._queue.popleft())
        elif self._fault is not None:
            self._refuse(self._fault)
        elif self._ahead and not self._feeding:
            ahead = b"".join(self._ahead)
            self._ahead.clear()
            self._feed(ahead)
            if not self._ahead:
                self._pause(_AHEAD, False)

    def _next(self, exchange: Exchange) -> None:
        self._begin(exchange)
        if exchange.complete:
            self._deliver(exchange)

    def _send_continue(self) -> None:
        current = self._current
        if current is not None and current.expects and not current.answered:
            current.expects = False
            self._stamp = self.server.clock
            self.write(render.CONTINUE)

    # ---- endings

    def _abandon(self) -> None:
        """Nobody waits for the current exchange's answer any more."""
        current, self._current = self._current, None
        self._incoming = None
        if current is None:
            return
        if current.held:
            self.server.budget.give(current.held)
            current.held = 0
        waiting = not current.answered
        current.answered = True
        if current.body is not None:
            current.body.fail(gone())
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if waiting and current.claimant is not None:
            current.claimant.gone()

    def _refuse(self, fault: Fault) -> None:
        """Answer outside of any exchange, and close."""
        body = render.refusal(fault.status, fault.message)
        self.write(
            b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (render.status_line(fault.status), self.server.date, len(body), body)
        )
        self._close(linger=True)

    def _close(self, linger: bool) -> None:
        self._closing = True
        self._stamp = self.server.clock
        self._pause(_AHEAD | _BODY, False)
        if linger and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        else:
            self.transport.close()

    def stop(self) -> bool:
        """Ask for an end after the current answer; True if there is nothing to wait for."""
        if self._current is None and self._incoming is None:
            self.transport.close()
            return True
        for exchange in (self._current, self._incoming, *self._queue):
            if exchange is not None:
                exchange.keep_alive = False
        return False

    def sweep(self, now: float) -> None:
        """Called by the server once a second."""
        limits = self.server.limits
        age = now - self._stamp
        current = self._current
        if self._closing:
            if (age > _LINGER and self.transport.get_write_buffer_size() == 0) or age > limits.write_seconds:
                self.transport.abort()
        elif self._drain is not None:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent, self._stamp = unsent, now
            elif age > limits.write_seconds:
                self.transport.abort()
        elif self._incoming is not None and not self._head_done:
            if age > limits.head_seconds and current is None:
                self._broken(Fault(408, "the request's head did not arrive in time"))
        elif self._incoming is not None:
            if age > limits.body_seconds and not self._paused and not (current is not None and current.expects):
                self._broken(Fault(408, "the request's body did not arrive in time"))
        elif current is None and age > limits.idle_seconds:
            self.transport.close()

    # ---- reading on and off

    def _pause_body(self, on: bool) -> None:
        self._pause(_BODY, on)

    def _pause(self, reason: int, on: bool) -> None:
        before = self._paused
        self._paused = after = before | reason if on else before & ~reason
        if bool(before) == bool(after) or self.transport.is_closing():
            return
        if after:
            self.transport.pause_reading()
        else:
            self._stamp = self.server.clock
            self.transport.resume_reading()
