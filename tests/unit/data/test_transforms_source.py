"""Inputs as streams: gzip members, padding, truncation, bombs, and going on from the middle."""

from __future__ import annotations

import gzip
from collections.abc import AsyncGenerator

import pytest

from slipway.backing.objects import ObjectInfo, Reading, Span
from slipway.data.transforms_source import UNPACKED, BadInput, pieces

DATA = b"".join(b"line %d\n" % number for number in range(50_000))


class Stored(Reading):
    def __init__(self, data: bytes, piece: int = 10_000) -> None:
        self.info = ObjectInfo("b", "k", len(data), "etag", 0.0)
        self._stored = data
        self._piece = piece

    async def read(self, span: Span) -> AsyncGenerator[bytes, None]:
        for at in range(span.start, span.start + span.length, self._piece):
            yield self._stored[at : min(at + self._piece, span.start + span.length)]

    def close(self) -> None:
        """Nothing is open."""


async def whole(data: bytes, *, packed: bool = True, offset: int = 0, piece: int = 10_000) -> bytes:
    return b"".join([each async for each in pieces(Stored(data, piece), packed, offset)])


@pytest.mark.parametrize("piece", [7, 1000, 100_000])
async def test_gzip_of_one_and_of_several_members(piece: int) -> None:
    middle = len(DATA) // 2
    assert await whole(gzip.compress(DATA), piece=piece) == DATA
    assert await whole(gzip.compress(DATA[:middle]) + gzip.compress(DATA[middle:]) + b"\0" * 600, piece=piece) == DATA
    assert await whole(gzip.compress(b""), piece=piece) == b""


@pytest.mark.parametrize("offset", [0, 1, 123_456, len(DATA) - 1, len(DATA)])
async def test_from_any_place_on(offset: int) -> None:
    assert await whole(DATA, packed=False, offset=offset) == DATA[offset:]
    assert await whole(gzip.compress(DATA), offset=offset) == DATA[offset:]


@pytest.mark.parametrize("cut", [1, 8, 100, 20_000])
async def test_truncated_gzip(cut: int) -> None:
    with pytest.raises(BadInput, match="ends too early"):
        await whole(gzip.compress(DATA)[:-cut])


@pytest.mark.parametrize("data", [b"no gzip at all", gzip.compress(DATA) + b"garbage after it"])
async def test_what_is_no_gzip(data: bytes) -> None:
    with pytest.raises(BadInput, match="not valid gzip"):
        await whole(data)


async def test_a_bomb_comes_in_bounded_pieces() -> None:
    packed = gzip.compress(b"\0" * 200_000_000)
    total = 0
    async for piece in pieces(Stored(packed, 1 << 20), True, 0):
        assert len(piece) <= UNPACKED
        total += len(piece)
    assert total == 200_000_000
