"""A request's body as an operation reads it: aws-chunked framing taken off, and the signed hash checked at its end."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from slipway.http.messages import Body, BodyTooLarge, Headers
from slipway.wire.auth_errors import auth_error
from slipway.wire.chunked import ChunkedDecoder, decode
from slipway.wire.claims import STREAMING, Claim, SignatureError
from slipway.wire.errors import AwsError

MAX_TRAILERS = 8


class Payload:
    """Content that arrives (`backing.objects.Source`). Iterate once; what it raises at the end voids all it gave before.

    It raises AwsError, in the caller's protocol, for a broken or wrongly signed aws-chunked body and when the body is not
    the one that was signed.
    """

    def __init__(self, body: Body, headers: Headers, claim: Claim | None, protocol: str) -> None:
        found = dict(headers)
        self._protocol = protocol
        self._body = body
        self._claim = claim
        self.mode = found.get(b"x-amz-content-sha256", b"").decode("latin-1")
        """As stated in x-amz-content-sha256; one of STREAMING for the aws-chunked forms."""
        self.trailers: dict[str, str] = {}
        """By lower-case name; complete when the body is."""
        self.announced: tuple[str, ...] = ()
        """Names of the trailers to come."""
        self.length: int | None = body.length
        """Bytes of content, the framing not counted; None when nobody said."""
        self._decoder: ChunkedDecoder | None = None
        if self.mode in STREAMING:
            self.length = _decoded_length(found.get(b"x-amz-decoded-content-length"))
            names = found.get(b"x-amz-trailer", b"").decode("latin-1").lower().split(",")
            self.announced = tuple(name.strip() for name in names if name.strip())[:MAX_TRAILERS]
            self._decoder = ChunkedDecoder(self.mode, self.length, self.announced, claim)
            self.trailers = self._decoder.trailers

    async def read(self, limit: int) -> bytes:
        """All of it; BodyTooLarge beyond `limit` bytes."""
        if self._decoder is None:
            data = await self._body.read(limit)
            if self._claim is not None and self._claim.needs_body_hash:
                self._check(self._claim, hashlib.sha256(data).hexdigest())
            return data
        pieces, total = [], 0
        async for piece in self:
            total += len(piece)
            if total > limit:
                raise BodyTooLarge(f"more than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._decoder is not None:
            async for piece in decode(self._body, self._decoder):
                yield piece
            return
        claim = self._claim
        if claim is None or not claim.needs_body_hash:
            async for piece in self._body:
                yield piece
            return
        digest = hashlib.sha256()
        async for piece in self._body:
            digest.update(piece)
            yield piece
        self._check(claim, digest.hexdigest())

    def _check(self, claim: Claim, sha256: str) -> None:
        try:
            claim.check_body(sha256)
        except SignatureError as error:
            raise auth_error(error, self._protocol) from None


def without_framing(headers: Headers) -> Headers:
    """The headers without `aws-chunked` in Content-Encoding: it is how the body came, not what it is."""
    kept: Headers = []
    for name, value in headers:
        if name == b"content-encoding":
            codings = [coding.strip() for coding in value.split(b",")]
            value = b",".join(coding for coding in codings if coding and coding.lower() != b"aws-chunked")
            if not value:
                continue
        kept.append((name, value))
    return kept


def _decoded_length(value: bytes | None) -> int:
    if value is None:
        raise AwsError("MissingContentLength", "You must provide the Content-Length HTTP header.", status=411)
    if not value.isdigit() or len(value) > 15:
        raise AwsError("InvalidArgument", "x-amz-decoded-content-length is not a number of bytes", status=400)
    return int(value)
