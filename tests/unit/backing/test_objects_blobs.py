from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slipway.backing.objects_blobs import PIECE, Blobs, receive
from slipway.backing.objects_digests import Digests
from slipway.store.objects import Segment


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[Blobs]:
    found = Blobs(str(tmp_path / "blobs"))
    yield found
    await asyncio.to_thread(found.close)


async def one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def made(blobs: Blobs, data: bytes) -> str:
    received = await receive(blobs, one(data), Digests(), inline=-1, most=len(data))
    assert received.blob is not None
    return received.blob


def on_disk(blobs: Blobs, blob: str) -> bool:
    return os.path.exists(blobs.path(blob))


async def test_a_blob_that_is_being_removed_cannot_be_pinned(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = await made(blobs, b"x")
    go = threading.Event()
    unlink = os.unlink

    def slow(path: str, **more: Any) -> None:
        go.wait(10)
        unlink(path, **more)

    monkeypatch.setattr("slipway.backing.objects_blobs.os.unlink", slow)
    blobs.retire([blob])
    try:
        assert on_disk(blobs, blob)
        assert not await blobs.pin([blob])
    finally:
        go.set()


async def test_a_pinned_blob_is_removed_after_its_last_reader(blobs: Blobs) -> None:
    blob = await made(blobs, b"x")
    assert await blobs.pin([blob])
    assert await blobs.pin([blob])
    blobs.retire([blob])
    blobs.unpin([blob])
    assert on_disk(blobs, blob)
    blobs.unpin([blob])
    await asyncio.to_thread(blobs.close)
    assert not on_disk(blobs, blob)


async def test_more_than_allowed_stops_early_and_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(PIECE)

    received = await receive(blobs, endless(), Digests(), inline=10, most=3 * PIECE)
    assert (received.size, received.blob, received.data, taken) == (4 * PIECE, None, None, 4)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file() and path.parent.name != "writers"] == []


async def test_a_reader_that_stops_early_closes_its_file(blobs: Blobs) -> None:
    blob = await made(blobs, bytes(5 * PIECE))
    before = len(os.listdir("/proc/self/fd"))
    reader = blobs.read([Segment(blob, 5 * PIECE)], 0, 5 * PIECE)
    assert len(await anext(reader)) == PIECE
    assert len(os.listdir("/proc/self/fd")) == before + 1
    await reader.aclose()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_file_shorter_than_its_row_is_an_error(blobs: Blobs) -> None:
    blob = await made(blobs, b"short")
    with pytest.raises(OSError, match="shorter"):
        await anext(blobs.read([Segment(blob, 6)], 0, 6))
