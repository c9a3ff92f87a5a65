"""Outputs that grow: small ones in the row, large ones as blobs, durable points that another process goes on from."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.backing.objects_staging_embedded import EmbeddedStaging
from slipway.core.asynchronous import Staged
from slipway.data.transforms_output import Output
from slipway.store import objects as rows
from slipway.store.db import Connection, Db
from slipway.wire.errors import AwsError

ME = "123456789012"
LARGE = b"0123456789" * 20_000


@pytest.fixture
async def staging(db: Db, owner: EmbeddedObjects, tmp_path: Path) -> AsyncIterator[EmbeddedStaging]:
    found = EmbeddedStaging(db, str(tmp_path / "objects"))
    yield found
    await found.close()


async def content(db: Db, owner: EmbeddedObjects, staged: Staged) -> bytes:
    """As it is seen once control has committed it."""
    segments = [rows.Segment(blob, size) for blob, _, size in staged.segments]
    row = rows.ObjectRow("b", staged.key, staged.size, staged.etag, 1.0, {}, {}, segments, staged.data)

    def commit(connection: Connection) -> None:
        rows.put_object(connection, row)

    await db.write(commit)
    info, body = await owner.get("b", staged.key)
    data = b"".join([piece async for piece in body])
    assert info.size == len(data)
    return data


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "objects").glob("??/*") if path.is_file()]


async def test_a_small_one_is_in_the_row_and_a_large_one_a_blob(
    db: Db, owner: EmbeddedObjects, staging: EmbeddedStaging, tmp_path: Path
) -> None:
    small, large, empty = (Output(staging, "b", key, ME) for key in ("small", "large", "empty"))
    await small.write(b"one")
    await small.write(b"two")
    staged = await small.finish()
    assert (staged.data, staged.etag) == (b"onetwo", hashlib.md5(b"onetwo").hexdigest())
    assert await content(db, owner, await empty.finish()) == b""
    assert files(tmp_path) == []
    for _ in range(3):
        await large.write(LARGE)
    staged = await large.finish()
    assert staged.etag == hashlib.md5(LARGE * 3).hexdigest()
    assert await content(db, owner, staged) == LARGE * 3


async def test_another_goes_on_from_a_durable_point(
    db: Db, owner: EmbeddedObjects, staging: EmbeddedStaging, tmp_path: Path
) -> None:
    first = Output(staging, "b", "k", ME)
    await first.write(b"short")
    await first.point()
    await first.write(LARGE)
    point = await first.point()
    assert await first.point() == point, "nothing new is no new piece"
    first.named()
    await first.write(b"never seen" * 50_000)
    await first.drop()
    assert len(files(tmp_path)) == 2, "what the point names stays, and nothing else"
    again = Output(staging, "b", "k", ME, point)
    await again.write(b"the rest")
    staged = await again.finish()
    assert staged.etag.endswith("-3")
    assert await content(db, owner, staged) == b"short" + LARGE + b"the rest"


async def test_what_is_dropped_leaves_nothing(staging: EmbeddedStaging, tmp_path: Path) -> None:
    output = Output(staging, "b", "k", ME)
    await output.write(LARGE)
    await output.point()
    await output.write(LARGE)
    await output.drop()
    await staging.close()  # after the removal, which a thread does
    assert files(tmp_path) == []


async def test_a_bucket_that_is_not_there_is_told_by_a_write(staging: EmbeddedStaging) -> None:
    output = Output(staging, "nowhere", "k", ME)

    async def write() -> None:
        for _ in range(20):
            await output.write(LARGE)

    with pytest.raises(AwsError, match="bucket"):
        await write()
    await output.drop()
