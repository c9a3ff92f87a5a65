"""A request's or an answer's body as it arrives: pieces in order, bounded by pausing the socket it comes from."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import AsyncIterator, Callable

from slipway.http.messages import BodyTooLarge, ClientGone

__all__ = ["IncomingBody"]

_LARGE = 1024 * 1024
"""Bytes from which on a body is received in its place."""


class IncomingBody:
    """`http.messages.Body` between a parser that feeds it and one reader.

    `open` is called once, before the first read waits (it sends 100 Continue); `pause(True)` asks for no more bytes.
    """

    __slots__ = ("_bound", "_chunks", "_error", "_held", "_open", "_pause", "_paused", "_waiter", "complete", "length")

    def __init__(self, length: int | None, bound: int, open_: Callable[[], None] | None, pause: Callable[[bool], None]) -> None:
        self.length = length
        self.complete = False
        self._bound = bound
        self._open = open_
        self._pause = pause
        self._paused = False
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    # ---- the parser's side

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        if self._held > self._bound and not self._paused:
            self._paused = True
            self._pause(True)
        self._wake()

    def finish(self) -> None:
        self.complete = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """The rest will not come. Bytes already here are dropped: half a body is no body."""
        if not self.complete and self._error is None:
            self._error = error
            self._chunks.clear()
            self._held = 0
            self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ---- the reader's side

    async def piece(self) -> bytes:
        """The next piece; b"" at the end."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            if self._open is not None:
                opener, self._open = self._open, None
                opener()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        self._held -= len(data)
        if self._paused and self._held * 2 < self._bound:
            self._paused = False
            self._pause(False)
        return data

    async def read(self, limit: int) -> bytes:
        """All of it. Raises BodyTooLarge (before the peer is told to go on, if it announced the length), ClientGone."""
        if self.length is not None and self.length > limit:
            raise BodyTooLarge(f"{self.length} bytes announced, {limit} allowed")
        if self.length is not None and self.length > _LARGE:
            return await self._filled(self.length)
        parts: list[bytes] = []
        total = 0
        while data := await self.piece():
            total += len(data)
            if total > limit:
                raise BodyTooLarge(f"more than {limit} bytes")
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _filled(self, length: int) -> bytes:
        """Large: not held in pieces and whole at once."""
        # BytesIO gives its memory away as bytes without a copy, and `bytes(length)` costs pages only as they are filled.
        whole = io.BytesIO(bytes(length))
        at = 0
        while data := await self.piece():
            at += whole.write(data)
        whole.truncate(at)
        return whole.getvalue()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while data := await self.piece():
            yield data


def gone() -> ClientGone:
    return ClientGone("the peer went away before its message was complete")
