from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from slipway.backing.objects import Objects, Span
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.backing.objects_staging_embedded import EmbeddedStaging
from slipway.core.asynchronous import Staged
from slipway.store import objects as rows
from slipway.store.db import Connection, Db, StoreClosed
from slipway.wire.errors import AwsError
from tests.deadlines import PATIENCE

ME, OTHER = "123456789012", "210987654321"
BIG = random.Random(7).randbytes(3 * 1024 * 1024 + 17)
MOST = 1024**3


@pytest.fixture
async def reading(database_url: str, owner: EmbeddedObjects) -> AsyncIterator[Db]:
    db = Db.open_reading(database_url)
    yield db
    await db.close()


@pytest.fixture
async def staging(reading: Db, tmp_path: Path) -> AsyncIterator[EmbeddedStaging]:
    """The dispatcher's side."""
    found = EmbeddedStaging(reading, str(tmp_path / "objects"))
    yield found
    await found.close()


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def content(objects: Objects, key: str) -> bytes:
    _, body = await objects.get("b", key)
    return b"".join([piece async for piece in body])


def commit(conn: Connection, *staged: Staged) -> Sequence[str]:
    """As control does."""
    retired: list[str] = []
    for each in staged:
        segments = [rows.Segment(blob, size) for blob, _, size in each.segments]
        detail = {"headers": {"ContentType": each.content_type}, "metadata": {}}
        row = rows.ObjectRow(each.bucket, each.key, each.size, each.etag, 1.0, detail, {}, segments, each.data)
        retired += rows.put_object(conn, row)
    return retired


async def settle(owner: EmbeddedObjects, db: Db, *staged: Staged) -> None:
    async with owner.holding(staged) as gone:
        assert not gone
        owner.retire(await db.write(lambda conn: commit(conn, *staged)))


def blobs(tmp_path: Path) -> list[str]:
    folder = tmp_path / "objects"
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.parent.name != "writers")


async def until_blobs(tmp_path: Path, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(blobs(tmp_path)) != count:  # noqa: ASYNC110 - removal is not announced
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("size", [0, 10, 64 * 1024, 64 * 1024 + 1, len(BIG)])
async def test_what_is_staged_is_seen_once_it_is_settled(
    owner: EmbeddedObjects, staging: EmbeddedStaging, db: Db, size: int
) -> None:
    data = BIG[:size]
    for body in (data, pieces(data)):
        staged = await staging.stage("b", "out", body, "text/csv", ME, MOST)
        assert staged.size == size
        assert (staged.data is None) == (size > 64 * 1024)
        assert await owner.head("b", "out") is None
        await settle(owner, db, staged)
        info = await owner.find("b", "out")
        assert (info.size, info.etag, info.attributes.headers) == (size, staged.etag, {"ContentType": "text/csv"})
        assert await content(owner, "out") == data
        await owner.delete("b", "out")


async def test_what_a_settlement_replaces_is_removed(
    owner: EmbeddedObjects, staging: EmbeddedStaging, db: Db, tmp_path: Path
) -> None:
    await owner.put("b", "out", BIG)
    await settle(owner, db, await staging.stage("b", "out", pieces(BIG[::-1]), "", ME, MOST))
    await until_blobs(tmp_path, 1)
    assert await content(owner, "out") == BIG[::-1]


async def test_what_is_not_settled_can_be_dropped(staging: EmbeddedStaging, tmp_path: Path) -> None:
    staged = await staging.stage("b", "out", pieces(BIG), "", ME, MOST)
    assert len(blobs(tmp_path)) == 1
    await staging.discard(staged)
    await until_blobs(tmp_path, 0)


async def test_too_large(staging: EmbeddedStaging, tmp_path: Path) -> None:
    with pytest.raises(AwsError) as caught:
        await staging.stage("b", "out", pieces(BIG), "", ME, len(BIG) - 1)
    assert caught.value.code == "EntityTooLarge"
    await until_blobs(tmp_path, 0)


async def test_whose_bucket(owner: EmbeddedObjects, staging: EmbeddedStaging) -> None:
    await owner.create_bucket("theirs", account=OTHER, region="us-east-1")
    for bucket, code in (("none", "NoSuchBucket"), ("theirs", "AccessDenied")):
        with pytest.raises(AwsError) as caught:
            await staging.stage(bucket, "out", pieces(BIG), "", ME, MOST)
        assert caught.value.code == code


async def test_inputs(owner: EmbeddedObjects, staging: EmbeddedStaging) -> None:
    await owner.create_bucket("theirs", account=OTHER, region="us-east-1")
    await owner.put("b", "small", b"abc")
    await owner.put("b", "big", BIG)
    assert (await staging.open("b", "small", ME)).data == b"abc"
    found = await staging.open("b", "big", ME)
    await owner.delete("b", "big")
    await owner.put("b", "big", b"another")
    assert b"".join([piece async for piece in found.read(Span(1, len(BIG) - 1))]) == BIG[1:]
    for bucket, key, code in (("none", "x", "NoSuchBucket"), ("theirs", "x", "AccessDenied"), ("b", "x", "NoSuchKey")):
        with pytest.raises(AwsError) as caught:
            await staging.open(bucket, key, ME)
        assert caught.value.code == code


async def test_inputs_that_are_replaced_all_the_time(owner: EmbeddedObjects, staging: EmbeddedStaging) -> None:
    await owner.put("b", "big", BIG)
    done = False

    async def replace() -> None:
        number = 0
        while not done:
            number += 1
            await owner.put("b", "big", bytes([number % 256]) * 100_000)

    replacing = asyncio.create_task(replace())
    for _ in range(20):
        found = await staging.open("b", "big", ME)
        data = b"".join([piece async for piece in found.read(Span(0, found.info.size))])
        assert data == BIG or len(data) == 100_000 == data.count(data[:1])
    done = True
    await replacing


async def test_a_sweep_leaves_what_a_living_process_staged(
    owner: EmbeddedObjects, staging: EmbeddedStaging, db: Db, tmp_path: Path
) -> None:
    staged = await staging.stage("b", "out", pieces(BIG), "", ME, MOST)
    assert await owner.sweep() == 0
    await staging.close()  # as its death does, this frees the lock
    async with owner.holding([staged]) as gone:
        assert not gone
        assert await owner.sweep() == 0
        owner.retire(await db.write(lambda conn: commit(conn, staged)))
    assert await owner.sweep() == 0
    assert await content(owner, "out") == BIG


async def test_a_settlement_in_the_midst_of_a_sweep(
    owner: EmbeddedObjects, staging: EmbeddedStaging, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep reads who is named before the row is written, and removes after."""
    staged = await staging.stage("b", "out", pieces(BIG), "", ME, MOST)
    await staging.close()
    read, go = asyncio.Event(), asyncio.Event()
    named = owner._named

    async def slow() -> object:
        found = await named()
        read.set()
        await go.wait()
        return found

    monkeypatch.setattr(owner, "_named", slow)
    sweeping = asyncio.create_task(owner.sweep())
    await read.wait()
    await settle(owner, db, staged)
    go.set()
    assert await sweeping == 0
    assert await content(owner, "out") == BIG


async def test_the_dead_are_swept_and_cannot_be_settled_any_more(
    owner: EmbeddedObjects, staging: EmbeddedStaging, tmp_path: Path
) -> None:
    staged = await staging.stage("b", "out", pieces(BIG), "", ME, MOST)
    small = await staging.stage("b", "small", b"x", "", ME, MOST)
    await staging.close()
    writers = tmp_path / "objects" / "writers"
    assert len(list(writers.iterdir())) == 2
    assert await owner.sweep() == 1
    async with owner.holding([staged, small]) as gone:
        assert gone == [staged]
    await until_blobs(tmp_path, 0)
    assert len(list(writers.iterdir())) == 1


async def test_the_dead_are_found_out_while_their_heir_runs(
    owner: EmbeddedObjects, staging: EmbeddedStaging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.backing.objects_embedded._LOOK_SECONDS", 0.01)
    owner.start()
    await staging.stage("b", "out", pieces(BIG), "", ME, MOST)
    await asyncio.sleep(0.05)
    assert len(blobs(tmp_path)) == 1
    await staging.close()
    await until_blobs(tmp_path, 0)


async def test_a_reading_database_changes_nothing(reading: Db) -> None:
    with pytest.raises(StoreClosed):
        await reading.write(lambda conn: None)
