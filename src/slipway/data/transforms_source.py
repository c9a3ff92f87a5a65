"""An input object as a stream of bytes, unpacked where it is gzip, from any place on."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from slipway.backing.objects import Reading, Span

UNPACKED = 1024 * 1024
"""Bytes that are unpacked at a time: a small piece may hold gigabytes."""
_GZIP = 31
_HOP = 16 * 1024
"""Packed bytes from which on a thread unpacks."""


class BadInput(ValueError):
    """The object is not what the job says; the text says why."""


async def pieces(reading: Reading, gzip: bool, offset: int) -> AsyncGenerator[bytes, None]:
    """The (unpacked) bytes from `offset` on. Raises BadInput, and what the store raises."""
    size = reading.info.size
    if not gzip:
        if offset < size:
            async with aclosing(reading.read(Span(offset, size - offset))) as found:
                async for piece in found:
                    yield piece
        return
    async with aclosing(_unpacked(reading)) as found:
        async for piece in found:
            if offset >= len(piece):
                offset -= len(piece)
                continue
            yield piece[offset:] if offset else piece
            offset = 0


async def _unpacked(reading: Reading) -> AsyncGenerator[bytes, None]:
    """Of one or several gzip members; zeros after the last are padding."""
    unpacker = zlib.decompressobj(_GZIP)
    begun = False
    async with aclosing(reading.read(Span(0, reading.info.size))) as found:
        async for packed in found:
            rest = packed
            while rest:
                if unpacker.eof:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    unpacker, begun = zlib.decompressobj(_GZIP), False
                begun = True
                piece = await _unpack(unpacker, rest)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                if piece:
                    yield piece
    if begun and not unpacker.eof:
        while piece := await _unpack(unpacker, b""):
            yield piece
        if not unpacker.eof:
            raise BadInput("the gzip data ends too early: the object is truncated")


async def _unpack(unpacker: zlib._Decompress, packed: bytes) -> bytes:
    try:
        if len(packed) < _HOP:
            return unpacker.decompress(packed, UNPACKED)
        return await asyncio.get_running_loop().run_in_executor(None, unpacker.decompress, packed, UNPACKED)
    except zlib.error as error:
        raise BadInput(f"it is not valid gzip data ({error})") from error
