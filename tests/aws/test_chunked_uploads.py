"""aws-chunked uploads through the whole of control, as botocore makes them over TLS and other SDKs with signed chunks."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum

from tests.aws.cloud import Cloud
from tests.aws.test_auth import fetch

MODE = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
DATA = bytes(range(256)) * 1000


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    name = f"chunked-{cloud.account}"
    cloud.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    return name


class Auth(S3SigV4Auth):  # type: ignore[misc]
    def payload(self, request: Any) -> str:
        return MODE


def upload(cloud: Cloud, bucket: str, body: bytes, length: int = len(DATA), encoding: str = "aws-chunked") -> tuple[int, bytes]:
    headers = {
        "Content-Encoding": encoding,
        "X-Amz-Trailer": "x-amz-checksum-crc32",
        "X-Amz-Decoded-Content-Length": str(length),
        "X-Amz-Sdk-Checksum-Algorithm": "CRC32",
    }
    request = AWSRequest(method="PUT", url=f"{cloud.url}/{bucket}/k", headers=headers)
    Auth(Credentials(cloud.key.id, cloud.key.secret), "s3", cloud.region).add_auth(request)
    return fetch(cloud.url, "PUT", f"/{bucket}/k", dict(request.headers.items()), body)


def framed(data: bytes = DATA) -> bytes:
    wrapper = AwsChunkedWrapper(
        io.BytesIO(data), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32", chunk_size=65536
    )
    framed: bytes = wrapper.read()
    return framed


@pytest.mark.parametrize(("encoding", "stored"), [("aws-chunked", None), ("gzip,aws-chunked", "gzip")])
def test_the_content_is_stored_without_its_framing(cloud: Cloud, bucket: str, encoding: str, stored: str | None) -> None:
    assert upload(cloud, bucket, framed(), encoding=encoding)[0] == 200
    found = cloud.client("s3").get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert found["Body"].read() == DATA
    assert found.get("ContentEncoding") == stored
    assert found["ChecksumCRC32"] == base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()


def test_a_wrong_trailer_stores_nothing(cloud: Cloud, bucket: str) -> None:
    wrong = framed().replace(framed()[-12:-4], framed(DATA[1:])[-12:-4])
    status, body = upload(cloud, bucket, wrong)
    assert (status, b"<Code>BadDigest</Code>" in body) == (400, True)
    with pytest.raises(ClientError, match="404"):
        cloud.client("s3").head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    ("body", "length", "code"),
    [
        (framed()[:-20], len(DATA), b"IncompleteBody"),
        (framed(), len(DATA) + 1, b"IncompleteBody"),
        (framed(), len(DATA) - 1, b"IncompleteBody"),
        (b"not chunked\r\n", len(DATA), b"InvalidRequest"),
        (framed().replace(b"x-amz-checksum-crc32", b"x-amz-checksum-sha1"), len(DATA), b"MalformedTrailerError"),
    ],
)
def test_broken_framing_stores_nothing(cloud: Cloud, bucket: str, body: bytes, length: int, code: bytes) -> None:
    status, answer = upload(cloud, bucket, body, length)
    assert (status, b"<Code>" + code + b"</Code>" in answer) == (400, True), answer
    with pytest.raises(ClientError, match="404"):
        cloud.client("s3").head_object(Bucket=bucket, Key="k")
