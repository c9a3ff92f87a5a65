from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slipway.backing.objects import (
    Attributes,
    ChosenPart,
    Completion,
    Condition,
    Objects,
    Span,
    Write,
)
from slipway.backing.objects_digests import encode
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.store.db import Db
from slipway.wire.errors import AwsError
from tests.deadlines import PATIENCE

ME, OTHER = "123456789012", "210987654321"
BIG = random.Random(7).randbytes(3 * 1024 * 1024 + 17)
MB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def __call__(self) -> float:
        self.at += 1
        return self.at


@pytest.fixture
async def store(db: Db, tmp_path: Path) -> AsyncIterator[EmbeddedObjects]:
    store = EmbeddedObjects(db, str(tmp_path / "objects"), now=Clock())
    await store.create_bucket("b", account=ME, region="us-east-1")
    yield store
    await store.close()


class Pieces:
    """A body in pieces of `size`, which may break, wait or bring trailers."""

    def __init__(
        self, data: bytes, size: int = 100_000, *, fail: Exception | None = None, hold: asyncio.Event | None = None
    ) -> None:
        self.data = data
        self.size = size
        self.fail = fail
        self.hold = hold
        self.reached = asyncio.Event()
        self.trailers: dict[str, str] = {}
        self.late_trailers: dict[str, str] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), self.size):
            yield self.data[start : start + self.size]
        self.reached.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.fail is not None:
            raise self.fail
        self.trailers.update(self.late_trailers)


async def content(store: Objects, key: str, span: Span | None = None, bucket: str = "b") -> bytes:
    _, pieces = await store.get(bucket, key, span)
    return b"".join([piece async for piece in pieces])


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "objects").rglob("*") if path.is_file() and path.parent.name != "writers")


async def until_files(tmp_path: Path, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(files(tmp_path)) != count:  # noqa: ASYNC110 - removal is not announced
            await asyncio.sleep(0.005)


async def code_of(call: Any) -> str:
    with pytest.raises(AwsError) as caught:
        await call
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, MB, MB + 1, len(BIG)])
async def test_content_comes_back(store: EmbeddedObjects, tmp_path: Path, size: int) -> None:
    info = await store.put("b", "k", Pieces(BIG[:size]), attributes=Attributes({"ContentType": "a/b"}, {"m": "v"}, {"t": "u"}))
    assert info.etag == hashlib.md5(BIG[:size]).hexdigest()
    found = await store.find("b", "k")
    assert found == info
    assert found.attributes == Attributes({"ContentType": "a/b"}, {"m": "v"}, {"t": "u"})
    assert await content(store, "k") == BIG[:size]
    assert len(files(tmp_path)) == (1 if size > 65_536 else 0)


@pytest.mark.parametrize(("start", "length"), [(0, 1), (MB - 1, 2), (5, 2 * MB), (len(BIG) - 1, 1), (7, 0)])
async def test_a_span_of_it(store: EmbeddedObjects, start: int, length: int) -> None:
    await store.put("b", "k", BIG)
    assert await content(store, "k", Span(start, length)) == BIG[start : start + length]


async def test_a_key_and_a_key_below_it(store: EmbeddedObjects) -> None:
    await store.put("b", "d", b"1")
    await store.put("b", "d/e", BIG)
    await store.put("b", "../../d", b"3")
    assert [await content(store, key) for key in ("d", "d/e", "../../d")] == [b"1", BIG, b"3"]


async def test_replacing_and_deleting_remove_the_file(store: EmbeddedObjects, tmp_path: Path) -> None:
    await store.put("b", "k", BIG)
    await store.put("b", "k", BIG[1:])
    await until_files(tmp_path, 1)
    assert await content(store, "k") == BIG[1:]
    await store.delete("b", "k")
    await store.delete("b", "k")
    await until_files(tmp_path, 0)
    assert await store.head("b", "k") is None


async def test_a_reader_keeps_the_bytes_it_opened(store: EmbeddedObjects, tmp_path: Path) -> None:
    await store.put("b", "k", BIG)
    reading = await store.open("b", "k")
    await store.put("b", "k", b"new")
    await store.put("b", "other", BIG)  # by now the old file would be gone
    assert b"".join([piece async for piece in reading.read(Span(0, len(BIG)))]) == BIG
    await until_files(tmp_path, 1)


async def test_a_forgotten_reader_lets_go(store: EmbeddedObjects, tmp_path: Path) -> None:
    await store.put("b", "k", BIG)
    reading = await store.open("b", "k")
    await store.delete("b", "k")
    assert len(files(tmp_path)) == 1
    del reading
    await until_files(tmp_path, 0)


async def test_readers_never_meet_a_missing_file(store: EmbeddedObjects) -> None:
    versions = [BIG[n : n + 200_000] for n in range(5)]
    await store.put("b", "k", versions[0])
    stop = asyncio.Event()

    async def replace() -> None:
        while not stop.is_set():
            for version in versions:
                await store.put("b", "k", version)

    writer = asyncio.create_task(replace())
    for _ in range(60):
        assert await content(store, "k") in versions
    stop.set()
    await writer


@pytest.mark.parametrize("size", [10, len(BIG)])
async def test_a_body_that_breaks_leaves_the_old_object(store: EmbeddedObjects, tmp_path: Path, size: int) -> None:
    await store.put("b", "k", b"old")
    wrong = AwsError("SignatureDoesNotMatch", "no", status=403)
    assert await code_of(store.put("b", "k", Pieces(BIG[:size], fail=wrong))) == "SignatureDoesNotMatch"
    assert await content(store, "k") == b"old"
    assert files(tmp_path) == []


async def test_a_cancelled_put_leaves_nothing(store: EmbeddedObjects, tmp_path: Path) -> None:
    body = Pieces(BIG, hold=asyncio.Event())
    task = asyncio.create_task(store.put("b", "k", body))
    await body.reached.wait()
    assert len(files(tmp_path)) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []
    assert await store.head("b", "k") is None


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (Write(md5=b"\0" * 16), "BadDigest"),
        (Write(checksums={"CRC32": encode(b"\0" * 4)}), "BadDigest"),
        (Write(checksums={"SHA256": encode(b"\0" * 32)}), "BadDigest"),
        (Write(checksums={"CRC32": "AAAA"}), "InvalidRequest"),
        (Write(checksums={"CRC32": "no base64"}), "InvalidRequest"),
        (Write(length=5), "IncompleteBody"),
        (Write(length=5 * 1024**3 + 1), "EntityTooLarge"),
    ],
)
async def test_broken_promises(store: EmbeddedObjects, tmp_path: Path, write: Write, code: str) -> None:
    for size in (10, 200_000):
        assert await code_of(store.put("b", "k", Pieces(BIG[:size]), write=write)) == code
    assert await store.head("b", "k") is None
    await until_files(tmp_path, 0)


async def test_checksums_are_kept(store: EmbeddedObjects) -> None:
    crc = encode(zlib.crc32(BIG).to_bytes(4, "big"))
    info = await store.put(
        "b", "k", BIG, write=Write(md5=hashlib.md5(BIG).digest(), checksums={"CRC32": crc}, compute=("SHA1",))
    )
    assert info.checksums == {"CRC32": crc, "SHA1": encode(hashlib.sha1(BIG).digest())}
    assert (await store.find("b", "k")).checksum_type == "FULL_OBJECT"


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("announced", [True, False])
async def test_trailers_are_checked_and_kept(store: EmbeddedObjects, size: int, announced: bool) -> None:
    data = BIG[:size]
    write = Write(compute=("CRC32",) if announced else ())
    body = Pieces(data)
    body.late_trailers = {"x-amz-checksum-crc32": encode(zlib.crc32(data).to_bytes(4, "big"))}
    assert (await store.put("b", "k", body, write=write)).checksums == {"CRC32": body.late_trailers["x-amz-checksum-crc32"]}
    wrong = Pieces(data)
    wrong.late_trailers = {"x-amz-checksum-crc32": encode(b"\1\2\3\4")}
    assert await code_of(store.put("b", "k", wrong, write=write)) == "BadDigest"


async def test_a_full_disk_is_an_error_and_loses_nothing(
    store: EmbeddedObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("b", "k", BIG)

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("slipway.backing.objects_blobs.os.write", full)
        with pytest.raises(AwsError) as caught:
            await store.put("b", "k", BIG[1:])
    assert (caught.value.code, caught.value.status) == ("InsufficientStorage", 507)
    assert await content(store, "k") == BIG
    assert len(files(tmp_path)) == 1


async def test_conditional_writes(store: EmbeddedObjects, tmp_path: Path) -> None:
    absent = Condition(if_none_match=True)
    info = await store.put("b", "k", BIG, condition=absent)
    assert await code_of(store.put("b", "k", BIG, condition=absent)) == "PreconditionFailed"
    assert await code_of(store.put("b", "k", b"", condition=Condition(if_match="0" * 32))) == "PreconditionFailed"
    assert await code_of(store.put("b", "none", b"", condition=Condition(if_match=info.etag))) == "NoSuchKey"
    await store.put("b", "k", BIG[5:], condition=Condition(if_match=info.etag))
    await until_files(tmp_path, 1)
    assert await code_of(store.delete("b", "k", condition=Condition(if_match=info.etag))) == "PreconditionFailed"


async def test_one_of_many_conditional_writers_wins(store: EmbeddedObjects) -> None:
    puts = [store.put("b", "k", str(n).encode(), condition=Condition(if_none_match=True)) for n in range(20)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(not isinstance(result, Exception) for result in results) == 1


async def test_buckets_belong_to_an_account(store: EmbeddedObjects) -> None:
    assert await code_of(store.create_bucket("b", account=ME, region="us-east-1")) == "BucketAlreadyOwnedByYou"
    assert await code_of(store.create_bucket("b", account=OTHER, region="us-east-1")) == "BucketAlreadyExists"
    await store.put("b", "k", b"x", account=ME)
    assert await code_of(store.find("b", "k", account=OTHER)) == "AccessDenied"
    assert await code_of(store.put("b", "k", b"y", account=OTHER)) == "AccessDenied"
    assert await code_of(store.delete("b", "k", account=OTHER)) == "AccessDenied"
    assert await code_of(store.page("b", account=OTHER)) == "AccessDenied"
    assert await store.head("b", "k", account=OTHER) is None
    assert await store.buckets(OTHER) == []
    assert [bucket.name for bucket in await store.buckets(ME)] == ["b"]


async def test_only_an_empty_bucket_is_deleted(store: EmbeddedObjects, tmp_path: Path) -> None:
    await store.put("b", "k", b"")
    assert await code_of(store.delete_bucket("b")) == "BucketNotEmpty"
    await store.delete("b", "k")
    upload = await store.create_upload("b", "k")
    await store.put_part(upload, 1, BIG)
    await store.delete_bucket("b")
    assert await code_of(store.bucket("b")) == "NoSuchBucket"
    assert await code_of(store.put("b", "k", b"")) == "NoSuchBucket"
    await until_files(tmp_path, 0)


async def test_listing_rolls_up_and_pages(store: EmbeddedObjects) -> None:
    keys = ["a", "a/", "a/1", "a/2", "a/b/c", "a0", "b/1", "ä", "z/é/1", "\U0001f600"]
    for key in keys:
        await store.put("b", key, b"")
    ordered = sorted(keys, key=str.encode)
    assert [info.key async for info in store.list("b")] == ordered
    for limit in range(1, 5):
        seen: list[str] = []
        after, more = "", True
        while more:
            page = await store.page("b", delimiter="/", after=after, limit=limit)
            assert len(page.objects) + len(page.prefixes) <= limit
            seen += sorted([*(info.key for info in page.objects), *page.prefixes], key=str.encode)
            after, more = page.last, page.truncated
        assert seen == ["a", "a/", "a0", "b/", "z/", "ä", "\U0001f600"]
    page = await store.page("b", "a/", delimiter="/")
    assert [info.key for info in page.objects] == ["a/", "a/1", "a/2"]
    assert page.prefixes == ["a/b/"]
    assert (await store.page("b", "zz")).objects == []


async def test_a_rolled_up_prefix_is_jumped_over(store: EmbeddedObjects) -> None:
    for n in range(60):
        await store.put("b", f"p/{n:02}", b"")
    await store.put("b", "q", b"")
    page = await store.page("b", delimiter="/", limit=2)
    assert (page.prefixes, [info.key for info in page.objects], page.truncated) == (["p/"], ["q"], False)


async def test_multipart(store: EmbeddedObjects, tmp_path: Path) -> None:
    parts = [BIG * 2, BIG * 2 + b"x", b"tail"]
    upload = await store.create_upload("b", "k", attributes=Attributes({"ContentType": "a/b"}, {"m": "v"}))
    await store.put_part(upload, 7, b"wrong")
    made = [await store.put_part(upload, number, data) for number, data in zip((2, 7, 9), parts, strict=True)]
    await store.put_part(upload, 10, b"not chosen")
    assert [part.number for part in await store.parts(upload)] == [2, 7, 9, 10]
    chosen = [ChosenPart(part.number, part.etag) for part in made]
    info = await store.complete("b", "k", upload.id, Completion(chosen))
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    assert info.etag == f"{hashlib.md5(joined).hexdigest()}-3"
    assert info.parts == [len(part) for part in parts]
    whole = b"".join(parts)
    assert await content(store, "k") == whole
    border = len(parts[0]) + len(parts[1])
    assert await content(store, "k", Span(border - 5, 8)) == whole[border - 5 : border + 3]
    await until_files(tmp_path, 3)
    assert await store.complete("b", "k", upload.id, Completion(chosen)) == await store.find("b", "k")
    await store.delete("b", "k")
    await until_files(tmp_path, 0)
    assert await code_of(store.complete("b", "k", upload.id, Completion(chosen))) == "NoSuchUpload"


async def test_completing_wrongly(store: EmbeddedObjects) -> None:
    upload = await store.create_upload("b", "k")
    one = await store.put_part(upload, 1, b"small")
    two = await store.put_part(upload, 2, b"small")
    first, second = ChosenPart(1, one.etag), ChosenPart(2, two.etag)

    async def complete(*parts: ChosenPart, **more: Any) -> str:
        return await code_of(store.complete("b", "k", upload.id, Completion(parts, **more)))

    assert await complete() == "MalformedXML"
    assert await complete(second, first) == "InvalidPartOrder"
    assert await complete(first, first) == "InvalidPartOrder"
    assert await complete(ChosenPart(3, one.etag)) == "InvalidPart"
    assert await complete(ChosenPart(1, "0" * 32)) == "InvalidPart"
    assert await complete(first, second) == "EntityTooSmall"
    assert await complete(first, size=9) == "InvalidRequest"
    await store.put("b", "k", b"")
    assert await complete(first, condition=Condition(if_none_match=True)) == "PreconditionFailed"
    await store.abort(upload)
    assert await complete(first) == "NoSuchUpload"
    assert await code_of(store.abort(upload)) == "NoSuchUpload"
    assert await code_of(store.put_part(upload, 1, b"late")) == "NoSuchUpload"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
async def test_the_whole_checksum_follows_from_the_parts(store: EmbeddedObjects, algorithm: str) -> None:
    data = BIG * 2
    whole = (await store.put("b", "whole", data + b"tail", write=Write(compute=(algorithm,)))).checksums
    upload = await store.create_upload("b", "k", algorithm=algorithm, checksum_type="FULL_OBJECT")
    made = [await store.put_part(upload, 1, data), await store.put_part(upload, 2, b"tail")]
    chosen = [ChosenPart(part.number, part.etag) for part in made]
    wrong = Completion(chosen, checksums={algorithm: encode(b"\0" * 8)})
    assert await code_of(store.complete("b", "k", upload.id, wrong)) == "BadDigest"
    info = await store.complete("b", "k", upload.id, Completion(chosen, checksums=whole))
    assert info.checksums == whole


async def test_a_composite_checksum(store: EmbeddedObjects) -> None:
    upload = await store.create_upload("b", "k", algorithm="SHA256", checksum_type="COMPOSITE")
    data = BIG * 2
    made = [await store.put_part(upload, 1, data), await store.put_part(upload, 2, b"tail")]
    without = [ChosenPart(part.number, part.etag) for part in made]
    assert await code_of(store.complete("b", "k", upload.id, Completion(without))) == "InvalidRequest"
    assert await code_of(store.put_part(upload, 3, b"", write=Write(checksums={"CRC32": "AAAAAA=="}))) == "InvalidRequest"
    info = await store.complete("b", "k", upload.id, Completion([ChosenPart(p.number, p.etag, p.checksums) for p in made]))
    joined = hashlib.sha256(data).digest() + hashlib.sha256(b"tail").digest()
    assert info.checksums == {"SHA256": encode(hashlib.sha256(joined).digest()) + "-2"}
    assert info.checksum_type == "COMPOSITE"


async def test_uploads_are_listed_by_key_and_id(store: EmbeddedObjects) -> None:
    made = sorted([await store.create_upload("b", key) for key in ("x/2", "x/1", "x/1", "y")], key=lambda u: (u.key, u.id))
    assert await store.uploads("b") == made
    assert await store.uploads("b", "x/") == made[:3]
    assert await store.uploads("b", after=("x/1", made[0].id), limit=2) == made[1:3]
    assert await store.uploads("b", after=("x/1", None)) == made[2:]


async def test_a_new_process_sweeps_only_garbage(store: EmbeddedObjects, db: Db, tmp_path: Path) -> None:
    await store.put("b", "k", BIG)
    upload = await store.create_upload("b", "u")
    part = await store.put_part(upload, 1, BIG)
    kept = files(tmp_path)
    folder = tmp_path / "objects"
    (folder / "tmp" / "0123").write_bytes(b"half")
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / ("0" * 30 + "ab")).write_bytes(b"orphan")
    assert await store.sweep() == 1  # the objects of this process are not even looked at
    await store.close()
    again = EmbeddedObjects(db, str(folder), now=Clock())
    fresh = asyncio.create_task(again.put("b", "new", BIG))
    again.start()
    await fresh
    await again.close()
    assert set(kept) < set(files(tmp_path))
    assert len(files(tmp_path)) == 3
    last = EmbeddedObjects(db, str(folder), now=Clock())
    assert await last.sweep() == 0
    assert await content(last, "k") == await content(last, "new") == BIG
    await last.complete("b", "u", upload.id, Completion([ChosenPart(1, part.etag)]))
    assert await content(last, "u") == BIG
    await last.close()


async def test_the_row_is_the_commit(store: EmbeddedObjects, db: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs are on disk, under their final names, before the transaction begins."""
    seen: list[int] = []
    write = db.write

    async def spy(fn: Any) -> Any:
        seen.append(
            sum(
                path.parent.name != "tmp"
                for path in (tmp_path / "objects").rglob("*")
                if path.is_file() and path.parent.name != "writers"
            )
        )
        return await write(fn)

    monkeypatch.setattr(db, "write", spy)
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr("slipway.backing.objects_blobs.os.fsync", noted)
    await store.put("b", "k", BIG)
    assert seen == [1]
    name = files(tmp_path)[0]
    assert synced[0].endswith(f"/tmp/{name}")
    assert synced[-1].endswith(f"/objects/{name[-2:]}")
