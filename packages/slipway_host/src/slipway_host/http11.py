"""HTTP/1.1 for a server that answers one request at a time: bytes in, requests out; bytes of answers. No sockets here.

What peers send us: our own gateway, and people with curl. Strict where a second reading of the same bytes would be possible
(both lengths, folded lines, odd numbers): such a request is refused and its connection closed.
"""

from __future__ import annotations

import io

MAX_HEAD = 64 * 1024
MAX_CHUNK_LINE = 256
MAX_TRAILERS = 8 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
    408: "Request Timeout", 413: "Content Too Large", 415: "Unsupported Media Type", 417: "Expectation Failed",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable", 505: "HTTP Version Not Supported", 507: "Insufficient Storage",
}  # fmt: skip
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class BadRequest(Exception):
    """The bytes are no request that we serve; `status` says why. The connection cannot be used further."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request:
    """One whole request. Header names are lower case."""

    __slots__ = ("body", "headers", "keep_alive", "method", "minor", "path", "query")

    def __init__(self, method: str, target: str, minor: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.minor = minor
        self.headers = headers
        self.body = b""
        self.keep_alive = minor == 1

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Parser:
    """Feed it what arrived; `next` gives whole requests in order, None when more bytes are needed.

    While a large body of known length is under way `room` is the memory it belongs in: receive into it and call `filled`
    instead of `feed`, which saves a copy.
    """

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        self._request: Request | None = None
        self._body: io.BytesIO | None = None
        self._view: memoryview | None = None
        self._have = 0
        self._need = 0
        self._chunks: _Chunks | None = None
        self.wants_continue = False
        """The peer waits for CONTINUE before it sends its body; the reader clears it after sending."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        view = self._view
        if view is not None:
            count = min(len(data), self._need - self._have)
            view[self._have : self._have + count] = data[:count]
            self._have += count
            data = data[count:]
        if data:
            self._buffer += data

    def room(self) -> memoryview | None:
        return None if self._view is None or self._have == self._need else self._view[self._have :]

    def filled(self, count: int) -> None:
        self._have += count

    def next(self) -> Request | None:
        """Raises BadRequest."""
        if self._request is None and not self._begin():
            return None
        request = self._request
        if request is None:
            return None
        if self._chunks is not None:
            body = self._chunks.take(self._buffer)
            if body is None:
                return None
            request.body = body
        elif self._view is not None and self._body is not None:
            if self._have < self._need:
                return None
            self._view.release()
            request.body = self._body.getvalue()
        self._request = self._body = self._view = self._chunks = None
        self.wants_continue = False
        return request

    def _begin(self) -> bool:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(buffer) >= MAX_HEAD:
                raise BadRequest(431, f"the head of the request is larger than {MAX_HEAD} bytes")
            return False
        head = bytes(buffer[:end])
        del buffer[: end + 4]
        request = parse_head(head)
        self._frame_body(request)
        self._request = request
        return True

    def _frame_body(self, request: Request) -> None:
        lengths = {value for key, value in request.headers if key == b"content-length"}
        codings = [value.strip().lower() for key, value in request.headers if key == b"transfer-encoding"]
        if codings:
            if lengths or request.minor == 0:
                raise BadRequest(400, "Transfer-Encoding together with Content-Length or HTTP/1.0")
            if codings != [b"chunked"]:
                raise BadRequest(501, "the only transfer coding is chunked")
            self._chunks = _Chunks(self._max_body)
        elif lengths:
            text = lengths.pop()
            if lengths or not text.isdigit() or len(text) > 18:
                raise BadRequest(400, "Content-Length is not one number")
            length = int(text)
            if length > self._max_body:
                raise BadRequest(413, f"the body has {length} bytes; at most {self._max_body} are accepted")
            if length:
                self._reserve(length)
        expectation = request.header(b"expect")
        if expectation is not None:
            if expectation.lower() != b"100-continue":
                raise BadRequest(417, "the only expectation is 100-continue")
            self.wants_continue = request.minor == 1 and not self._buffer and (self._chunks is not None or bool(self._need))

    def _reserve(self, length: int) -> None:
        # BytesIO gives its memory away as bytes without a copy, and `bytes(length)` costs pages only as they are filled.
        self._body = io.BytesIO(bytes(length))
        self._view = self._body.getbuffer()
        self._have, self._need = 0, length
        if self._buffer:
            early = bytes(self._buffer)
            self._buffer.clear()
            self.feed(early)


class _Chunks:
    """A chunked body under way."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._pieces: list[bytes] = []
        self._size = 0
        self._left = 0
        """Bytes of the current chunk that are still to come, with its line end."""
        self._trailers = False

    def take(self, buffer: bytearray) -> bytes | None:
        """Consumes what it can; the body when it is complete."""
        while not self._trailers:
            if self._left > 2:
                piece = bytes(buffer[: self._left - 2])
                if not piece:
                    return None
                self._pieces.append(piece)
                self._left -= len(piece)
                del buffer[: len(piece)]
            elif self._left:
                if len(buffer) < 2:
                    return None
                if buffer[:2] != b"\r\n":
                    raise BadRequest(400, "a chunk is longer than its size says")
                del buffer[:2]
                self._left = 0
            elif not self._size_line(buffer):
                return None
        while True:
            end = buffer.find(b"\r\n", 0, MAX_TRAILERS)
            if end < 0:
                if len(buffer) >= MAX_TRAILERS:
                    raise BadRequest(431, "trailers are too large")
                return None
            del buffer[: end + 2]
            if end == 0:
                return b"".join(self._pieces)

    def _size_line(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\r\n", 0, MAX_CHUNK_LINE)
        if end < 0:
            if len(buffer) >= MAX_CHUNK_LINE:
                raise BadRequest(400, "the line of a chunk's size is too long")
            return False
        digits = bytes(buffer[:end]).partition(b";")[0].rstrip(b" \t")
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise BadRequest(400, "the size of a chunk is not a number")
        del buffer[: end + 2]
        size = int(digits, 16)
        self._size += size
        if self._size > self._max_body:
            raise BadRequest(413, f"the body is larger than {self._max_body} bytes")
        if size:
            self._left = size + 2
        else:
            self._trailers = True
        return True


def parse_head(head: bytes) -> Request:
    """A request from its head, without the blank line. Raises BadRequest."""
    lines = head.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not parts[0] or not _TOKEN.issuperset(parts[0]):
        raise BadRequest(400, "no request line")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest(505 if parts[2].startswith(b"HTTP/") else 400, "the version is not HTTP/1.1")
    if b"\n" in head.replace(b"\r\n", b"") or b"\0" in head:
        raise BadRequest(400, "a bare line feed or NUL in the head")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise BadRequest(400, "a header line without a proper name")
        headers.append((name.lower(), value.strip(b" \t")))
    request = Request(parts[0].decode("ascii"), parts[1].decode("latin-1"), 1 if parts[2] == b"HTTP/1.1" else 0, headers)
    for name, value in headers:
        if name == b"connection":
            options = value.lower()
            request.keep_alive = b"close" not in options and (request.keep_alive or b"keep-alive" in options)
    return request


def head(status: int, headers: list[tuple[bytes, bytes]], length: int | None, keep_alive: bool) -> bytes:
    """The head of an answer. `length` None: the body is chunked."""
    lines = [b"HTTP/1.1 %d %s" % (status, _REASONS.get(status, "Status").encode("ascii"))]
    lines += [b"%s: %s" % pair for pair in headers]
    if length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif status != 204:
        lines.append(b"Content-Length: %d" % length)
    if not keep_alive:
        lines.append(b"Connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def chunk(piece: bytes) -> bytes:
    """One chunk of a body; the empty piece would end it, so it is nothing."""
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""
