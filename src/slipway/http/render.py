"""Answers as bytes: status lines, header lines that cannot be injected into, chunks, the small JSON body of a refusal."""

from __future__ import annotations

import http
import json
from collections.abc import Iterable

REASONS = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES = {code: f"HTTP/1.1 {code} {phrase}\r\n".encode() for code, phrase in REASONS.items()}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"keep-alive"))


class BadHeader(ValueError):
    """A header name or value that HTTP cannot carry (CR, LF, NUL, not a token)."""


def status_line(status: int) -> bytes:
    line = STATUS_LINES.get(status)
    return line if line is not None else b"HTTP/1.1 %d Status\r\n" % status


def clean_value(value: bytes) -> bool:
    """Whether `value` can stand in a header line."""
    return b"\r" not in value and b"\n" not in value and b"\0" not in value


def header_block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header lines, each with its CRLF. The connection's own framing headers are left out. Raises BadHeader."""
    lines = []
    for name, value in headers:
        if not name or not _TOKEN.issuperset(name):
            raise BadHeader(f"header name {name!r}")
        if not clean_value(value):
            raise BadHeader(f"value of header {name!r}")
        if name.lower() not in _FRAMING:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def refusal(status: int, message: str) -> bytes:
    """The JSON body of an answer that no handler gave."""
    return json.dumps({"message": message or REASONS.get(status, "error")}).encode()
