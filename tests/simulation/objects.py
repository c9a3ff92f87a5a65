"""The object stores of a run: blobs that a settlement names, sweeps of what the dead left; and an S3 of somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from slipway.backing.objects import Attributes, ObjectInfo, Reading, Span
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.backing.objects_errors import no_such_key, s3_error
from slipway.backing.objects_external import ExternalObjects
from slipway.backing.objects_staging import ExternalStaging, Staging
from slipway.core.asynchronous import Staged
from tests.simulation.loops import Process
from tests.simulation.site import Site

INLINE = 24
"""Bytes of an answer that goes into the row; longer ones are blobs."""
BUCKET = "bucket"


@dataclass
class Shelf:
    """What is durable outside the database."""

    site: Site
    inputs: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, tuple[Process, bytes]] = field(default_factory=dict)
    """By name: who wrote it, and what."""
    held: set[str] = field(default_factory=set)
    foreign: dict[str, bytes] = field(default_factory=dict)
    """The external store's objects, by key."""
    count: int = 0

    def new(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def sweep(self) -> None:
        """Remove what the dead wrote and no row names."""
        named = {blob for blobs in self.named().values() for blob in blobs}
        for name, (writer, _) in list(self.blobs.items()):
            if writer.dead and name not in named and name not in self.held:
                del self.blobs[name]

    def named(self) -> dict[str, list[str]]:
        """Blobs by the key of the object whose row names them."""
        rows = self.site.disk.raw.execute("select key, segments from s3_objects where segments is not null")
        return {bytes(key).decode(): [segment[0] for segment in json.loads(segments)] for key, segments in rows}

    def content(self, key: str) -> bytes | None:
        """As a reader gets it; None: there is no such object. LookupError: it has lost its content."""
        if self.site.external:
            return self.foreign.get(key)
        where = "select data, segments from s3_objects where bucket = ? and key = ?"
        row = self.site.disk.raw.execute(where, (BUCKET, key.encode())).fetchone()
        if row is None:
            return None
        if row[0] is not None:
            return bytes(row[0])
        blobs = [segment[0] for segment in json.loads(row[1])]
        if any(blob not in self.blobs for blob in blobs):
            raise LookupError(key)
        return b"".join(self.blobs[blob][1] for blob in blobs)


class SimObjects(EmbeddedObjects):
    """Control's embedded store, as far as settlements concern it."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def head(self, bucket: str, key: str, *, account: str | None = None) -> ObjectInfo | None:
        return ObjectInfo(bucket, key, 10, "etag")

    @contextlib.asynccontextmanager
    async def holding(self, staged: Sequence[Staged]) -> AsyncIterator[Sequence[Staged]]:
        shelf = self._shelf
        names = {blob for each in staged for blob, _, _ in each.segments}
        fresh = {name for name in names if name in shelf.blobs} - shelf.held
        shelf.held |= fresh
        try:
            yield [each for each in staged if any(blob not in shelf.blobs for blob, _, _ in each.segments)]
        finally:
            shelf.held -= fresh

    def retire(self, blobs: Sequence[str]) -> None:
        for blob in blobs:
            self._shelf.blobs.pop(blob, None)


class _Reading(Reading):
    def __init__(self, key: str, content: bytes) -> None:
        self.info = ObjectInfo(BUCKET, key, len(content), "etag", attributes=Attributes({"ContentType": "text/plain"}))
        self.data = content

    async def read(self, span: Span) -> AsyncGenerator[bytes, None]:
        assert self.data is not None
        yield self.data[span.start : span.start + span.length]

    def close(self) -> None: ...


class SimStaging(Staging):
    """A dispatcher's side of the embedded store."""

    def __init__(self, shelf: Shelf, process: Process) -> None:
        self._shelf = shelf
        self._process = process

    async def open(self, bucket: str, key: str, account: str) -> Reading:
        return await _open(self._shelf, key)

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
        data = await _whole(body)
        if len(data) <= INLINE:
            return Staged(bucket, key, len(data), "etag", content_type, data=data)
        site, shelf = self._shelf.site, self._shelf
        await site.disturbed("write output", self._process)
        name = shelf.new("blob-")
        shelf.blobs[name] = (self._process, data)
        await site.disturbed("output written", self._process)
        return Staged(bucket, key, len(data), "etag", content_type, segments=((name, 0, len(data)),))

    async def discard(self, staged: Staged) -> None:
        for blob, _, _ in staged.segments:
            self._shelf.blobs.pop(blob, None)

    async def publish(self, staged: Staged) -> None: ...

    async def close(self) -> None: ...


class Foreign:
    """An external S3, as `ExternalObjects` speaks to it. Its answers may be lost, and it may not be able."""

    def __init__(self, shelf: Shelf, process: Process) -> None:
        self._shelf = shelf
        self._process = process

    async def head(self, bucket: str, key: str, *, account: str | None = None) -> ObjectInfo | None:
        return ObjectInfo(bucket, key, 10, "etag")

    async def open(self, bucket: str, key: str, *, account: str | None = None) -> Reading:
        return await _open(self._shelf, key)

    async def put(self, bucket: str, key: str, body: Any, *, attributes: Attributes, account: str | None = None) -> ObjectInfo:
        data = await _whole(body)
        await self._asked("write output")
        self._shelf.foreign[key] = data
        await self._asked("output written")
        return ObjectInfo(bucket, key, len(data), "etag")

    async def delete(self, bucket: str, key: str) -> None:
        await self._asked("remove attempt")
        self._shelf.foreign.pop(key, None)

    async def copy(self, bucket: str, source: str, key: str) -> None:
        await self._asked("publish output")
        if source not in self._shelf.foreign:
            raise s3_error("NoSuchKey")
        self._shelf.foreign[key] = self._shelf.foreign[source]
        await self._asked("output published")

    async def close(self) -> None: ...

    async def _asked(self, step: str) -> None:
        await self._shelf.site.disturbed(step, self._process)
        if self._shelf.site.unable():
            raise s3_error("ServiceUnavailable", "The store is away.")


def staging(shelf: Shelf, process: Process) -> Staging:
    if not shelf.site.external:
        return SimStaging(shelf, process)
    return ExternalStaging(cast("ExternalObjects", Foreign(shelf, process)), lambda: shelf.new("attempt-"))


async def _open(shelf: Shelf, key: str) -> Reading:
    await asyncio.sleep(shelf.site.chance.random() * 0.01)
    if key not in shelf.inputs:
        raise no_such_key(key)
    return _Reading(key, shelf.inputs[key])


async def _whole(body: bytes | AsyncIterator[bytes]) -> bytes:
    return body if isinstance(body, bytes) else b"".join([piece async for piece in body])
