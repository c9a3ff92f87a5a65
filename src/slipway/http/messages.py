"""What a handler of our HTTP server gets and gives: values of HTTP, nothing of AWS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

Headers = list[tuple[bytes, bytes]]
"""In the order received. Names lower-cased by the server; values stripped of surrounding white space."""


class BodyTooLarge(Exception):
    """More bytes arrived, or were announced, than the reader allowed."""


class ClientGone(Exception):
    """The peer went away before the message was complete."""


class Body(Protocol):
    """A request's body as it arrives; reading it is what sends `100 Continue` and opens the receive window."""

    @property
    def length(self) -> int | None:
        """Content-Length in bytes; None when chunked."""

    async def read(self, limit: int) -> bytes:
        """The whole body; BodyTooLarge beyond `limit` bytes, ClientGone when cut short."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces as they arrive, with backpressure; ClientGone when cut short."""


@dataclass(slots=True)
class Request:
    method: str
    target: bytes
    """Path and query exactly as sent (percent-encoding untouched)."""
    headers: Headers
    body: Body
    scheme: str = "http"

    def header(self, name: bytes) -> bytes | None:
        """The first value of the (lower-case) `name`."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(slots=True)
class Response:
    """`body` as bytes gets a Content-Length; as an iterator it goes out chunked unless `length` says how long it is.

    An iterator that raises after the head was sent makes the server cut the connection: the peer sees a short body.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""
    length: int | None = None


Handler = Callable[[Request], Awaitable[Response]]
