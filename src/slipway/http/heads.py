"""What a request's head may be: its bounds, and the headers that concern the connection. Looked at only where there is need."""

from __future__ import annotations

from slipway.http.exchange import Exchange
from slipway.http.limits import HttpLimits

RARE = frozenset((b"transfer-encoding", b"expect", b"connection", b"upgrade"))
"""Headers that concern the connection; without them it is HTTP/1.1 as usual."""
ORDINARY = frozenset(
    (b"host", b"content-type", b"content-length", b"accept", b"accept-encoding", b"accept-language", b"user-agent")
)
"""Headers of which, when each came once and no other, none concerns the connection, the caller or the routing."""


class Fault(Exception):
    """The request breaks a bound or a rule: answered with `status`, then the connection closes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check_head(incoming: Exchange, limits: HttpLimits) -> None:
    """Exact, and only when so many bytes came that a bound may be exceeded. Raises Fault."""
    if len(incoming.target) > limits.target_bytes:
        raise Fault(414, "the request's target is too long")
    size = len(incoming.target) + sum(len(name) + len(value) + 4 for name, value in incoming.headers)
    if size > limits.head_bytes or len(incoming.headers) > limits.headers:
        raise Fault(431, "the request's headers are too large or too many")


def check_rare(incoming: Exchange, version: str) -> None:
    """Take over what RARE headers, or a version that is not 1.1, say. Raises Fault."""
    values = incoming.values
    coding = values.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise Fault(400, "only the chunked transfer encoding is known")
        incoming.length = None
    incoming.expects = values.get(b"expect", b"").lower() == b"100-continue"
    incoming.upgrade = b"upgrade" in values
    if version not in ("1.0", "1.1"):
        raise Fault(400, f"HTTP/{version} is not served")
    if version == "1.0":
        incoming.old = True
        incoming.keep_alive = incoming.expects = False
        if coding is not None:
            raise Fault(400, "Transfer-Encoding in HTTP/1.0")
