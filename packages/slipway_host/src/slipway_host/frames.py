"""The frames between a gateway (or dispatcher) and one worker: whole messages of known length, on the worker's socket.

    | length u32 | type u8 | flags u8 | head length u16 | status u16 | timeout u32 ms | id u32 | head … | body … |

`length` counts what follows the fixed header (head and body). A head is `name NUL value NUL …` in latin-1 (HTTP allows no
NUL); names in any case. A connection whose first byte is 0 speaks frames (a HELLO is short), any other first byte is
HTTP/1.1; both go to one listener.

    client → worker   HELLO (body: MAGIC and one byte of version)         answered by HELLO with the worker's version
    client → worker   REQUEST (id, timeout, head of headers, body)        answered by RESPONSE, or PART … then RESPONSE
    worker → client   BUSY (id)                                           not taken: ask another worker
    worker → client   BEGUN (its id field is a count)                     the next so many unanswered requests run now
    worker → client   BYE                                                 nothing more is taken here: close when all is answered

A worker that answers requests together says in its HELLO how many at most (two bytes behind the version). It begins the oldest
first; BEGUN goes before a batch of several of one connection, so that the client knows which have run if the worker dies. A
REQUEST with the flag ALONE is never put together with others. One with the flag TELL has a BEGUN also when it runs by itself:
its client has to know, since others may have sent this worker requests that are before it.

A host of many models has one listener for all: the client's HELLO names the model behind the version, and BYE is the answer
when that is not (or not any more) loaded.

A client may send requests right behind its HELLO; a worker of another version answers HELLO and closes. Answers come in
the order of the requests of one connection.

PART frames carry the status and head of the answer like RESPONSE does; their bodies, and the body of the RESPONSE that ends
them, are the answer's pieces in order, each at most MAX_BODY. A RESPONSE with the flag BROKEN ends a stream whose handler
failed midway: what came before it is not the whole answer. A connection that closes within an answer means the worker died.

A request carries at most MAX_BODY bytes of body; larger ones, unknown lengths and streams use HTTP/1.1 (POST /invocations;
TIMEOUT_HEADER names its timeout; one with TELL_HEADER is answered by 102 Processing when it begins). `timeout` is how long
the caller waits, in milliseconds, 0 for the host's own limit: a worker that is busy GRACE seconds longer than that is killed
by its parent and replaced.

Who does not want a request's answer any more says so to the host (`slipway_host.pings`), since the worker is busy: it names the
request by its id (over HTTP/1.1 by the number in NAME_HEADER), so that ids should differ between connections.
"""

from __future__ import annotations

import struct

MAGIC = b"\x00SLIPWAY"
VERSION = 1
HEADER = struct.Struct("!IBBHHII")
HEADER_SIZE = HEADER.size
MAX_BODY = 128 * 1024
GRACE = 5.0
TIMEOUT_HEADER = "X-Slipway-Timeout-Ms"
NAME_HEADER = "X-Slipway-Request"
TELL_HEADER = "X-Slipway-Tell"
GONE_HEADER = "X-Slipway-Gone"
"""On a 503: the request was not taken, since this worker is ending."""

HELLO = 1
REQUEST = 2
RESPONSE = 3
PART = 4
BUSY = 5
BEGUN = 6
BYE = 7

BROKEN = 1
"""Flag of a RESPONSE."""
ALONE = 1
TELL = 2
"""Flags of a REQUEST."""


def pack_head(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Header pairs as a head; [] is b""."""
    out = []
    for name, value in pairs:
        out.append(name)
        out.append(value)
    if not out:
        return b""
    out.append(b"")
    return b"\0".join(out)


def unpack_head(head: bytes) -> list[tuple[bytes, bytes]]:
    """The reverse of pack_head."""
    parts = head.split(b"\0")
    return [(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)]


def pack(
    kind: int, ident: int, status: int = 0, timeout: int = 0, head: bytes = b"", body: bytes = b"", flags: int = 0
) -> bytes:
    """One frame."""
    return b"".join((HEADER.pack(len(head) + len(body), kind, flags, len(head), status, timeout, ident), head, body))


def hello(version: int = VERSION, batch: int = 1, model: str = "") -> bytes:
    """The first frame of either side. `batch`: requests that the worker answers together at most; `model`: which one is wanted,
    of a host of many."""
    more = batch.to_bytes(2, "big") if batch > 1 else model.encode()
    return pack(HELLO, 0, body=MAGIC + bytes([version]) + more)


def hello_version(body: bytes) -> int | None:
    """The version that a HELLO's body names; None when it is no HELLO of ours."""
    if not len(MAGIC) < len(body) <= len(MAGIC) + 129 or not body.startswith(MAGIC):
        return None
    return body[len(MAGIC)]


def hello_batch(body: bytes) -> int:
    """How many requests the worker behind a HELLO answers together at most."""
    return int.from_bytes(body[len(MAGIC) + 1 : len(MAGIC) + 3], "big") or 1


def hello_model(body: bytes) -> str:
    """The model that a HELLO's body names; empty: none."""
    return body[len(MAGIC) + 1 :].decode("latin-1")
