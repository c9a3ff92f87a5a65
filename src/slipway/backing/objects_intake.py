"""Content on its way in: received, counted, digested and held against what its sender promised, before anything names it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from slipway.backing.objects import Source, Write
from slipway.backing.objects_blobs import Blobs, Received, receive
from slipway.backing.objects_digests import Digests, decode_checksum
from slipway.backing.objects_errors import disk_error, s3_error
from slipway.backing.objects_promises import check_promises, missing
from slipway.store.objects import Segment


@dataclass(frozen=True, slots=True)
class Taken:
    """Content that arrived whole and is what it was said to be."""

    size: int
    md5: str
    """In hexadecimal."""
    checksums: dict[str, str]
    """Base64 by algorithm: those that were sent or asked for."""
    data: bytes | None
    segments: Sequence[Segment]

    @property
    def blobs(self) -> list[str]:
        return [segment.blob for segment in self.segments]


async def take_in(blobs: Blobs, body: bytes | Source, write: Write, *, inline: int, most: int) -> Taken:
    """Receive content; what does not fit the promises is removed again.

    EntityTooLarge, IncompleteBody, BadDigest, InvalidRequest (a malformed checksum), InsufficientStorage; and whatever the
    body raises (a wrong signature, a peer that went away).
    """
    if write.length is not None and write.length > most:
        raise s3_error("EntityTooLarge", ProposedSize=write.length, MaxSizeAllowed=most)
    for algorithm, value in write.checksums.items():
        decode_checksum(algorithm, value)
    digests = Digests((*write.checksums, *write.compute))
    pieces = _once(body) if isinstance(body, bytes) else aiter(body)
    try:
        received = await receive(blobs, pieces, digests, inline=inline, most=most)
    except OSError as error:
        raise disk_error(error) from error
    kept = False
    try:
        taken = await _examined(blobs, received, digests, write, getattr(body, "trailers", None) or {}, most)
        kept = True
    finally:
        if not kept and received.blob is not None:
            blobs.retire([received.blob])
    return taken


async def _examined(
    blobs: Blobs, received: Received, digests: Digests, write: Write, trailers: Mapping[str, str], most: int
) -> Taken:
    if received.size > most:
        raise s3_error("EntityTooLarge", ProposedSize=received.size, MaxSizeAllowed=most)
    segments = (Segment(received.blob, received.size),) if received.blob is not None else ()
    algorithms = missing(digests, write, trailers)
    late = await _computed(blobs, received.data, segments, algorithms) if algorithms else {}
    checksums = check_promises(received.size, digests, write, trailers, late)
    return Taken(received.size, digests.md5.hex(), checksums, received.data, segments)


async def _computed(blobs: Blobs, data: bytes | None, segments: Sequence[Segment], algorithms: Sequence[str]) -> dict[str, str]:
    """Checksums of stored content: for a trailer that nothing announced."""
    digests = Digests(algorithms)
    if data is not None:
        await blobs.digested(data, digests)
    else:
        async for piece in blobs.read(segments, 0, sum(segment.size for segment in segments)):
            await blobs.digested(piece, digests)
    return digests.checksums


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
