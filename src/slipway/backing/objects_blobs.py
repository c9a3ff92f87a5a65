"""Blob files: content too large for a row. Opaque names, written once, never changed.

Writing: a temporary file, fsync, rename, fsync of the folder; then the caller commits a row that names the blob. A blob that
no row names is garbage: `left_behind` finds what dead processes left, `retire` removes what a commit has replaced, once
nobody reads it. Control and dispatchers write to one folder at a time; only control removes.
Threads do the disk work and the digests, side by side; the event loop only passes pieces on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from slipway.backing import objects_writers
from slipway.backing.objects_digests import Digests
from slipway.store.objects import Segment

logger = logging.getLogger(__name__)

PIECE = 256 * 1024
"""Bytes that move between the loop, the digests and the disk at a time: measured as fast as 1 MiB, at a fifth of the memory."""

FLUSH = 64 * 1024 * 1024
"""Written bytes after which the disk is asked to catch up, so that the last fsync is short and dirty memory bounded."""

HOP = 16 * 1024
"""Bytes that are digested faster than a thread is reached."""

THREADS = 8


class Blobs:
    """The blob folder, as one process uses it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._temporary = os.path.join(directory, "tmp")
        self._writers = os.path.join(directory, "writers")
        self._writer = objects_writers.enter(self._writers)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        self._doomed: set[str] = set()
        """To be removed when the last reader is through."""
        self._going: set[str] = set()
        """Being removed: gone to whoever comes now, whatever the disk still says."""
        self._adopted: Counter[str] = Counter()
        """Of other writers, about to be named by a row."""
        self._spared: set[str] | None = None
        """While a sweep goes on: what was adopted at any time since it began."""
        self._folders: set[str] = set()
        """Folders of blobs that this process knows to be on disk: one that is merely there may still be lost with the power."""
        os.makedirs(self._temporary, mode=0o700, exist_ok=True)

    def close(self) -> None:
        """Wait for the threads' present work. Safe to repeat."""
        self._pool.shutdown(wait=True)
        self._writer.leave()

    def path(self, blob: str) -> str:
        return os.path.join(self._directory, blob[-2:], blob)

    async def create(self) -> BlobWriter:
        """A new blob, to be fed and finished, or dropped. OSError."""
        name = f"{self._writer.name}{secrets.token_hex(12)}"
        temporary = os.path.join(self._temporary, name)
        loop = asyncio.get_running_loop()
        opened = loop.run_in_executor(
            self._pool, os.open, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        try:
            fd = await asyncio.shield(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(_close_quietly)
            raise
        return BlobWriter(name, temporary, self.path(name), fd, self._pool, self._folders)

    async def read(self, segments: Sequence[Segment], start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes of the segments' concatenation, one piece read ahead. OSError."""
        for segment, offset, size in overlapping(segments, start, length):
            fd = await self._open(segment.blob)
            try:
                async with contextlib.aclosing(self.pieces(fd, offset, size)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                os.close(fd)

    async def pieces(self, fd: int, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        """Bytes of an open file, one piece read ahead; the descriptor is not used any more once this is closed. OSError."""
        loop = asyncio.get_running_loop()
        pending: asyncio.Future[bytes] | None = None
        try:
            while size or pending:
                piece = b"" if pending is None else await asyncio.shield(pending)
                pending = None
                if size:
                    wanted = min(PIECE, size)
                    pending = loop.run_in_executor(self._pool, _pread, fd, wanted, offset)
                    offset += wanted
                    size -= wanted
                if piece:
                    yield piece
        finally:
            if pending is not None:
                await asyncio.wait([pending])
                _ = pending.exception()

    async def digested(self, data: bytes, digests: Digests) -> bytes:
        """Digest small content: in a thread where that is worth the hop."""
        if len(data) <= HOP:
            digests.update(data)
        else:
            await asyncio.get_running_loop().run_in_executor(self._pool, digests.update, data)
        return data

    async def _open(self, blob: str) -> int:
        opened = asyncio.get_running_loop().run_in_executor(self._pool, os.open, self.path(blob), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(_close_quietly)
            raise

    async def pin(self, blobs: Sequence[str]) -> bool:
        """Keep these from being removed until `unpin`; False, and nothing is pinned, when one is gone already."""
        with self._lock:
            if not self._going.isdisjoint(blobs):
                return False
            self._pins.update(blobs)
        there = False
        try:
            there = await asyncio.get_running_loop().run_in_executor(self._pool, self._all_there, blobs)
        finally:
            if not there:
                self.unpin(blobs)
        return there

    def _all_there(self, blobs: Sequence[str]) -> bool:
        return all(os.path.exists(self.path(blob)) for blob in blobs)

    def unpin(self, blobs: Sequence[str]) -> None:
        """From any thread."""
        with self._lock:
            self._pins.subtract(blobs)
            free = [blob for blob in blobs if self._pins[blob] <= 0]
            for blob in free:
                del self._pins[blob]
            gone = [blob for blob in free if blob in self._doomed]
            self._doomed.difference_update(gone)
            self._going.update(gone)
        if gone:
            self._remove_later(gone)

    def retire(self, blobs: Iterable[str]) -> None:
        """Remove blobs that no row names any more: now, or when the last reader is through."""
        with self._lock:
            wanted = set(blobs)
            held = {blob for blob in wanted if self._pins[blob] > 0}
            self._doomed |= held
            gone = sorted(wanted - held)
            self._going.update(gone)
        if gone:
            self._remove_later(gone)

    def _remove_later(self, blobs: Sequence[str]) -> None:
        with contextlib.suppress(RuntimeError):  # the pool is shut: the next start sweeps
            self._pool.submit(self._remove, blobs)

    def _remove(self, blobs: Sequence[str]) -> None:
        for blob in blobs:
            try:
                os.unlink(self.path(blob))
            except FileNotFoundError:
                continue
            except OSError as error:
                logger.warning("blob-removal-failed", extra={"blob": blob, "error": str(error)})
        with self._lock:
            self._going.difference_update(blobs)

    # What other processes wrote

    async def adopt(self, blobs: Sequence[str]) -> bool:
        """Another writer's blobs are about to be named by a row: no sweep takes them until `adopted`.

        False, and nothing is adopted, when one is gone: its writer has died, and a sweep came first.
        """
        with self._lock:
            if not self._going.isdisjoint(blobs):
                return False
            self._adopted.update(blobs)
            if self._spared is not None:
                self._spared.update(blobs)
        there = False
        try:
            there = await asyncio.get_running_loop().run_in_executor(self._pool, self._all_there, blobs)
        finally:
            if not there:
                self.adopted(blobs)
        return there

    def adopted(self, blobs: Sequence[str]) -> None:
        """The row is committed, or will not be."""
        self._adopted.subtract(blobs)
        for blob in blobs:
            if self._adopted[blob] <= 0:
                del self._adopted[blob]

    async def deaths(self) -> bool:
        """Whether a writer has died and left something, perhaps."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._pool, objects_writers.look, self._writers, self._writer.name
        )
        return bool(found.dead)

    async def sweep(self, named: Callable[[], Awaitable[Container[str]]]) -> int:
        """Remove the blobs of dead writers that `named` has not, and their temporary files; how many blobs. OSError."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._spared = set(self._adopted)
        try:
            found, dead = await loop.run_in_executor(self._pool, self._left_behind)
            kept = await named() if found else ()
            garbage = [blob for blob in found if blob not in kept and blob not in self._spared]
            self.retire(garbage)
        finally:
            self._spared = None
        await loop.run_in_executor(self._pool, objects_writers.bury, self._writers, dead)
        return len(garbage)

    def _left_behind(self) -> tuple[list[str], Sequence[str]]:
        """Blobs of the dead, named by a row or not; and who is dead."""
        writers = objects_writers.look(self._writers, self._writer.name)
        for name in os.listdir(self._temporary):
            if not name.startswith(writers.alive):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._temporary, name))
        found: list[str] = []
        for folder in os.listdir(self._directory):
            if len(folder) == 2:
                names = os.listdir(os.path.join(self._directory, folder))
                found += [name for name in names if not name.startswith(writers.alive)]
        return found, writers.dead

    async def open_all(self, blobs: Sequence[str]) -> list[int] | None:
        """Descriptors of all of them, so that their content stays whoever removes them; None: one is gone. OSError."""
        opened = asyncio.get_running_loop().run_in_executor(self._pool, self._open_all, blobs)
        try:
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(_close_all_quietly)
            raise

    def _open_all(self, blobs: Sequence[str]) -> list[int] | None:
        found: list[int] = []
        try:
            for blob in blobs:
                found.append(os.open(self.path(blob), os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            close_all(found)
            if isinstance(error, FileNotFoundError):
                return None
            raise
        return found


class BlobWriter:
    """One blob being written. `feed` it, then `finish` or `drop` it; not from two tasks at once."""

    def __init__(self, name: str, temporary: str, final: str, fd: int, pool: ThreadPoolExecutor, folders: set[str]) -> None:
        self.name = name
        self._temporary = temporary
        self._final = final
        self._fd = fd
        self._pool = pool
        self._folders = folders
        self._pending: list[asyncio.Future[None]] = []
        self._unflushed = 0
        self._finished = False

    async def feed(self, piece: bytes, digests: Digests) -> None:
        """Hand a piece to the disk and the digests; waits only for the piece before it. OSError (of that one)."""
        await self._settle()
        loop = asyncio.get_running_loop()
        self._unflushed += len(piece)
        flush = self._unflushed >= FLUSH
        if flush:
            self._unflushed = 0
        self._pending = [
            loop.run_in_executor(self._pool, digests.update, piece),
            loop.run_in_executor(self._pool, _write, self._fd, piece, flush),
        ]

    async def _settle(self) -> None:
        """Wait for the threads; what they raised is raised here."""
        if self._pending:
            await asyncio.wait(self._pending)
            for done in self._pending:
                done.result()
            self._pending = []

    async def finish(self) -> None:
        """The blob is on disk, under its name, when this returns. OSError."""
        await self._settle()
        self._pending = [asyncio.get_running_loop().run_in_executor(self._pool, self._publish)]
        await self._settle()
        self._finished = True

    def _publish(self) -> None:
        os.fsync(self._fd)
        folder = os.path.dirname(self._final)
        if folder not in self._folders:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            directory = os.path.dirname(folder)
            _sync_folder(directory)
            _sync_folder(os.path.dirname(directory))
            self._folders.add(folder)
        os.rename(self._temporary, self._final)
        _sync_folder(folder)

    async def drop(self) -> None:
        """Close it; remove the file unless `finish` returned."""
        if self._pending:
            await asyncio.wait(self._pending)  # the threads use the descriptor
        await asyncio.get_running_loop().run_in_executor(self._pool, self._discard)

    def _discard(self) -> None:
        os.close(self._fd)
        if not self._finished:
            for path in (self._temporary, self._final):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


@dataclass(frozen=True, slots=True)
class Received:
    """Content that arrived: in memory when it is small, else in a blob that is on disk and not yet named by a row."""

    size: int
    data: bytes | None
    blob: str | None


async def receive(blobs: Blobs, body: AsyncIterator[bytes], digests: Digests, *, inline: int, most: int) -> Received:
    """Take content in: up to `inline` bytes in memory, more into a blob; stops once it is past `most` (the caller judges).

    Nothing is left behind when this raises.
    """
    held = bytearray()
    size = 0
    writer: BlobWriter | None = None
    try:
        async for piece in body:
            size += len(piece)
            if size > most:
                return Received(size, None, None)
            held += piece
            while len(held) >= PIECE:
                writer = writer or await blobs.create()
                await writer.feed(bytes(memoryview(held)[:PIECE]), digests)
                del held[:PIECE]
        if writer is None and size <= inline:
            return Received(size, await blobs.digested(bytes(held), digests), None)
        writer = writer or await blobs.create()
        if held:
            await writer.feed(bytes(held), digests)
        await writer.finish()
        return Received(size, None, writer.name)
    finally:
        if writer is not None:
            await asyncio.shield(asyncio.ensure_future(writer.drop()))


def overlapping(segments: Sequence[Segment], start: int, length: int) -> Iterator[tuple[Segment, int, int]]:
    """The segments that hold the range, each with the offset and the number of bytes wanted of it."""
    for segment in segments:
        if length <= 0:
            return
        if start < segment.size:
            size = min(segment.size - start, length)
            yield segment, start, size
            length -= size
            start = 0
        else:
            start -= segment.size


def _pread(fd: int, size: int, offset: int) -> bytes:
    piece = os.pread(fd, size, offset)
    if len(piece) != size:
        raise OSError(errno.EIO, "a blob file is shorter than its row says")
    return piece


def _write(fd: int, piece: bytes, flush: bool) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
    if flush:
        os.fdatasync(fd)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def close_all(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _close_all_quietly(opened: asyncio.Future[list[int] | None]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        close_all(opened.result() or ())


def _close_quietly(opened: asyncio.Future[int]) -> None:
    """The opener is gone: close what it would have got."""
    if not opened.cancelled() and opened.exception() is None:
        os.close(opened.result())
