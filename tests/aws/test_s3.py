"""The S3 service as boto3 sees it."""

from __future__ import annotations

import hashlib
import io
import random
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud

BIG = random.Random(3).randbytes(6 * 1024 * 1024 + 11)
ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128"]


@pytest.fixture
def s3(cloud: Cloud) -> Any:
    return cloud.client("s3")


@pytest.fixture
def bucket(cloud: Cloud, s3: Any) -> str:
    name = f"bucket-{cloud.account}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    return name


def error(call: Any, **parameters: Any) -> tuple[str, int]:
    """Code and status of the error that the call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def message(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    text: str = caught.value.response["Error"]["Message"]
    return text


# Buckets


def test_bucket_life(cloud: Cloud, s3: Any, bucket: str) -> None:
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "eu-central-1"
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-central-1"
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == [bucket]
    s3.put_object(Bucket=bucket, Key="k")
    assert error(s3.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    assert error(s3.head_bucket, Bucket=bucket) == ("404", 404)
    assert error(s3.list_objects_v2, Bucket=bucket) == ("NoSuchBucket", 404)
    assert s3.list_buckets()["Buckets"] == []


def test_bucket_names_are_global(cloud: Cloud, s3: Any, bucket: str) -> None:
    where = {"CreateBucketConfiguration": {"LocationConstraint": cloud.region}}
    assert error(s3.create_bucket, Bucket=bucket, **where) == ("BucketAlreadyOwnedByYou", 409)
    other = cloud.client("s3", key=cloud.other_account())
    assert error(other.create_bucket, Bucket=bucket, **where) == ("BucketAlreadyExists", 409)
    assert error(other.head_bucket, Bucket=bucket) == ("403", 403)
    assert error(other.list_objects_v2, Bucket=bucket) == ("AccessDenied", 403)
    assert error(other.put_object, Bucket=bucket, Key="k", Body=b"x") == ("AccessDenied", 403)
    assert error(other.get_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)
    assert other.list_buckets()["Buckets"] == []
    assert error(s3.list_objects_v2, Bucket=bucket, ExpectedBucketOwner="000000000000") == ("AccessDenied", 403)


def test_regions_of_buckets(cloud: Cloud, s3: Any) -> None:
    first = cloud.client("s3", region="us-east-1")
    name = f"first-{cloud.account}"
    first.create_bucket(Bucket=name)
    first.create_bucket(Bucket=name)  # succeeds there, and only there
    assert first.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert error(s3.create_bucket, Bucket=f"{name}-2") == ("IllegalLocationConstraintException", 400)


@pytest.mark.parametrize("name", ["ab", "Upper", "a..b", "192.168.0.1", "-abc", "abc-", "a_b", "xn--abc", "x" * 64])
def test_bucket_names(s3: Any, name: str) -> None:
    s3.meta.events.unregister("before-parameter-build.s3", None)
    where = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    assert error(s3.create_bucket, Bucket=name, **where) == ("InvalidBucketName", 400)


def test_list_buckets_in_pages(cloud: Cloud, s3: Any) -> None:
    names = [f"page-{n}-{cloud.account}" for n in range(3)]
    for name in names:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    pages = list(s3.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 2}))
    assert [[b["Name"] for b in page["Buckets"]] for page in pages] == [names[:2], names[2:]]


def test_versioning_is_refused_clearly(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    enabled = {"Status": "Enabled"}
    assert error(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=enabled) == ("NotImplemented", 501)
    assert error(s3.get_bucket_acl, Bucket=bucket) == ("NotImplemented", 501)


# Put and get


@pytest.mark.parametrize("size", [0, 1, 65_537, len(BIG)])
def test_put_and_get(s3: Any, bucket: str, size: int) -> None:
    data = BIG[:size]
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    assert s3.put_object(Bucket=bucket, Key="k", Body=data)["ETag"] == etag
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert answer["Body"].read() == data
    assert (answer["ETag"], answer["ContentLength"], answer["ContentType"]) == (etag, size, "binary/octet-stream")
    assert datetime.now(UTC) - answer["LastModified"] < timedelta(minutes=1)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["ContentLength"], head["AcceptRanges"]) == (etag, size, "bytes")


def test_headers_and_metadata_come_back(s3: Any, bucket: str) -> None:
    said = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=5",
        "ContentDisposition": 'attachment; filename="a.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "Metadata": {"one": "1", "two": "zwei"},
        "ServerSideEncryption": "AES256",
        "WebsiteRedirectLocation": "/there",
        "StorageClass": "STANDARD_IA",
    }
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=expires, ACL="private", **said)
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in said} == said
        assert answer["Expires"] == expires
    told = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseCacheControl="no-store")
    assert (told["ContentType"], told["CacheControl"]) == ("a/b", "no-store")


@pytest.mark.parametrize("key", ["d", "d/e", "a b+c%2F&?#=é\U0001f600", "./../x", "/lead", "trail/", "a//b", "x" * 1024])
def test_keys(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    assert [o["Key"] for o in s3.list_objects(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert error(s3.head_object, Bucket=bucket, Key=key) == ("404", 404)


def test_what_is_not_there(s3: Any, bucket: str) -> None:
    assert error(s3.get_object, Bucket=bucket, Key="none") == ("NoSuchKey", 404)
    assert message(s3.get_object, Bucket=bucket, Key="none") == "The specified key does not exist."
    assert error(s3.get_object, Bucket="no-such-bucket", Key="none") == ("NoSuchBucket", 404)
    assert message(s3.get_object, Bucket="no-such-bucket", Key="k") == "The specified bucket does not exist"
    s3.delete_object(Bucket=bucket, Key="none")


def test_limits(s3: Any, bucket: str) -> None:
    assert error(s3.put_object, Bucket=bucket, Key="x" * 1025) == ("KeyTooLongError", 400)
    assert error(s3.put_object, Bucket=bucket, Key="k", Metadata={"a": "x" * 2048}) == ("MetadataTooLarge", 400)
    s3.put_object(Bucket=bucket, Key="k", Metadata={"a": "x" * 2047})


def test_customer_keys_are_refused_by_name(s3: Any, bucket: str) -> None:
    s3.meta.events.register("before-sign.s3", _with_customer_key)
    assert error(s3.put_object, Bucket=bucket, Key="k", Body=b"x") == ("NotImplemented", 501)
    assert "SSE-C" in message(s3.get_object, Bucket=bucket, Key="k")


def _with_customer_key(request: Any, **_: Any) -> None:
    """boto3 sends it over TLS only."""
    request.headers["x-amz-server-side-encryption-customer-algorithm"] = "AES256"


# Ranges, conditions


@pytest.mark.parametrize("size", [1000, 300_000])
def test_ranges(s3: Any, bucket: str, size: int) -> None:
    data = BIG[:size]
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    for text, start, end in [
        ("0-0", 0, 1),
        ("5-9", 5, 10),
        ("990-", 990, size),
        ("-7", size - 7, size),
        (f"3-{size * 9}", 3, size),
    ]:
        answer = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={text}")
        assert answer["Body"].read() == data[start:end]
        assert answer["ContentRange"] == f"bytes {start}-{end - 1}/{size}"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        head = s3.head_object(Bucket=bucket, Key="k", Range=f"bytes={text}")
        assert head["ContentLength"] == end - start
    for text in (f"{size}-", "-0"):
        assert error(s3.get_object, Bucket=bucket, Key="k", Range=f"bytes={text}") == ("InvalidRange", 416)
    for text in ("bytes=9-5", "bytes=1-2,4-5", "lines=1-2", "bytes=x"):
        assert s3.get_object(Bucket=bucket, Key="k", Range=text)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_conditional_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    earlier, later = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1)
    for call, failed, same in (
        (s3.get_object, ("PreconditionFailed", 412), ("304", 304)),
        (s3.head_object, ("412", 412), ("304", 304)),
    ):
        where = {"Bucket": bucket, "Key": "k"}
        call(**where, IfMatch=etag)
        call(**where, IfMatch=f'"no", {etag}', IfUnmodifiedSince=earlier)
        assert error(call, **where, IfMatch='"no"') == failed
        assert error(call, **where, IfUnmodifiedSince=earlier) == failed
        assert error(call, **where, IfNoneMatch=etag) == same
        assert error(call, **where, IfModifiedSince=later) == same
        call(**where, IfModifiedSince=earlier)
        call(**where, IfNoneMatch='"no"', IfModifiedSince=later)


def test_conditional_writes(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    etag = s3.put_object(**where, Body=b"1", IfNoneMatch="*")["ETag"]
    assert error(s3.put_object, **where, Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    s3.put_object(**where, Body=b"2", IfMatch=etag)
    assert error(s3.put_object, **where, Body=b"3", IfMatch=etag) == ("PreconditionFailed", 412)
    assert error(s3.put_object, Bucket=bucket, Key="none", Body=b"3", IfMatch=etag) == ("NoSuchKey", 404)
    assert error(s3.delete_object, **where, IfMatch=etag) == ("PreconditionFailed", 412)
    assert s3.get_object(**where)["Body"].read() == b"2"


# Checksums


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [10, 100_000])
def test_checksums(s3: Any, bucket: str, algorithm: str, size: int) -> None:
    member = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=BIG[:size], ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == BIG[:size]  # boto3 verifies it on the way
    assert got[member] == put[member]
    assert got["ChecksumType"] == "FULL_OBJECT"
    assert member not in s3.get_object(Bucket=bucket, Key="k", Range="bytes=0-4", ChecksumMode="ENABLED")
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ([algorithm], "FULL_OBJECT")
    given = {member: put[member]}
    s3.put_object(Bucket=bucket, Key="k2", Body=BIG[:size], **given)
    assert error(s3.put_object, Bucket=bucket, Key="k3", Body=b"other", **given) == ("BadDigest", 400)
    assert error(s3.head_object, Bucket=bucket, Key="k3") == ("404", 404)


def test_content_md5(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k", "Body": b"x"}
    assert error(s3.put_object, **where, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==") == ("BadDigest", 400)
    assert error(s3.put_object, **where, ContentMD5="nonsense") == ("InvalidDigest", 400)
    assert error(s3.put_object, **where, ChecksumCRC32="nonsense") == ("InvalidRequest", 400)


# Copies


def test_copies(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b/é", Body=BIG, ContentType="a/b", Metadata={"m": "1"}, Tagging="t=1")
    source = {"Bucket": bucket, "Key": "a b/é"}
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)["CopyObjectResult"]
    assert copied["ETag"] == f'"{hashlib.md5(BIG).hexdigest()}"'
    answer = s3.get_object(Bucket=bucket, Key="copy")
    assert answer["Body"].read() == BIG
    assert (answer["ContentType"], answer["Metadata"], answer["TagCount"]) == ("a/b", {"m": "1"}, 1)
    s3.copy_object(
        Bucket=bucket,
        Key="copy",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"n": "2"},
        TaggingDirective="REPLACE",
        Tagging="u=2&v=3",
        ChecksumAlgorithm="SHA256",
    )
    head = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert (head["ContentType"], head["Metadata"], "ChecksumSHA256" in head) == ("binary/octet-stream", {"n": "2"}, True)
    assert len(s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"]) == 2


def test_copies_refused(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    source = {"Bucket": bucket, "Key": "k"}
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": source}
    assert error(s3.copy_object, **{**copy, "Key": "k"}) == ("InvalidRequest", 400)
    s3.copy_object(**{**copy, "Key": "k"}, MetadataDirective="REPLACE")
    assert error(s3.copy_object, **{**copy, "CopySource": f"{bucket}/none"}) == ("NoSuchKey", 404)
    assert error(s3.copy_object, **{**copy, "CopySource": "no-such-bucket/none"}) == ("NoSuchBucket", 404)
    assert error(s3.copy_object, **copy, CopySourceIfMatch='"no"') == ("PreconditionFailed", 412)
    assert error(s3.copy_object, **copy, CopySourceIfNoneMatch=etag) == ("PreconditionFailed", 412)
    s3.copy_object(**copy, IfNoneMatch="*")
    assert error(s3.copy_object, **copy, IfNoneMatch="*") == ("PreconditionFailed", 412)


# Deletes


def test_delete_objects(s3: Any, bucket: str) -> None:
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "none"}, {"Key": "b", "ETag": '"no"'}]})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["a", "none"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("b", "PreconditionFailed")]
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "b"}], "Quiet": True})
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]


# Listings


def test_listing_in_pages(s3: Any, bucket: str) -> None:
    keys = sorted(["a", "a/1", "a/2", "b c/1", "d", "é/1", "z&<"], key=str.encode)
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    for name in ("list_objects_v2", "list_objects"):
        for size in (1, 2, 3):
            for delimiter in ({}, {"Delimiter": "/"}):
                pages = s3.get_paginator(name).paginate(Bucket=bucket, PaginationConfig={"PageSize": size}, **delimiter)
                found: list[str] = []
                for page in pages:
                    entries = [o["Key"] for o in page.get("Contents", ())] + [
                        p["Prefix"] for p in page.get("CommonPrefixes", ())
                    ]
                    assert len(entries) <= size
                    found += sorted(entries, key=str.encode)
                expected = ["a", "a/", "b c/", "d", "z&<", "é/"] if delimiter else keys
                assert found == sorted(expected, key=str.encode), (name, size, delimiter)


def test_list_v2_details(s3: Any, bucket: str) -> None:
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"xy")
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=2, StartAfter="a", FetchOwner=True)
    assert (page["KeyCount"], page["IsTruncated"], page["StartAfter"], page["MaxKeys"]) == (2, False, "a", 2)
    entry = page["Contents"][0]
    assert (entry["Key"], entry["Size"], entry["StorageClass"]) == ("b", 2, "STANDARD")
    assert len(entry["Owner"]["ID"]) == 64
    assert entry["ETag"] == s3.head_object(Bucket=bucket, Key="b")["ETag"]
    empty = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)["MaxKeys"] == 1000
    assert error(s3.list_objects_v2, Bucket=bucket, MaxKeys=-1) == ("InvalidArgument", 400)
    assert error(s3.list_objects_v2, Bucket=bucket, ContinuationToken="nonsense") == ("InvalidArgument", 400)


# Multipart


def test_multipart_through_the_transfer_manager(s3: Any, bucket: str) -> None:
    data = BIG * 3
    s3.upload_fileobj(io.BytesIO(data), bucket, "k")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ETag"].endswith('-3"')
    assert head["ChecksumType"] in ("COMPOSITE", "FULL_OBJECT")
    got = io.BytesIO()
    s3.download_fileobj(bucket, "k", got)
    assert got.getvalue() == data
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("CRC32", "FULL_OBJECT"), ("CRC64NVME", None), ("SHA256", None), ("CRC32C", "COMPOSITE")]
)
def test_multipart_checksums(s3: Any, bucket: str, algorithm: str, kind: str | None) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    member = f"Checksum{algorithm}"
    made = s3.create_multipart_upload(**where, ChecksumAlgorithm=algorithm, **({"ChecksumType": kind} if kind else {}))
    parts = []
    for number, data in enumerate((BIG, b"tail"), 1):
        part = s3.upload_part(**where, UploadId=made["UploadId"], PartNumber=number, Body=data, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": part["ETag"], member: part[member]})
    done = s3.complete_multipart_upload(**where, UploadId=made["UploadId"], MultipartUpload={"Parts": parts})
    assert done["ChecksumType"] == made["ChecksumType"]
    assert done[member].endswith("-2") == (made["ChecksumType"] == "COMPOSITE")
    got = s3.get_object(**where, ChecksumMode="ENABLED")
    assert got["Body"].read() == BIG + b"tail"
    assert got[member] == done[member]
    if made["ChecksumType"] == "FULL_OBJECT":
        assert s3.put_object(**where, Body=BIG + b"tail", ChecksumAlgorithm=algorithm)[member] == done[member]


def test_multipart_step_by_step(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    upload = s3.create_multipart_upload(**where, ContentType="a/b", Metadata={"m": "1"}, Tagging="t=1")["UploadId"]
    one = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=BIG)["ETag"]
    two = s3.upload_part(**where, UploadId=upload, PartNumber=5, Body=b"tail")["ETag"]
    page = s3.list_parts(**where, UploadId=upload, MaxParts=1)
    assert ([part["PartNumber"] for part in page["Parts"]], page["IsTruncated"]) == ([1], True)
    rest = s3.list_parts(**where, UploadId=upload, PartNumberMarker=page["NextPartNumberMarker"])
    assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in rest["Parts"]] == [(5, 4, two)]
    assert [entry["UploadId"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    assert error(s3.head_object, **where) == ("404", 404)
    parts = [{"PartNumber": 1, "ETag": one}, {"PartNumber": 5, "ETag": two}]
    done = s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert done["ETag"].endswith('-2"')
    again = s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert again["ETag"] == done["ETag"]
    second = s3.get_object(**where, PartNumber=2)
    assert (second["Body"].read(), second["PartsCount"]) == (b"tail", 2)
    assert s3.head_object(**where, PartNumber=1)["ContentLength"] == len(BIG)
    assert error(s3.get_object, **where, PartNumber=3) == ("InvalidPartNumber", 416)
    head = s3.head_object(**where)
    assert (head["ContentType"], head["Metadata"], head["ContentLength"]) == ("a/b", {"m": "1"}, len(BIG) + 4)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_multipart_refusals(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    etag = s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    s3.upload_part(**upload, PartNumber=2, Body=b"x")

    def complete(*numbers: int, tag: str = etag, **more: Any) -> tuple[str, int]:
        parts = [{"PartNumber": number, "ETag": tag} for number in numbers]
        return error(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts}, **more)

    assert complete(1, 2) == ("EntityTooSmall", 400)
    assert complete(2, 1) == ("InvalidPartOrder", 400)
    assert complete(3) == ("InvalidPart", 400)
    assert complete(1, tag='"00000000000000000000000000000000"') == ("InvalidPart", 400)
    s3.put_object(**where, Body=b"")
    assert complete(1, IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert error(s3.upload_part, **upload, PartNumber=10_001, Body=b"x") == ("InvalidArgument", 400)
    s3.abort_multipart_upload(**upload)
    assert error(s3.abort_multipart_upload, **upload) == ("NoSuchUpload", 404)
    assert error(s3.upload_part, **upload, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
    assert error(s3.list_parts, **upload) == ("NoSuchUpload", 404)
    wrong = {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"}
    assert error(s3.create_multipart_upload, **where, **wrong) == ("InvalidRequest", 400)


def test_part_copies(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=BIG)
    where = {"Bucket": bucket, "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    source = {"Bucket": bucket, "Key": "source"}
    parts = []
    for number, text in enumerate([f"bytes=0-{len(BIG) - 11}", "bytes=5-9"], 1):
        copied = s3.upload_part_copy(**upload, PartNumber=number, CopySource=source, CopySourceRange=text)
        parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    beyond = f"bytes=0-{len(BIG)}"
    call = {**upload, "PartNumber": 3, "CopySource": source}
    assert error(s3.upload_part_copy, **call, CopySourceRange=beyond) == ("InvalidArgument", 400)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(**where)["Body"].read() == BIG[:-10] + BIG[5:10]


def test_uploads_are_listed_in_pages(s3: Any, bucket: str) -> None:
    for key in ("a/1", "a/2", "b", "c/1"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    pages = list(s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1}))
    assert [entry["Key"] for page in pages for entry in page["Uploads"]] == ["a/1", "a/2", "b", "c/1"]
    rolled = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Prefix"] for entry in rolled["CommonPrefixes"]] == ["a/", "c/"]
    assert [entry["Key"] for entry in rolled["Uploads"]] == ["b"]


# Tags


def test_tags(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"x", Tagging="a=1&b=two%20words")
    assert s3.head_object(**where).get("TagCount", 2) == 2
    tag_set = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "two words"}]
    assert s3.get_object_tagging(**where)["TagSet"] == tag_set
    s3.put_object_tagging(**where, Tagging={"TagSet": tag_set[:1]})
    assert s3.get_object_tagging(**where)["TagSet"] == tag_set[:1]
    s3.delete_object_tagging(**where)
    assert s3.get_object_tagging(**where)["TagSet"] == []
    many = [{"Key": str(n), "Value": ""} for n in range(11)]
    assert error(s3.put_object_tagging, **where, Tagging={"TagSet": many}) == ("BadRequest", 400)
    twice = [{"Key": "a", "Value": ""}] * 2
    assert error(s3.put_object_tagging, **where, Tagging={"TagSet": twice}) == ("InvalidTag", 400)
    assert error(s3.put_object, **where, Tagging="a=1&a=2") == ("InvalidArgument", 400)
    assert error(s3.get_object_tagging, Bucket=bucket, Key="none") == ("NoSuchKey", 404)


# Presigned


@pytest.mark.parametrize("version", [None, "s3v4"])
def test_presigned(cloud: Cloud, bucket: str, version: str | None) -> None:
    config: dict[str, Any] = {"signature_version": version} if version else {}
    client = cloud.client("s3", **config)
    where = {"Bucket": bucket, "Key": "a b"}
    put = urllib.request.Request(client.generate_presigned_url("put_object", Params=where), data=b"hello", method="PUT")
    put.add_header("Content-Type", "")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(client.generate_presigned_url("get_object", Params=where)) as answer:
        assert answer.read() == b"hello"
