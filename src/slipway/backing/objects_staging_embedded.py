"""The embedded object store beside the process that owns it: rows are read, blobs written; control's transaction names them."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from slipway.backing.objects import UNPROMISED, Reading, Span
from slipway.backing.objects_blobs import Blobs, close_all, overlapping
from slipway.backing.objects_errors import no_such_key, s3_error
from slipway.backing.objects_intake import take_in
from slipway.backing.objects_rows import INLINE, owned, to_info
from slipway.backing.objects_staging import Staging
from slipway.core.asynchronous import Staged
from slipway.store import objects as rows
from slipway.store.db import Connection, Db, StoreError

T = TypeVar("T")

_TRIES = 100
"""Readings of a row whose files are gone by the time they are opened: somebody replaces the object again and again."""


class EmbeddedStaging(Staging):
    """`db` is only read (`Db.open_reading`); it is closed by whoever opened it. `directory` is EmbeddedObjects'."""

    resumable = True

    def __init__(self, db: Db, directory: str) -> None:
        self._db = db
        self._blobs = Blobs(directory)

    async def close(self) -> None:
        self._blobs.close()

    async def open(self, bucket: str, key: str, account: str) -> Reading:
        for _ in range(_TRIES):
            row = await self._row(bucket, key, account)
            if not row.segments:
                return _OpenReading(row, self._blobs, ())
            fds = await self._blobs.open_all([segment.blob for segment in row.segments])
            if fds is not None:
                return _OpenReading(row, self._blobs, fds)
        raise s3_error("InternalError")

    async def _row(self, bucket: str, key: str, account: str) -> rows.ObjectRow:
        def get(conn: Connection) -> rows.ObjectRow:
            owned(conn, bucket, account)
            row = rows.get_object(conn, bucket, key, content=True)
            if row is None:
                raise no_such_key(key)
            return row

        return await self._read(get)

    async def _read(self, fn: Callable[[Connection], T]) -> T:
        try:
            return await self._db.read(fn)
        except StoreError as error:
            raise s3_error("ServiceUnavailable", "The database cannot take the request now. Please try again.") from error

    async def stage(
        self,
        bucket: str,
        key: str,
        body: bytes | AsyncIterator[bytes],
        content_type: str,
        account: str,
        most: int,
        *,
        blob: bool = False,
    ) -> Staged:
        if isinstance(body, bytes) and len(body) <= INLINE and not blob:  # the settlement looks whose bucket it is
            etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
            return Staged(bucket, key, len(body), etag, content_type, data=body)
        await self._read(lambda conn: owned(conn, bucket, account))
        taken = await take_in(self._blobs, body, UNPROMISED, inline=-1 if blob else INLINE, most=most)
        segments = tuple((segment.blob, 0, segment.size) for segment in taken.segments)
        return Staged(bucket, key, taken.size, taken.md5, content_type, taken.data, segments)

    async def discard(self, staged: Staged) -> None:
        self._blobs.retire([blob for blob, _, _ in staged.segments])

    async def publish(self, staged: Staged) -> None:
        """The row has done it."""


class _OpenReading(Reading):
    """All of an object's files are open: it does not matter who removes them."""

    def __init__(self, row: rows.ObjectRow, blobs: Blobs, fds: Sequence[int]) -> None:
        self.info = to_info(row)
        self.data = row.data
        self._segments = row.segments
        self._blobs = blobs
        self._fds = {segment.blob: fd for segment, fd in zip(row.segments, fds, strict=True)} if fds else {}
        self._release = weakref.finalize(self, close_all, fds)
        self._release.atexit = False

    async def read(self, span: Span) -> AsyncGenerator[bytes, None]:
        try:
            if self.data is not None:
                if span.length:
                    yield self.data[span.start : span.start + span.length]
                return
            for segment, offset, size in overlapping(self._segments, span.start, span.length):
                async with aclosing(self._blobs.pieces(self._fds[segment.blob], offset, size)) as pieces:
                    async for piece in pieces:
                        yield piece
        finally:
            self.close()

    def close(self) -> None:
        self._release()
