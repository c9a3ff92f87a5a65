"""Bodies as operations read them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from slipway.core.routing import Key
from slipway.http.messages import BodyTooLarge, Headers
from slipway.services.payload import Payload, without_framing
from slipway.wire.claims import UNSIGNED_CHUNKS_TRAILER, Claim
from slipway.wire.errors import AwsError

FRAMED = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
STREAMED = [
    (b"x-amz-content-sha256", UNSIGNED_CHUNKS_TRAILER.encode()),
    (b"x-amz-decoded-content-length", b"5"),
    (b"x-amz-trailer", b"X-Amz-Checksum-Crc32"),
]


class Arriving:
    def __init__(self, *pieces: bytes) -> None:
        self.length: int | None = sum(map(len, pieces))
        self._pieces = pieces

    async def read(self, limit: int) -> bytes:
        if (self.length or 0) > limit:
            raise BodyTooLarge
        return b"".join(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def claim(payload_hash: str | None) -> Claim:
    made = Claim("AKIA", Key("AKIA", "s", "1", "arn"), "header")
    made.payload_hash = payload_hash
    return made


def payload(headers: Headers, *pieces: bytes, signed: Claim | None = None) -> Payload:
    return Payload(Arriving(*pieces), headers, signed, "rest-xml")


async def test_framing_is_taken_off_and_trailers_given() -> None:
    for cut in (1, 9, len(FRAMED)):
        body = payload(STREAMED, FRAMED[:cut], FRAMED[cut:])
        assert (body.length, body.announced, body.trailers) == (5, ("x-amz-checksum-crc32",), {})
        assert b"".join([piece async for piece in body]) == b"hello"
        assert body.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}
    assert await payload(STREAMED, FRAMED).read(5) == b"hello"
    with pytest.raises(BodyTooLarge):
        await payload(STREAMED, FRAMED).read(4)


@pytest.mark.parametrize(
    ("value", "code"), [(None, "MissingContentLength"), (b"-5", "InvalidArgument"), (b"9" * 16, "InvalidArgument")]
)
def test_the_content_s_length_must_be_told(value: bytes | None, code: str) -> None:
    headers = [(b"x-amz-content-sha256", UNSIGNED_CHUNKS_TRAILER.encode())]
    with pytest.raises(AwsError) as error:
        payload(headers if value is None else [*headers, (b"x-amz-decoded-content-length", value)])
    assert error.value.code == code


async def test_a_stream_that_is_not_the_signed_one_fails_at_its_end() -> None:
    good = hashlib.sha256(b"hello").hexdigest()
    assert [piece async for piece in payload([], b"he", b"llo", signed=claim(good))] == [b"he", b"llo"]
    pieces = aiter(payload([], b"he", b"llo!", signed=claim(good)))
    assert [await anext(pieces), await anext(pieces)] == [b"he", b"llo!"]
    with pytest.raises(AwsError) as error:
        await anext(pieces)
    assert error.value.code == "XAmzContentSHA256Mismatch"
    with pytest.raises(AwsError):
        await payload([], b"hello!", signed=claim(good)).read(100)


async def test_unsigned_payloads_are_not_hashed() -> None:
    for signed in (None, claim("UNSIGNED-PAYLOAD")):
        assert await payload([], b"any", signed=signed).read(3) == b"any"
        assert [piece async for piece in payload([], b"any", signed=signed)] == [b"any"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(b"aws-chunked", None), (b"aws-chunked,gzip", b"gzip"), (b"gzip, AWS-Chunked", b"gzip"), (b"gzip", b"gzip"), (b"", None)],
)
def test_framing_is_no_content_encoding(sent: bytes, kept: bytes | None) -> None:
    rest = [(b"host", b"h")]
    assert (
        without_framing([(b"content-encoding", sent), *rest]) == ([] if kept is None else [(b"content-encoding", kept)]) + rest
    )
