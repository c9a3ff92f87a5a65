"""Request bodies that came with `Content-Encoding: gzip` (PutMetricData above 10 KB), unpacked within a bound."""

from __future__ import annotations

import zlib

from .errors import AwsError

MAX_BYTES = 64 * 1024 * 1024
"""What a body may unpack to: a compressed megabyte can stand for a gigabyte."""


def decompress(body: bytes, limit: int = MAX_BYTES) -> bytes:
    """The body of one gzip member. AwsError SerializationException when malformed, RequestEntityTooLarge beyond `limit`."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise AwsError("SerializationException", "The body is not gzip, as Content-Encoding says.", status=400) from error
    if len(plain) > limit:
        raise AwsError("RequestEntityTooLarge", f"The body unpacks to more than {limit} bytes.", status=413)
    if not unpacker.eof:
        raise AwsError("SerializationException", "The gzip body is cut short.", status=400)
    return plain
