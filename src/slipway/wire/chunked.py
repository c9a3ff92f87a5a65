"""Bodies in S3's aws-chunked encoding, decoded as they arrive (AWS: "Transferring payload in multiple chunks").

    STREAMING-AWS4-HMAC-SHA256-PAYLOAD            hex-size;chunk-signature=…\\r\\ndata\\r\\n… 0;chunk-signature=…\\r\\n\\r\\n
    STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER    the same, then name:value\\r\\n… x-amz-trailer-signature:…\\r\\n\\r\\n
    STREAMING-UNSIGNED-PAYLOAD-TRAILER            hex-size\\r\\ndata\\r\\n… 0\\r\\nname:value\\r\\n…\\r\\n

Bytes are handed on as they come and are proven only when their chunk ends: a reader keeps nothing before the whole body has
been read. What is buffered is at most one line. Failures are AwsErrors in S3's terms.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator

from slipway.wire.claims import EMPTY_HASH, MISMATCH, SIGNED_CHUNKS_TRAILER, STREAMING, UNSIGNED_CHUNKS_TRAILER, Claim
from slipway.wire.errors import AwsError

MIN_CHUNK = 8192
"""Bytes; AWS's rule for all chunks but the last."""
MAX_CHUNK = 5 * 1024**3
"""Bytes: a chunk is not held in memory, so this is the largest single put."""
MAX_LINE = 1024
MAX_TRAILERS = 8

_SIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")
_PLAIN_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(?:;[^\r\n]*)?")
_TRAILER_LINE = re.compile(rb"([A-Za-z0-9-]{1,128}):([\x20-\x7e]{0,512})")
_EMPTY = EMPTY_HASH.encode()


class ChunkedDecoder:
    """One body. `feed` what arrives, then `finish`; `trailers` is complete after that.

    `length` is x-amz-decoded-content-length, `announced` the names in x-amz-trailer. `claim` None: nothing is verified
    (`--auth none`).
    """

    def __init__(self, mode: str, length: int, announced: tuple[str, ...] = (), claim: Claim | None = None) -> None:
        if mode not in STREAMING:
            raise ValueError(f"{mode} is not an aws-chunked mode")
        self.trailers: dict[str, str] = {}
        self._signed = mode != UNSIGNED_CHUNKS_TRAILER
        self._trailing = mode in (UNSIGNED_CHUNKS_TRAILER, SIGNED_CHUNKS_TRAILER)
        self._claim = claim if self._signed else None
        self._announced = announced
        self._expected = length
        self._received = 0
        self._short = False
        self._line = bytearray()
        self._left = 0
        self._hash = hashlib.sha256()
        self._previous = claim.signature if claim is not None else b""
        self._stated = b""
        self._raw_trailers: list[bytes] = []
        self._state = "head"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded pieces of `data`."""
        view, at = memoryview(data), 0
        while at < len(data):
            if self._state == "data":
                piece = bytes(view[at : at + self._left])
                at += len(piece)
                self._left -= len(piece)
                if self._claim is not None:
                    self._hash.update(piece)
                if not self._left:
                    self._state = "gap"
                yield piece
                continue
            if self._state == "end":
                raise _malformed("There are bytes after the end of the body.")
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end
            if len(self._line) + stop - at > MAX_LINE:
                raise _malformed("A chunk's line is too long.")
            self._line += view[at:stop]
            at = stop + 1
            if end >= 0:
                line = bytes(self._line).removesuffix(b"\r")
                self._line.clear()
                self._take(line)

    def finish(self) -> None:
        """The body is over; raises IncompleteBody when it should not be."""
        if self._state != "end" or self._received != self._expected:
            raise AwsError("IncompleteBody", "The request body terminated unexpectedly", status=400)

    def _take(self, line: bytes) -> None:
        match self._state:
            case "head":
                self._chunk(line)
            case "gap":
                if line:
                    raise _malformed("A chunk is longer than its size says.")
                self._close_chunk()
                self._state = "head"
            case "last":  # the empty line after the last chunk of the form without trailers
                if line:
                    raise _malformed("There are bytes after the last chunk.")
                self._state = "end"
            case _:
                self._trailer(line)

    def _chunk(self, line: bytes) -> None:
        match = (_SIGNED_LINE if self._signed else _PLAIN_LINE).fullmatch(line)
        if match is None:
            raise _malformed("A chunk's size (and signature) cannot be read.")
        size = int(match[1], 16)
        if self._signed:
            self._stated = match[2]
        if size == 0:
            self._close_chunk()
            self._state = "trailer" if self._trailing else "last"
            return
        if self._short:
            message = f"Only the last chunk is allowed to have a size less than {MIN_CHUNK} bytes"
            raise AwsError("InvalidChunkSizeError", message, status=403)
        if size > MAX_CHUNK or self._received + size > self._expected:
            raise AwsError("IncompleteBody", "The request body is longer than x-amz-decoded-content-length says", status=400)
        self._short = size < MIN_CHUNK
        self._received += size
        self._left = size
        self._state = "data"

    def _close_chunk(self) -> None:
        if self._claim is None:
            return
        self._compare(b"AWS4-HMAC-SHA256-PAYLOAD", self._stated, _EMPTY, self._hash.hexdigest().encode())
        self._hash = hashlib.sha256()

    def _compare(self, algorithm: bytes, stated: bytes, *parts: bytes) -> None:
        claim = self._claim
        if claim is None:
            return
        if claim.signing_key is None:
            raise AwsError("SignatureDoesNotMatch", MISMATCH, status=403)
        text = b"\n".join((algorithm, claim.timestamp, claim.scope, self._previous, *parts))
        if not hmac.compare_digest(claim.signing_key.sign(text), stated):
            raise AwsError("SignatureDoesNotMatch", MISMATCH, status=403)
        self._previous = stated

    def _trailer(self, line: bytes) -> None:
        if not line:
            self._close_trailers()
            return
        match = _TRAILER_LINE.fullmatch(line)
        name = match[1].decode().lower() if match else ""
        if match is None or name in self.trailers or len(self.trailers) >= MAX_TRAILERS:
            raise _malformed()
        value = match[2].strip()
        self.trailers[name] = value.decode()
        if name != "x-amz-trailer-signature":
            self._raw_trailers.append(name.encode() + b":" + value + b"\n")

    def _close_trailers(self) -> None:
        signature = self.trailers.pop("x-amz-trailer-signature", "")
        if sorted(self.trailers) != sorted(self._announced):
            raise _malformed()
        if self._signed:
            digest = hashlib.sha256(b"".join(self._raw_trailers)).hexdigest().encode()
            self._compare(b"AWS4-HMAC-SHA256-TRAILER", signature.encode(), digest)
        self._state = "end"


async def decode(body: AsyncIterable[bytes], decoder: ChunkedDecoder) -> AsyncIterator[bytes]:
    """The decoded body; raises AwsError at the latest at its end."""
    async for data in body:
        for piece in decoder.feed(data):
            yield piece
    decoder.finish()


def _malformed(detail: str = "") -> AwsError:
    text = "The request contained trailing data that was not well-formed or did not conform to our published schema."
    return AwsError("MalformedTrailerError", text, status=400) if not detail else AwsError("InvalidRequest", detail, status=400)
