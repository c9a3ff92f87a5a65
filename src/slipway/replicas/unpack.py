"""Our own extractor for model archives: gzip tar and plain tar, hostile until proven otherwise (users.md 4.4, S5).

It runs as a child process of its own under `python -I -S`: next to nothing of the standard library (re and json alone take
longer to import than small archives to unpack), for an endpoint's start waits; and isal, which inflates twice as fast as zlib.
`unpack.py bytes=… entries=… ratio=… cpu_seconds=… target=… [uid=…] [go=… size=…]`, all numbers: the archive is on descriptor 0,
the target folder on descriptor `target`; with `go` and `size`, the archive grows to that many bytes, and each byte on the pipe
`go` says that it has. It limits itself, gives up root, and prints one JSON object: `{"kind": "ok"}` or
`{"kind", "message", "mend"}` with the kinds of core/replicas.py.

Names are bytes. Every folder is opened relative to its parent, without following links; files are created exclusively. What
an honest model archive never holds is refused: links, devices, sparse files, `..`, a name that is both file and folder.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import sys

try:
    from isal import isal_zlib as zlib
except ImportError:  # run by its path, without the packages
    import zlib  # type: ignore[no-redef]

TYPE_CHECKING = False
"""Type checkers know the name; importing `typing` for it would take as long as a small archive."""
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, Protocol

    class Reads(Protocol):
        def read(self, size: int, /) -> bytes: ...


BLOCK = 512
CHUNK = 256 * 1024
MAX_DEPTH = 64
MAX_NAME = 255
MAX_PATH = 3072
MAX_EXTENSION = 1024 * 1024
"""Bytes of one pax header or GNU long name."""
RATIO_FROM = 256 * 1024 * 1024
"""Unpacked bytes from which the ratio counts: small archives of zeros are common and harmless."""
_ZERO = bytes(BLOCK)
_INFLATE_ERRORS: tuple[type[Exception], ...] = (zlib.error,)  # type: ignore[assignment]
_OCTAL = b"01234567"


class Refused(Exception):
    """The archive cannot be taken; `kind` as in core/replicas.py Failure."""

    def __init__(self, kind: str, message: str, mend: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.mend = mend


class Bounds:
    def __init__(self, bytes: int, entries: int, ratio: int) -> None:
        self.bytes = bytes
        """Unpacked."""
        self.entries = entries
        self.ratio = ratio


class Counts:
    def __init__(self) -> None:
        self.files = 0
        self.entries = 0
        self.bytes = 0


def _hostile(message: str) -> Refused:
    mend = "pack the files themselves: `tar -czhf model.tar.gz -C FOLDER .` (-h stores what links point to)"
    return Refused("hostile-archive", message, mend)


def _broken(message: str) -> Refused:
    return Refused("not-an-archive", message, "pack it again with `tar -czf model.tar.gz -C FOLDER .` and upload it again")


def _too_large(message: str) -> Refused:
    return Refused(
        "archive-too-large", message, "pack fewer or smaller files, or lift the limit with `slipway up --limits off`"
    )


class _Source:
    """The tar's bytes, unpacked a piece at a time, whatever the compression; counts against the bounds."""

    def __init__(self, raw: Reads, bounds: Bounds) -> None:
        self._raw = raw
        self._bounds = bounds
        self._packed = 0
        self._unpacked = 0
        self._buffer = bytearray()
        self._pending = raw.read(CHUNK)
        self._packed += len(self._pending)
        self.gzip = self._pending[:2] == b"\x1f\x8b"
        self._inflate = zlib.decompressobj(31) if self.gzip else None
        self._members = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of the archive."""
        while len(self._buffer) < size:
            piece = self._more()
            if not piece:
                break
            self._buffer += piece
        out = bytes(self._buffer[:size])
        del self._buffer[:size]
        return out

    def exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) < size:
            raise _broken("the archive is cut short")
        return data

    def some(self, most: int) -> bytes:
        """Up to `most` bytes, as they come: those of a large file are copied no more often than they must be."""
        if not self._buffer:
            piece = self._more()
            if not piece:
                raise _broken("the archive is cut short")
            if len(piece) <= most:
                return piece
            self._buffer += piece
        return self.read(min(most, len(self._buffer)))

    def _next_raw(self) -> bytes:
        if self._pending:
            data, self._pending = self._pending, b""
            return data
        data = self._raw.read(CHUNK)
        self._packed += len(data)
        return data

    def _more(self) -> bytes:
        piece = self._inflated() if self._inflate is not None else self._next_raw()
        self._unpacked += len(piece)
        over = self._unpacked > RATIO_FROM and self._unpacked > self._packed * self._bounds.ratio
        if over:
            raise _too_large(f"it unpacks to more than {self._bounds.ratio} times its size, as a decompression bomb does")
        return piece

    def _inflated(self) -> bytes:
        assert self._inflate is not None
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            data = self._inflate.unconsumed_tail or self._next_raw()
            if not data:
                raise _broken("the gzip data is cut short")
            try:
                piece = self._inflate.decompress(data, CHUNK)
            except _INFLATE_ERRORS as error:
                raise _broken(f"the gzip data is damaged ({error})") from None
            if piece:
                return piece

    def _next_member(self) -> bool:
        """Begin the next gzip member, if there is one; zero bytes may pad the end, anything else may not follow."""
        assert self._inflate is not None
        rest = self._inflate.unused_data or self._next_raw()
        while rest:
            stripped = rest.lstrip(b"\0")
            if stripped:
                if len(stripped) != len(rest) or self._members >= 100_000:
                    raise _hostile("something follows the end of the gzip data")
                if len(stripped) < 2:
                    stripped += self._next_raw()
                if stripped[:2] != b"\x1f\x8b":
                    raise _hostile("something follows the end of the gzip data")
                self._members += 1
                self._pending = stripped + self._pending
                self._inflate = zlib.decompressobj(31)
                return True
            rest = self._next_raw()
        return False


class _Entry:
    def __init__(self, name: bytes, size: int, type: bytes, mode: int) -> None:
        self.name = name
        self.size = size
        self.type = type
        self.mode = mode


def _number(field: bytes) -> int:
    """An octal or base-256 number of a tar header."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        if field[0] == 0xFF:
            raise _hostile("an entry has a negative size")
        return value
    text = field.split(b"\0", 1)[0].strip()
    if text.strip(_OCTAL):
        raise _broken("a tar header is damaged (not a number)")
    return int(text or b"0", 8)


def _parse_header(block: bytes, first: bool) -> _Entry:
    stored = block[148:156].split(b"\0", 1)[0].strip()
    total = sum(block) - sum(block[148:156]) + 8 * 32
    signed = total - 256 * sum(1 for b in block[:148] + block[156:] if b > 127)
    if not stored or stored.strip(_OCTAL) or int(stored, 8) not in (total, signed):
        raise _broken("it is not a tar archive (or gzip of one)" if first else "a tar header is damaged (checksum)")
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return _Entry(name, _number(block[124:136]), block[156:157], _number(block[100:108]))


def _parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Records `length key=value\\n`; malformed ones are refused, not guessed at."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 10)
        equals = data.find(b"=", space + 1)
        digits, key = data[at : max(space, at)], data[space + 1 : max(equals, 0)]
        if not digits.isdigit() or not key or b"\n" in key:
            raise _broken("a pax header is damaged")
        end = at + int(digits)
        if end < equals + 2 or end > len(data) or data[end - 1] != 0x0A:
            raise _broken("a pax header is damaged")
        found[key] = data[equals + 1 : end - 1]
        at = end
    return found


def clean_path(name: bytes) -> list[bytes]:
    """The parts of a member's name below the target; [] is the target itself. Leading `/` and `./` go, as SDKs write them."""
    shown = name[:120].decode("utf-8", "backslashreplace")
    if b"\0" in name:
        raise _hostile(f"a name holds a NUL: {shown!r}")
    if len(name) > MAX_PATH:
        raise _hostile(f"a name has {len(name)} bytes, more than {MAX_PATH}: {shown!r}…")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise _hostile(f"a name points out of the archive: {shown!r}")
    if len(parts) > MAX_DEPTH:
        raise _hostile(f"folders are nested more than {MAX_DEPTH} deep: {shown!r}…")
    if any(len(part) > MAX_NAME for part in parts):
        raise _hostile(f"part of a name has more than {MAX_NAME} bytes: {shown!r}…")
    return parts


class _Tree:
    """Writes below one folder, by descriptors only; keeps the folder it is in open, for archives come folder by folder."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._here: list[bytes] = []
        self._fd = os.dup(root)

    def enter(self, parts: list[bytes]) -> int:
        """A descriptor of the folder `parts`, made where missing."""
        if parts == self._here:
            return self._fd
        fd = os.dup(self._root)
        try:
            for part in parts:
                fd = _step(fd, part)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._here, self._fd = parts, fd
        return fd

    def create(self, parts: list[bytes], mode: int) -> int:
        """A new file, open for writing; a file of the same name from earlier in the archive gives way, a folder does not."""
        folder = self.enter(parts[:-1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(parts[-1], flags, mode, dir_fd=folder)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                raise _hostile(f"{_show(parts)} is both a file and a folder") from None
            os.unlink(parts[-1], dir_fd=folder)
            return os.open(parts[-1], flags, mode, dir_fd=folder)


def _step(fd: int, part: bytes) -> int:
    """From the folder `fd`, which is closed, into its folder `part`, which is made."""
    try:  # noqa: SIM105  contextlib is not imported here
        os.mkdir(part, 0o755, dir_fd=fd)
    except FileExistsError:
        pass
    try:
        below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise _hostile(f"{_show([part])} is both a file and a folder") from None
        raise
    os.close(fd)
    return below


def _show(parts: list[bytes]) -> str:
    return repr(b"/".join(parts)[:120].decode("utf-8", "backslashreplace"))


_REFUSED_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"D": "an incremental dump",
    b"M": "a part of a multi-volume archive",
    b"V": "a volume label",
    b"N": "an old GNU name table",
}


class _Extractor:
    def __init__(self, source: _Source, tree: _Tree, bounds: Bounds) -> None:
        self._source = source
        self._tree = tree
        self._bounds = bounds
        self.counts = Counts()

    def run(self) -> None:
        long_name: bytes | None = None
        pax: dict[bytes, bytes] = {}
        while (entry := self._next()) is not None:
            if (entry.type == b"L" and long_name is not None) or (entry.type == b"x" and pax):
                raise _hostile("an entry has several extended headers")
            if entry.type == b"L":
                long_name = self._extension(entry).split(b"\0", 1)[0]
            elif entry.type == b"x":
                pax = _parse_pax(self._extension(entry))
            elif entry.type == b"g":
                self._check_global(_parse_pax(self._extension(entry)))
            else:
                _apply(entry, long_name, pax)
                long_name, pax = None, {}
                self._take(entry)
        if long_name is not None or pax:
            raise _broken("the archive ends in the middle of an entry")
        self._check_end()

    def _next(self) -> _Entry | None:
        block = self._source.read(BLOCK)
        if not block:
            if not self._source.gzip or self.counts.entries == 0:
                raise _broken("the archive is cut short" if self.counts.entries else "the file is empty")
            return None
        if len(block) < BLOCK:
            raise _broken("the archive is cut short" if self.counts.entries else "it is not a tar archive (or gzip of one)")
        if block == _ZERO:
            return None
        entry = _parse_header(block, first=self.counts.entries == 0)
        self.counts.entries += 1
        if self.counts.entries > self._bounds.entries:
            raise _too_large(f"the archive has more than {self._bounds.entries} entries")
        return entry

    def _extension(self, entry: _Entry) -> bytes:
        if entry.size > MAX_EXTENSION:
            raise _hostile(f"a header of {entry.size} bytes")
        data = self._source.exactly(entry.size)
        self._source.exactly(-entry.size % BLOCK)
        return data

    def _check_global(self, records: dict[bytes, bytes]) -> None:
        if records.keys() & {b"path", b"linkpath", b"size"}:
            raise _hostile("a global header names or resizes all entries")

    def _take(self, entry: _Entry) -> None:
        parts = clean_path(entry.name)
        if (what := _REFUSED_TYPES.get(entry.type)) is not None:
            raise _hostile(f"{_show(parts)} is {what}")
        if entry.type == b"5" or (entry.type in (b"0", b"\0") and entry.name.endswith(b"/")):
            if entry.size:
                raise _hostile(f"the folder {_show(parts)} has content")
            self._tree.enter(parts)
        elif entry.type in (b"0", b"\0", b"7"):
            if not parts:
                raise _hostile("a file without a name")
            self._write(parts, entry)
        else:
            raise _hostile(f"{_show(parts)} is of the unknown type {entry.type!r}")

    def _write(self, parts: list[bytes], entry: _Entry) -> None:
        self.counts.bytes += entry.size
        if self.counts.bytes > self._bounds.bytes:
            raise _too_large(f"the archive holds more than {self._bounds.bytes} bytes")
        # Readable by all (each replica has a user of its own), executable where it was; never set-id, never writable by others.
        fd = self._tree.create(parts, 0o755 if entry.mode & 0o100 else 0o644)
        try:
            left = entry.size
            while left:
                data = self._source.some(left)
                left -= len(data)
                while data:
                    data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        self._source.exactly(-entry.size % BLOCK)
        self.counts.files += 1

    def _check_end(self) -> None:
        while data := self._source.read(CHUNK):
            if data.strip(b"\0"):
                raise _hostile("something follows the end of the archive")


def _apply(entry: _Entry, long_name: bytes | None, pax: dict[bytes, bytes]) -> None:
    """What extended headers say wins, as every tar has it; pax over GNU."""
    if any(key.startswith(b"GNU.sparse.") for key in pax):
        raise _hostile("a sparse file")
    if long_name is not None:
        entry.name = long_name
    if b"path" in pax:
        entry.name = pax[b"path"]
    if b"size" in pax:
        if len(pax[b"size"]) > 18 or not pax[b"size"].isdigit():
            raise _hostile("an entry's size is not a number")
        entry.size = int(pax[b"size"])


class _Growing:
    """A file of which more comes: `news` is a pipe that tells so, and ends where nothing more will."""

    def __init__(self, file: BinaryIO, size: int, news: int) -> None:
        self._file = file
        self._left = size
        self._news = news

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at its end. EOFError: the rest is not coming."""
        found = bytearray()
        while (wanted := min(size - len(found), self._left)) > 0:
            data = self._file.read(wanted)
            self._left -= len(data)
            found += data
            if not data and not os.read(self._news, 4096):
                raise EOFError
        return bytes(found)


def extract(raw: Reads, target: int, bounds: Bounds) -> Counts:
    """Unpack `raw` below the folder that is open as `target`. Refused says why not; what was written so far stays."""
    extractor = _Extractor(_Source(raw, bounds), _Tree(target), bounds)
    try:
        extractor.run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused("disk-full", "the disk is full", "free space in slipway's data directory") from error
        if error.errno == errno.EFBIG:
            raise _too_large(f"a file is larger than {bounds.bytes} bytes") from error
        raise
    return extractor.counts


def _limit_self(cpu_seconds: int, file_bytes: int, uid: int | None) -> None:
    limits = (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, 512 * 1024 * 1024),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    )
    for which, value in limits:
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def _quoted(text: str) -> str:
    """As JSON, in ASCII: nothing may be imported any more once root is given up, for it may be in a folder of root's."""
    out = []
    for char in text:
        code = ord(char)
        if " " <= char <= "~" and char not in '"\\':
            out.append(char)
        elif code > 0xFFFF:
            out.append(f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}")
        else:
            out.append(f"\\u{code:04x}")
    return f'"{"".join(out)}"'


def main(arguments: list[str], say: Callable[[str], object]) -> None:
    """The child process: see the module's docstring."""
    order = {name: int(value) for name, _, value in (argument.partition("=") for argument in arguments)}
    _limit_self(order["cpu_seconds"], order["bytes"], order.get("uid"))
    os.umask(0o022)
    try:
        with os.fdopen(0, "rb", buffering=0) as file:
            raw = _Growing(file, order["size"], order["go"]) if "go" in order else file
            counts = extract(raw, order["target"], Bounds(order["bytes"], order["entries"], order["ratio"]))
        say(f'{{"kind": "ok", "files": {counts.files}, "bytes": {counts.bytes}}}')
    except EOFError:
        return  # the archive is not coming
    except Refused as refused:
        kind, message, mend = (_quoted(text) for text in (refused.kind, refused.message, refused.mend))
        say(f'{{"kind": {kind}, "message": {message}, "mend": {mend}}}')


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdout.write)
