"""Frames of `application/vnd.amazon.eventstream`, the answer of InvokeEndpointWithResponseStream (hosting.md 1.5).

Imports nothing but the standard library: the gateway uses it and loads no service model.

A frame: total length (4 bytes), length of the headers (4), CRC32 of those 8 bytes (4), headers, payload, CRC32 of all
that precedes (4). A header: length of its name (1), name, type 7 for a string (1), length of the value (2), value.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable

CONTENT_TYPE = b"application/vnd.amazon.eventstream"

_STRING = 7
_OVERHEAD = 16
"""Bytes of a frame that are neither headers nor payload."""


def _encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    out = bytearray()
    for name, value in headers:
        raw_name, raw_value = name.encode(), value.encode()
        if not 0 < len(raw_name) < 256 or len(raw_value) > 0x7FFF:
            raise ValueError("an event header's name takes 1 to 255 bytes, its value at most 32767")
        out += struct.pack(">B", len(raw_name)) + raw_name + struct.pack(">BH", _STRING, len(raw_value)) + raw_value
    return bytes(out)


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", _OVERHEAD + len(headers) + len(payload), len(headers))
    crc = zlib.crc32(prelude)
    prelude += crc.to_bytes(4, "big")
    # The checksum of the whole goes on from the prelude's, so that a large payload is read once and never copied twice.
    crc = zlib.crc32(payload, zlib.crc32(headers, zlib.crc32(prelude)))
    return b"".join((prelude, headers, payload, crc.to_bytes(4, "big")))


_PAYLOAD_PART = _encode_headers(
    ((":message-type", "event"), (":event-type", "PayloadPart"), (":content-type", "application/octet-stream"))
)


def encode_event(headers: Iterable[tuple[str, str]], payload: bytes) -> bytes:
    """One frame with string headers, in the order given. ValueError for a header that the format cannot hold."""
    return _frame(_encode_headers(headers), payload)


def payload_part(data: bytes) -> bytes:
    """A piece of the model's answer: raw bytes, neither JSON nor base64."""
    return _frame(_PAYLOAD_PART, data)


def exception_frame(kind: str, message: str, code: str | None = None) -> bytes:
    """A failure after the first byte: `kind` is ModelStreamError or InternalStreamFailure.

    `code` is ModelStreamError's ErrorCode (`ModelInvocationTimeExceeded`, `StreamBroken`); None leaves it out.
    """
    members = {"Message": message} if code is None else {"Message": message, "ErrorCode": code}
    headers = ((":message-type", "exception"), (":exception-type", kind), (":content-type", "application/json"))
    return encode_event(headers, json.dumps(members, separators=(",", ":")).encode())
