"""An answer ready for HTTP, and the headers that all answers of a protocol share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .route import Route

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Rendered:
    """`stream` is the value of the streaming member, untouched (bytes or an iterator); then `body` is b""."""

    status: int
    headers: Headers = field(default_factory=list)
    """Lower-case names. A `content-length` among them is the operation's own (GetObject, HeadObject)."""
    body: bytes = b""
    stream: Any | None = None


def json_version(route: Route) -> str:
    version: str = route.operation.metadata.get("jsonVersion", "1.1") if route.operation else "1.1"
    return version


def id_headers(protocol: str, request_id: str, content_type: str | None = None) -> Headers:
    """The headers that every answer of a protocol has."""
    raw = request_id.encode("latin-1")
    headers = [(b"x-amz-request-id", raw), (b"x-amz-id-2", raw)] if protocol == "rest-xml" else [(b"x-amzn-requestid", raw)]
    if content_type:
        headers.append((b"content-type", content_type.encode("ascii")))
    return headers
