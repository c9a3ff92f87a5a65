"""A log stream on disk: numbered files that are only ever appended to, one JSON object per line; the oldest go first.

Several processes may append to one stream at once: each burst is one `write` on a descriptor opened with O_APPEND, and going
on to the next number needs no agreement (whoever opens it first makes it). A reader's position, file number and byte offset,
stays true for as long as the file is there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import msgspec

SEGMENT_BYTES = 32 * 1024 * 1024
"""A stream goes on to its next file beyond this size; a stream keeps two files, so twice this is what it may take on disk."""

_KEPT = 2
_BURST = 1024 * 1024
_BLOCK = 64 * 1024
_LONG = 200
_SEGMENT = re.compile(r"[0-9]{8,}\.log")


class Event(msgspec.Struct, frozen=True):
    """One line. Times are epoch milliseconds."""

    timestamp: int
    ingestion: int
    message: str


class Position(NamedTuple):
    """A place between two events: file number, byte offset."""

    segment: int
    offset: int


class Placed(NamedTuple):
    """An event, and the positions before and after it."""

    event: Event
    before: Position
    after: Position


def folder_name(name: str) -> str:
    """A file name for any group or stream name: one path component, never `.` or `..`, at most 200 bytes, no two the same."""
    quoted = quote(name, safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E")
    if len(quoted) <= _LONG:
        return quoted
    return f"{quoted[:120]}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()}"


def segments(folder: str) -> list[int]:
    """Numbers of the files there are, oldest first; none if the stream is gone."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if _SEGMENT.fullmatch(name))


def sizes(folder: str) -> tuple[tuple[int, int], ...]:
    """Number and size of each file: changes whenever something was written."""
    found = []
    for number in segments(folder):
        try:
            found.append((number, os.stat(_path(folder, number)).st_size))
        except FileNotFoundError:
            continue
    return tuple(found)


def _path(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number:08d}.log")


class Appender:
    """Appends to one stream; holds one descriptor between writes."""

    def __init__(self, folder: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._descriptor: int | None = None

    def append(self, events: Sequence[Event]) -> None:
        """FileNotFoundError when the stream's folder is gone, OSError when the disk is full."""
        lines = [msgspec.json.encode(event) + b"\n" for event in events]
        burst: list[bytes] = []
        size = 0
        for line in lines:
            if burst and size + len(line) > _BURST:
                self._write(b"".join(burst))
                burst, size = [], 0
            burst.append(line)
            size += len(line)
        if burst:
            self._write(b"".join(burst))

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, data: bytes) -> None:
        descriptor = self._current()
        if os.write(descriptor, data) < len(data):
            self.close()  # whoever opens the file next ends the torn line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _current(self) -> int:
        if self._descriptor is not None:
            state = os.fstat(self._descriptor)
            if state.st_nlink and state.st_size < self._segment_bytes:
                return self._descriptor
            self.close()
        number = max(segments(self._folder), default=1)
        while True:
            descriptor = os.open(_path(self._folder, number), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            size = os.fstat(descriptor).st_size
            if size < self._segment_bytes:
                break
            os.close(descriptor)
            number += 1
        self._descriptor = descriptor
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        drop(self._folder, number - _KEPT)
        return descriptor


def drop(folder: str, last: int) -> None:
    """Delete the files up to and with number `last`."""
    for number in segments(folder):
        if number <= last:
            _unlink(_path(folder, number))


def drop_before(folder: str, moment: float) -> None:
    """Delete the files that were last written before `moment` (epoch seconds)."""
    for number in segments(folder):
        path = _path(folder, number)
        try:
            if os.stat(path).st_mtime < moment:
                _unlink(path)
        except FileNotFoundError:
            continue


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def forward(folder: str, start: Position | None = None) -> Iterator[Placed]:
    """Events from `start` (None: the oldest there is) in the order written. What cannot be read as an event is passed over."""
    for number in segments(folder):
        if start is not None and number < start.segment:
            continue
        offset = start.offset if start is not None and number == start.segment else 0
        try:
            file = open(_path(folder, number), "rb")  # noqa: SIM115 - a file that was rotated away is no error
        except FileNotFoundError:
            continue
        with file:
            yield from _forward(file, number, offset)


def _forward(file: BinaryIO, number: int, offset: int) -> Iterator[Placed]:
    file.seek(offset)
    for line in file:
        if not line.endswith(b"\n"):
            return  # still being written
        after = offset + len(line)
        event = _decode(line)
        if event is not None:
            yield Placed(event, Position(number, offset), Position(number, after))
        offset = after


def backward(folder: str, end: Position | None = None) -> Iterator[Placed]:
    """Events before `end` (None: the newest there is), the latest first."""
    for number in reversed(segments(folder)):
        if end is not None and number > end.segment:
            continue
        limit = end.offset if end is not None and number == end.segment else None
        try:
            file = open(_path(folder, number), "rb")  # noqa: SIM115 - as above
        except FileNotFoundError:
            continue
        with file:
            yield from _backward(file, number, limit)


def _backward(file: BinaryIO, number: int, limit: int | None) -> Iterator[Placed]:
    size = file.seek(0, os.SEEK_END)
    at = size if limit is None else min(limit, size)  # where `rest` begins
    rest = b""
    while at > 0:
        step = min(max(_BLOCK, len(rest)), at)  # doubles for a line longer than a block
        at -= step
        file.seek(at)
        rest = file.read(step) + rest
        lines = _split(rest)
        head = 0 if at == 0 else 1  # the first may have begun before `at`
        offset = at + len(rest)
        for line in reversed(lines[head:]):
            offset -= len(line)
            event = _decode(line) if line.endswith(b"\n") else None
            if event is not None:
                yield Placed(event, Position(number, offset), Position(number, offset + len(line)))
        rest = lines[0] if head else b""


def _split(data: bytes) -> list[bytes]:
    """Lines by `\\n` alone, ends kept."""
    parts = [part + b"\n" for part in data.split(b"\n")]
    parts[-1] = parts[-1][:-1]
    return parts if parts[-1] else parts[:-1]


def seek(folder: str, ingestion: int) -> Position | None:
    """A position with no event after it left out that was ingested at `ingestion` (milliseconds) or later; None: the oldest.

    Halves the newest file that begins before, so that looking at the last seconds of a long log is cheap.
    """
    for number in reversed(segments(folder)):
        try:
            file = open(_path(folder, number), "rb")  # noqa: SIM115 - as above
        except FileNotFoundError:
            continue
        with file:
            first = _decode(file.readline())
            if first is not None and first.ingestion < ingestion:
                return Position(number, _halve(file, ingestion))
    return None


def _halve(file: BinaryIO, ingestion: int) -> int:
    """Start of a line that was ingested earlier, at most a block before the first that was not."""
    low, high = 0, file.seek(0, os.SEEK_END)
    while high - low > _BLOCK:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        at = file.tell()
        event = _decode(file.readline())
        if at < high and event is not None and event.ingestion < ingestion:
            low = at
        else:
            high = middle
    return low


def end_of(folder: str) -> Position:
    """After the newest event."""
    for placed in backward(folder):
        return placed.after
    return Position(max(segments(folder), default=1), 0)


def _decode(line: bytes) -> Event | None:
    try:
        return msgspec.json.decode(line, type=Event)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
