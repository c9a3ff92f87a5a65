"""Fetches one object by its presigned URL into a file, through control's restarts: resumed, verified, bounded by its size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

from slipway.core.replicas import Artifact
from slipway.http.client import ClientResponse, ConnectFailed, NoAnswer, Pool, PoolLimits
from slipway.http.messages import ClientGone, Headers
from slipway.replicas.failures import cannot

logger = logging.getLogger(__name__)

WRITE_BYTES = 1024 * 1024
"""Bytes handed to a thread at a time: the keeper's loop does not wait for disks."""
_BACKOFF = (0.05, 2.0)


class _Again(Exception):
    """Not this time: control is starting, or the connection broke."""


async def download(
    artifact: Artifact,
    service: str,
    host: str,
    path: str,
    progress: Callable[[str], None],
    *,
    grown: Callable[[], None] | None = None,
) -> None:
    """The object's bytes in `path`: a new file; or an empty one, where `grown` is told of each piece that is in it.

    CannotRun (fetch-missing, fetch-failed); retries until it is cancelled."""
    fetching = _Fetch(artifact, Pool(service, PoolLimits(connections=1, idle=0)), host, grown or _nobody)
    delay, most = _BACKOFF
    new = os.O_CREAT | os.O_EXCL if grown is None else 0
    fd = await asyncio.to_thread(os.open, path, os.O_WRONLY | new | os.O_CLOEXEC, 0o600)
    try:
        while True:
            before = fetching.done
            try:
                await fetching.attempt(fd)
                return
            except (_Again, ConnectFailed, NoAnswer, ClientGone) as error:
                logger.info("fetch-again", extra={"source": artifact.source, "bytes": fetching.done, "error": str(error)})
                progress(f"fetching {artifact.source}: waiting for the object service")
                delay = _BACKOFF[0] if fetching.done > before else min(delay * 2, most)
                await asyncio.sleep(delay)
    finally:
        os.close(fd)


class _Fetch:
    def __init__(self, artifact: Artifact, pool: Pool, host: str, grown: Callable[[], None]) -> None:
        self._artifact = artifact
        self._pool = pool
        self._host = host
        self._grown = grown
        self.done = 0
        """Bytes in the file."""

    async def attempt(self, fd: int) -> None:
        headers: Headers = [(b"host", self._host.encode()), (b"accept-encoding", b"identity")]
        if self.done:
            headers.append((b"range", b"bytes=%d-" % self.done))
        answer = await self._pool.request("GET", self._artifact.url.encode(), headers)
        try:
            self._check(answer, await self._error_code(answer))
            if answer.status == 200:
                self.done = 0
                os.ftruncate(fd, 0)
            await self._take(answer, fd)
        finally:
            await answer.close()
        if self.done != self._artifact.size:
            raise _Again("a short answer")

    async def _take(self, answer: ClientResponse, fd: int) -> None:
        waiting = bytearray()
        try:
            async for piece in answer:
                waiting += piece
                if self.done + len(waiting) > self._artifact.size:
                    raise self._changed()
                if len(waiting) >= WRITE_BYTES:
                    await self._write(fd, waiting)
        finally:
            await self._write(fd, waiting)

    async def _write(self, fd: int, waiting: bytearray) -> None:
        data = bytes(waiting)
        waiting.clear()
        if data:
            await asyncio.to_thread(_write_at, fd, data, self.done)
            self.done += len(data)
            self._grown()

    async def _error_code(self, answer: ClientResponse) -> bytes:
        """Start of an error's body, which names S3's code; empty for a good answer."""
        if answer.status in (200, 206):
            return b""
        with contextlib.suppress(Exception):
            return (await answer.read(64 * 1024))[:2000]
        return b""

    def _check(self, answer: ClientResponse, body: bytes) -> None:
        status, source = answer.status, self._artifact.source
        if status in (200, 206):
            etag = (answer.header(b"etag") or b"").decode("latin-1").strip('"')
            wanted = self._artifact.etag.strip('"')
            if wanted and etag and etag != wanted:
                raise self._changed()
        elif status == 404:
            raise cannot("fetch-missing", f"There is no object at {source}.", "upload it, or name another")
        elif status >= 500 or status == 429:
            raise _Again(f"status {status}")
        elif status == 416:
            raise self._changed()
        else:
            shown = next(
                (code for code in ("AccessDenied", "ExpiredToken", "SignatureDoesNotMatch") if code.encode() in body), ""
            )
            raise cannot("fetch-failed", f"{source} could not be fetched: status {status} {shown}".rstrip() + ".")

    def _changed(self) -> Exception:
        source = self._artifact.source
        return cannot("fetch-failed", f"{source} changed while it was fetched.", "deploy again; give new models new names")


def _write_at(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _nobody() -> None:
    """Nobody reads the file yet."""
