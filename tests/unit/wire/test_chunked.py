"""aws-chunked bodies: ours are decoded, in whatever pieces they arrive, and no changed byte gets through."""

from __future__ import annotations

import hashlib
import hmac
import io
import random
import re
from collections.abc import AsyncIterator

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum

from slipway.core.routing import Key
from slipway.wire.chunked import MAX_LINE, ChunkedDecoder, decode
from slipway.wire.claims import SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER, Claim, SigningKey
from slipway.wire.errors import AwsError

RAW_KEY = hashlib.sha256(b"derived").digest()
DATE, SCOPE, SEED = b"20260528T202640Z", b"20260528/eu-central-1/s3/aws4_request", b"5" * 64
DATA = random.Random(7).randbytes(20_000)
CHECKSUM = ("x-amz-checksum-crc32",)
TRAILER = b"x-amz-checksum-crc32:AAAAAA=="


def claim() -> Claim:
    made = Claim("AKIA", Key("AKIA", "s", "1", "arn"), "header")
    made.signing_key = SigningKey.of(RAW_KEY)
    made.timestamp, made.scope, made.signature = DATE, SCOPE, SEED
    return made


def mac(*lines: bytes) -> bytes:
    return hmac.new(RAW_KEY, b"\n".join(lines), "sha256").hexdigest().encode()


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def signed_body(sizes: tuple[int, ...] = (8192, 8192, 3616), trailer: bytes = b"") -> bytes:
    """As AWS's documentation builds it."""
    out, at, previous = [], 0, SEED
    for size in (*sizes, 0):
        chunk = DATA[at : at + size]
        at += size
        previous = mac(b"AWS4-HMAC-SHA256-PAYLOAD", DATE, SCOPE, previous, digest(b""), digest(chunk))
        out.append(b"%x;chunk-signature=%b\r\n" % (size, previous) + (chunk + b"\r\n" if size else b""))
    if trailer:
        signature = mac(b"AWS4-HMAC-SHA256-TRAILER", DATE, SCOPE, previous, digest(trailer + b"\n"))
        out.append(trailer + b"\r\nx-amz-trailer-signature:" + signature + b"\r\n")
    return b"".join(out) + b"\r\n"


def run(decoder: ChunkedDecoder, body: bytes, step: int = 4096) -> bytes:
    out = [piece for at in range(0, len(body), step) for piece in decoder.feed(body[at : at + step])]
    decoder.finish()
    return b"".join(out)


def code(decoder: ChunkedDecoder, body: bytes) -> str:
    with pytest.raises(AwsError) as error:
        run(decoder, body)
    return error.value.code


@pytest.mark.parametrize("step", [1, 7, 8192, 1 << 20])
def test_signed_chunks(step: int) -> None:
    assert run(ChunkedDecoder(SIGNED_CHUNKS, len(DATA), claim=claim()), signed_body(), step) == DATA


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_signed_chunks_and_trailer(step: int) -> None:
    decoder = ChunkedDecoder(SIGNED_CHUNKS_TRAILER, len(DATA), CHECKSUM, claim())
    assert run(decoder, signed_body(trailer=TRAILER), step) == DATA
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


@pytest.mark.parametrize("size", [0, 1, 8192, 20_000])
async def test_what_botocore_sends_over_https(size: int) -> None:
    checksum = Crc32Checksum()
    wrapper = AwsChunkedWrapper(
        io.BytesIO(DATA[:size]), checksum_cls=lambda: checksum, checksum_name="x-amz-checksum-crc32", chunk_size=9000
    )

    async def arriving() -> AsyncIterator[bytes]:
        while piece := wrapper.read(1000):
            yield piece

    decoder = ChunkedDecoder(UNSIGNED_CHUNKS_TRAILER, size, CHECKSUM)
    assert b"".join([piece async for piece in decode(arriving(), decoder)]) == DATA[:size]
    assert decoder.trailers == {"x-amz-checksum-crc32": checksum.b64digest()}


def test_signatures_are_not_looked_at_without_a_claim() -> None:
    body = signed_body(trailer=TRAILER)
    forged = re.sub(rb"signature([=:])[0-9a-f]{64}", rb"signature\g<1>" + b"0" * 64, body)
    assert forged != body
    assert run(ChunkedDecoder(SIGNED_CHUNKS_TRAILER, len(DATA), CHECKSUM), forged) == DATA
    assert code(ChunkedDecoder(SIGNED_CHUNKS_TRAILER, len(DATA), CHECKSUM, claim()), forged) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("mode", [SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER])
def test_every_changed_byte_is_found(mode: str) -> None:
    trailing = mode == SIGNED_CHUNKS_TRAILER
    body = signed_body(trailer=TRAILER if trailing else b"")
    chance = random.Random(11)
    framing = [at for at in range(len(body)) if body[at : at + 1] in b"0123456789abcdef;=:-\r\n"]
    places = chance.sample(range(len(body)), 250) + chance.sample(framing, 250) + list(range(len(body) - 180, len(body)))
    for at in places:
        wrong = bytearray(body)
        wrong[at] ^= 1 << chance.randrange(8)
        decoder = ChunkedDecoder(mode, len(DATA), CHECKSUM if trailing else (), claim())
        try:
            decoded = run(decoder, bytes(wrong))
        except AwsError:
            continue
        # Hex sizes and names of trailers have no case; nothing else may differ.
        assert decoded == DATA
        assert decoder.trailers == ({"x-amz-checksum-crc32": "AAAAAA=="} if trailing else {})
        assert bytes(wrong).lower() == body.lower() or body[at : at + 1] == b"\r"


@pytest.mark.parametrize("cut", [1, 2, 3, 80, 5000, 20_000])
def test_a_body_cut_short_is_incomplete(cut: int) -> None:
    body = signed_body()
    assert code(ChunkedDecoder(SIGNED_CHUNKS, len(DATA), claim=claim()), body[: len(body) - cut]) == "IncompleteBody"


def test_length_is_that_announced() -> None:
    body = signed_body()
    assert code(ChunkedDecoder(SIGNED_CHUNKS, len(DATA) + 1, claim=claim()), body) == "IncompleteBody"
    assert code(ChunkedDecoder(SIGNED_CHUNKS, len(DATA) - 1, claim=claim()), body) == "IncompleteBody"


def test_only_the_last_chunk_may_be_small() -> None:
    assert code(ChunkedDecoder(SIGNED_CHUNKS, len(DATA), claim=claim()), signed_body((8191, 11_809))) == "InvalidChunkSizeError"


def test_chunks_in_another_order_are_refused() -> None:
    head = len(b"2000;chunk-signature=") + 64 + 2
    first, second = signed_body()[: head + 8194], signed_body()[head + 8194 : 2 * (head + 8194)]
    rest = signed_body()[2 * (head + 8194) :]
    assert code(ChunkedDecoder(SIGNED_CHUNKS, len(DATA), claim=claim()), second + first + rest) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"zz\r\n", "InvalidRequest"),
        (b"-5\r\n", "InvalidRequest"),
        (b"5" * (MAX_LINE + 1), "InvalidRequest"),
        (b"fffffffffffffffff\r\n", "InvalidRequest"),
        (b"ffffffffffffffff\r\n", "IncompleteBody"),
        (b"5\r\nhelloX\r\n0\r\n\r\n", "InvalidRequest"),
        (b"5\r\nhello\r\n0\r\n\r\n", "MalformedTrailerError"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:a\r\nx-amz-checksum-crc32:b\r\n\r\n", "MalformedTrailerError"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:a\r\nx-other:b\r\n\r\n", "MalformedTrailerError"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32\r\n\r\n", "MalformedTrailerError"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:a\r\n\r\nmore", "InvalidRequest"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:a\r\n", "IncompleteBody"),
        (b"", "IncompleteBody"),
    ],
)
def test_malformed(body: bytes, error: str) -> None:
    assert code(ChunkedDecoder(UNSIGNED_CHUNKS_TRAILER, 5, CHECKSUM), body) == error


def test_unknown_modes_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not an aws-chunked mode"):
        ChunkedDecoder("UNSIGNED-PAYLOAD", 5)
