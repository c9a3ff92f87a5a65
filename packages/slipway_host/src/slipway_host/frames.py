"""The frames between a gateway (or dispatcher) and one worker: whole messages of known length, on the worker's socket.

    | length u32 | type u8 | flags u8 | head length u16 | status u16 | timeout u32 ms | id u32 | head … | body … |

`length` counts what follows the fixed header (head and body). A head is `name NUL value NUL …` in latin-1 (HTTP allows no
NUL). A connection that begins with HELLO_MAGIC speaks frames, any other first byte is HTTP/1.1; both go to one listener.

    client → worker   HELLO (body: MAGIC and version)                     answered by HELLO with the worker's version
    client → worker   REQUEST (id, timeout, head of headers, body)        answered by RESPONSE, or PART … then RESPONSE
    worker → client   BUSY (id)                                           not taken: ask another worker

A request carries at most MAX_BODY bytes of body; larger ones, unknown lengths and streams use HTTP/1.1. `timeout` is how
long the caller waits, in milliseconds: the worker's parent kills a worker that is busy 5 s longer than that.
"""

import struct

MAGIC = b"\x00SLIPWAY"
VERSION = 1
HEADER = struct.Struct("!IBBHHII")
HEADER_SIZE = HEADER.size
MAX_BODY = 128 * 1024

HELLO = 1
REQUEST = 2
RESPONSE = 3
PART = 4
BUSY = 5


def pack_head(pairs):
    # type: (list[tuple[bytes, bytes]]) -> bytes
    """Header pairs as a head; [] is b""."""
    out = []
    for name, value in pairs:
        out.append(name)
        out.append(value)
    if not out:
        return b""
    out.append(b"")
    return b"\0".join(out)


def unpack_head(head):
    # type: (bytes) -> list[tuple[bytes, bytes]]
    """The reverse of pack_head."""
    parts = head.split(b"\0")
    return [(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)]


def pack(kind, ident, status=0, timeout=0, head=b"", body=b"", flags=0):
    # type: (int, int, int, int, bytes, bytes, int) -> bytes
    """One frame."""
    return b"".join((HEADER.pack(len(head) + len(body), kind, flags, len(head), status, timeout, ident), head, body))
