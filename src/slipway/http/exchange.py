"""One request and its one answer on a server's connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from slipway.http import render
from slipway.http.body import IncomingBody
from slipway.http.messages import Headers, Response

if TYPE_CHECKING:
    from slipway.http.connection import Connection


_OK = b"HTTP/1.1 200 OK\r\n%b%bcontent-length: %d\r\n\r\n%b"


class Claimant(Protocol):
    """Who takes an exchange at its head and answers it from callbacks, without a task. Each is called at most once."""

    def whole(self, body: bytes) -> None:
        """The complete body is here."""

    def refused(self, why: str) -> None:
        """The body did not fit: `too-large` (for the claim's limit) or `no-memory` (for the budget). Answer now."""

    def gone(self) -> None:
        """The client went away; no answer is wanted any more."""


class Exchange:
    """Held by its connection and by whoever answers; an answer after the client has gone is dropped.

    `length` is Content-Length, None when the body is chunked, 0 without a body.
    """

    __slots__ = (
        "_listed",
        "answered",
        "body",
        "claimant",
        "complete",
        "connection",
        "expects",
        "first",
        "held",
        "keep_alive",
        "length",
        "limit",
        "method",
        "old",
        "ordinary",
        "received",
        "repeated",
        "rest",
        "target",
        "upgrade",
        "values",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.method = ""
        self.target = b""
        self.length: int | None = 0
        self.values: dict[bytes, bytes] = {}
        """The headers by name; of a repeated one, the last."""
        self.repeated: Headers | None = None
        """The headers up to the last one that repeats a name."""
        self.ordinary = self.upgrade = False
        """`ordinary`: all headers are among `heads.ORDINARY`, each came once: they need no further look."""
        self.expects = False
        """The client waits for 100 Continue, which has not been sent."""
        self.keep_alive = True
        self.old = False
        """HTTP/1.0."""
        self.complete = False
        """The request has arrived whole."""
        self.answered = False
        """The answer's head has been written (or is not wanted any more)."""
        self.received = self.held = self.limit = 0
        """Bytes of body; of these, taken from the server's budget; and how many a claimant allows."""
        self.claimant: Claimant | None = None
        self.body: IncomingBody | None = None
        self.first = b""
        """Of the body's pieces, collected for who claims; `rest`: the others."""
        self.rest: list[bytes] | None = None

    @property
    def headers(self) -> Headers:
        """All of them, in the order they came."""
        if self.repeated is None:
            return list(self.values.items())
        return [*self.repeated, *islice(self.values.items(), self._listed, None)]

    def repeat(self, name: bytes, value: bytes) -> None:
        """Take a header whose name has come before."""
        self.repeated = [*self.headers, (name, value)]
        self._listed = len(self.values)
        self.values[name] = value

    def keep(self, data: bytes) -> None:
        """Collect a piece of the body."""
        if not self.first:
            self.first = data
        elif self.rest is None:
            self.rest = [data]
        else:
            self.rest.append(data)

    def collected(self) -> bytes:
        """The body's pieces as one; they are not kept any longer."""
        data = self.first if self.rest is None else b"".join((self.first, *self.rest))
        self.first, self.rest = b"", None
        return data

    def header(self, name: bytes) -> bytes | None:
        """The first value of the (lower-case) `name`."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def claim(self, claimant: Claimant, limit: int) -> None:
        """Take the exchange: the body is collected in memory, up to `limit` bytes, and handed over whole."""
        self.claimant = claimant
        self.limit = limit

    def run(self, answer: Callable[[], Awaitable[Response]]) -> None:
        """Let a coroutine give the answer of a claimed exchange; it is cancelled when the client goes."""
        self.connection.run(self, answer)

    def respond(self, status: int, headers: Headers, body: bytes, length: int | None = None) -> None:
        """Answer. Raises `render.BadHeader` for a header that HTTP cannot carry (nothing has been written then)."""
        self.respond_block(status, render.header_block(headers), body, length)

    def respond_block(self, status: int, block: bytes, body: bytes, length: int | None = None) -> None:
        """Answer with header lines that are ready and known to be clean. `length` is for answers to HEAD."""
        if self.answered:
            return
        connection = self.connection
        if status == 200 and self.complete and self.keep_alive and len(body) <= 65536 and self.method != "HEAD":
            self.answered = True
            if not connection.transport.is_closing():
                connection.transport.write(_OK % (block, connection.server.date, len(body), body))
            connection.finished(self)
            return
        self.settle_keep_alive()
        if self.method == "HEAD" or status == 304:
            size = b"content-length: %d\r\n" % (len(body) if length is None else length) if status != 304 else b""
            body = b""
        elif status == 204:
            size = body = b""
        else:
            size = b"content-length: %d\r\n" % len(body)
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.answered = True
        head = b"%b%b%b%b%b" % (render.status_line(status), block, connection.server.date, size, end)
        if len(body) > 65536:
            connection.write(head)
            connection.write(body)
        else:
            connection.write(head + body)
        connection.finished(self)

    def stream_head(self, status: int, block: bytes, length: int | None) -> bool:
        """Write the head of an answer that comes in pieces; True if the pieces are to be framed as chunks."""
        self.settle_keep_alive()
        chunked = length is None and not self.old
        if length is None and self.old:
            self.keep_alive = False
        size = b"transfer-encoding: chunked\r\n" if chunked else b"" if length is None else b"content-length: %d\r\n" % length
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.answered = True
        connection = self.connection
        connection.write(b"%b%b%b%b%b" % (render.status_line(status), block, connection.server.date, size, end))
        return chunked

    def settle_keep_alive(self) -> None:
        """Whether the connection survives this answer: not when much of the request is still to come."""
        if self.complete:
            return
        limit = self.connection.server.limits.drain_bytes
        if self.expects or self.length is None or self.length - self.received > limit:
            self.keep_alive = False
