"""An output object while it grows: staged in pieces, each of which is durable once it is closed (a durable point)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence

from slipway.backing.objects import MAX_OBJECT
from slipway.backing.objects_staging import Staging
from slipway.core.asynchronous import Staged
from slipway.core.transforms import Piece, composite_etag

SMALL = 64 * 1024
"""Bytes that are held before anything is written."""
PIECE = 1024 * 1024
"""Bytes that are handed to the disk at a time."""
_AHEAD = 4
"""Writes that the disk may be behind."""


class Output:
    """`write`, `point` now and then, `finish` or `drop` once. Raises as `Staging.stage`."""

    def __init__(self, staging: Staging, bucket: str, key: str, account: str, pieces: Sequence[Piece] = ()) -> None:
        self.key = key
        self.content_type = ""
        self.pieces = list(pieces)
        self._staging = staging
        self._bucket = bucket
        self._account = account
        self._made: list[Piece] = []
        """Pieces of this process that no durable point names yet."""
        self._held: list[bytes] = []
        self._size = 0
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self._writing: asyncio.Task[Staged] | None = None

    @property
    def size(self) -> int:
        """Bytes since the last durable point."""
        return self._size

    async def write(self, data: bytes) -> None:
        if not data:
            return
        self._size += len(data)
        if self._writing is None:
            self._held.append(data)
            if self._size <= SMALL:
                return
            data, self._held = b"".join(self._held), []
            self._writing = asyncio.get_running_loop().create_task(self._stage(self._arriving()))
        for at in range(0, len(data), PIECE):  # a large answer is not there a second time
            await self._hand(data if len(data) <= PIECE else bytes(memoryview(data)[at : at + PIECE]))

    async def _hand(self, data: bytes | None) -> None:
        """To the disk; what went wrong there is raised here."""
        writing = self._writing
        assert writing is not None
        putting = asyncio.ensure_future(self._queue.put(data))
        try:
            await asyncio.wait((putting, writing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not putting.done():
                putting.cancel()
        if writing.done():
            writing.result()

    async def _arriving(self) -> AsyncIterator[bytes]:
        while (data := await self._queue.get()) is not None:
            yield data

    async def _stage(self, body: bytes | AsyncIterator[bytes], *, blob: bool = False) -> Staged:
        return await self._staging.stage(
            self._bucket, self.key, body, self.content_type, self._account, MAX_OBJECT, blob=blob or bool(self.pieces)
        )

    async def _close(self, *, blob: bool) -> Staged:
        """What was written since the last point."""
        if self._writing is None:
            staged = await self._stage(b"".join(self._held), blob=blob)
        else:
            await self._hand(None)
            staged = await self._writing
        self._writing, self._held, self._size = None, [], 0
        self._queue = asyncio.Queue(_AHEAD)
        return staged

    async def point(self) -> tuple[Piece, ...]:
        """All that was written is on disk: these pieces."""
        if self._size:
            staged = await self._close(blob=True)
            fresh = [Piece(blob, size, staged.etag) for blob, _, size in staged.segments]
            self.pieces += fresh
            self._made += fresh
        return tuple(self.pieces)

    def named(self) -> None:
        """Control's row names the pieces of the last point."""
        self._made.clear()

    async def finish(self) -> Staged:
        """The whole object."""
        if not self.pieces:
            return await self._close(blob=False)
        await self.point()
        pieces = self.pieces
        etag = pieces[0].md5 if len(pieces) == 1 else composite_etag([bytes.fromhex(p.md5) for p in pieces], _md5)
        segments = tuple((piece.blob, 0, piece.size) for piece in pieces)
        total = sum(piece.size for piece in pieces)
        return Staged(self._bucket, self.key, total, etag, self.content_type, segments=segments)

    async def drop(self) -> None:
        """Nobody wants it. What a durable point names stays: control decides."""
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._writing
        if self._made:
            segments = tuple((piece.blob, 0, piece.size) for piece in self._made)
            await self._staging.discard(Staged(self._bucket, self.key, 0, "", "", segments=segments))


def _md5(data: bytes) -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)
