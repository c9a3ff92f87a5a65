"""The examples of Amazon S3's documentation ("Authenticating Requests"): signatures that botocore had no part in."""

from __future__ import annotations

import pytest

from slipway.core.routing import Key
from slipway.wire.chunked import ChunkedDecoder
from slipway.wire.claims import EMPTY_HASH, SIGNED_CHUNKS
from slipway.wire.errors import AwsError
from slipway.wire.signatures import Claim, verify

KEY = Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "123456789012", "arn:aws:iam::123456789012:root")
NOW = 1369353600.0
HOST = (b"host", b"examplebucket.s3.amazonaws.com")
DATE = (b"x-amz-date", b"20130524T000000Z")
SHA = b"x-amz-content-sha256"
NOTHING = (SHA, EMPTY_HASH.encode())
WELCOME = (SHA, b"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")


def check(method: str, target: bytes, names: str, signature: str, *headers: tuple[bytes, bytes]) -> Claim:
    value = (
        f"AWS4-HMAC-SHA256 Credential={KEY.id}/20130524/us-east-1/s3/aws4_request,SignedHeaders={names},Signature={signature}"
    )
    return verify(method, target, [*headers, (b"authorization", value.encode())], {KEY.id: KEY}.get, NOW)


@pytest.mark.parametrize(
    ("method", "target", "names", "signature", "headers"),
    [
        (
            "GET",
            b"/test.txt",
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            [HOST, (b"range", b"bytes=0-9"), NOTHING, DATE],
        ),
        (
            "PUT",
            b"/test$file.text",
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            [HOST, (b"date", b"Fri, 24 May 2013 00:00:00 GMT"), DATE, (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"), WELCOME],
        ),
        (
            "GET",
            b"/?lifecycle",
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            [HOST, DATE, NOTHING],
        ),
        (
            "GET",
            b"/?max-keys=2&prefix=J",
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            [HOST, DATE, NOTHING],
        ),
    ],
)
def test_header_form(method: str, target: bytes, names: str, signature: str, headers: list[tuple[bytes, bytes]]) -> None:
    assert check(method, target, names, signature, *headers).verified


def test_query_form() -> None:
    target = (
        b"/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        b"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        b"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    assert verify("GET", target, [HOST], {KEY.id: KEY}.get, NOW).verified


def test_signed_chunks() -> None:
    claim = check(
        "PUT",
        b"/examplebucket/chunkObject.txt",
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        (b"host", b"s3.amazonaws.com"),
        DATE,
        (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
        (SHA, SIGNED_CHUNKS.encode()),
        (b"content-encoding", b"aws-chunked"),
        (b"x-amz-decoded-content-length", b"66560"),
        (b"content-length", b"66824"),
    )
    body = (
        b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
        + b"a" * 65_536
        + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
        + b"a" * 1024
        + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
    )
    assert len(body) == 66_824
    decoder = ChunkedDecoder(SIGNED_CHUNKS, 66_560, claim=claim)
    assert b"".join(decoder.feed(body)) == b"a" * 66_560
    decoder.finish()
    decoder = ChunkedDecoder(SIGNED_CHUNKS, 66_560, claim=claim)
    with pytest.raises(AwsError, match="SignatureDoesNotMatch"):
        list(decoder.feed(body.replace(b"aaaa\r\n400", b"aaab\r\n400")))
