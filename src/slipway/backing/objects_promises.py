"""What a sender promised of its content (length, Content-MD5, checksums, trailers), held against what arrived."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping

from slipway.backing.objects import MAX_OBJECT, Source, Write
from slipway.backing.objects_digests import SIZES, Digests, decode_checksum
from slipway.backing.objects_errors import s3_error

PIECE = 1024 * 1024
"""Bytes that a body is regrouped to on its way through `PromisedBody`."""

_TRAILER = "x-amz-checksum-"


def from_trailers(trailers: Mapping[str, str]) -> dict[str, str]:
    """The checksums among aws-chunked trailers."""
    known = {name.lower(): name for name in SIZES}
    named = {name[len(_TRAILER) :]: value for name, value in trailers.items() if name.startswith(_TRAILER)}
    return {known[name]: value for name, value in named.items() if name in known}


def missing(digests: Digests, write: Write, trailers: Mapping[str, str]) -> list[str]:
    """Algorithms that were promised and not computed: a trailer that nothing announced."""
    return [name for name in {**write.checksums, **from_trailers(trailers)} if name not in digests.checksums]


def check_promises(
    size: int, digests: Digests, write: Write, trailers: Mapping[str, str], late: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The checksums of the content; `late` are those that were computed afterwards.

    IncompleteBody, BadDigest, InvalidRequest (a malformed checksum, or one that nothing announced and nobody computed).
    """
    if write.length is not None and size != write.length:
        raise s3_error("IncompleteBody", NumberBytesExpected=write.length, NumberBytesProvided=size)
    if write.md5 is not None and not hmac.compare_digest(write.md5, digests.md5):
        raise s3_error("BadDigest", "The Content-MD5 you specified did not match what we received.")
    checksums = {**digests.checksums, **(late or {})}
    for algorithm, value in {**write.checksums, **from_trailers(trailers)}.items():
        if algorithm not in checksums:
            raise s3_error("InvalidRequest", f"The trailer {_TRAILER}{algorithm.lower()} was not announced.")
        if not hmac.compare_digest(decode_checksum(algorithm, value), decode_checksum(algorithm, checksums[algorithm])):
            raise s3_error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
    return checksums


class PromisedBody:
    """A body held against its promises as it passes: the last piece comes only after all of them were kept."""

    def __init__(self, body: bytes | Source, write: Write) -> None:
        self._body = body
        self._write = write
        self._digests = Digests((*write.checksums, *write.compute))
        self._pieces = self._checked()
        self._head: list[bytes] = []
        self.size = 0
        self.checksums: Mapping[str, str] = {}

    async def first(self, most: int) -> bytes | None:
        """The whole of it when that is at most `most` bytes; else None, and iterating gives all of it."""
        size = 0
        async for piece in self._pieces:
            self._head.append(piece)
            size += len(piece)
            if size > most:
                return None
        return b"".join(self._head)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._head:
            yield piece
        self._head = []
        async for piece in self._pieces:
            yield piece

    async def _checked(self) -> AsyncIterator[bytes]:
        body, write = self._body, self._write
        if write.length is not None and write.length > MAX_OBJECT:
            raise s3_error("EntityTooLarge", ProposedSize=write.length, MaxSizeAllowed=MAX_OBJECT)
        held: bytes | None = None
        async for piece in _pieces(body):
            self.size += len(piece)
            if self.size > MAX_OBJECT:
                raise s3_error("EntityTooLarge", ProposedSize=self.size, MaxSizeAllowed=MAX_OBJECT)
            await asyncio.to_thread(self._digests.update, piece)
            if held is not None:
                yield held
            held = piece
        self.checksums = check_promises(self.size, self._digests, write, getattr(body, "trailers", None) or {})
        if held is not None:
            yield held


async def _pieces(body: bytes | Source) -> AsyncIterator[bytes]:
    """The body in pieces of about 1 MiB."""
    if isinstance(body, bytes):
        yield body
        return
    held = bytearray()
    async for piece in body:
        held += piece
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
