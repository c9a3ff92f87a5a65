"""A replica's output into its log stream: bytes of a pipe become lines, lines become events, and no model can fill the disk."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from slipway.backing.log_files import Appender, Event

LINE_BYTES = 256 * 1024
"""A longer line becomes several events."""

RATE_BYTES = 4 * 1024 * 1024
"""Bytes per second that one stream may take for long."""

BURST_BYTES = 32 * 1024 * 1024
"""Bytes that it may take at once."""

_TAIL_LINES = 50
_TAIL_CHARACTERS = 2000

logger = logging.getLogger(__name__)


class LogWriter:
    """Appends lines to one stream. Never raises: a replica does not die of its log.

    What it writes is in the file when `write` returns (not on the platter: logs are not worth an fsync).
    """

    def __init__(
        self,
        appender: Appender,
        ensure: Callable[[], None],
        now: Callable[[], float],
        *,
        rate_bytes: int = RATE_BYTES,
        burst_bytes: int = BURST_BYTES,
    ) -> None:
        """`ensure` makes the stream where it is missing; use `Logs.writer`."""
        self._appender = appender
        self._ensure = ensure
        self._now = now
        self._rate = rate_bytes
        self._burst = float(burst_bytes)
        self._allowance = self._burst
        self._last = now()
        self._dropped = 0
        self._failing = False
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines, dropped ones too, each cut to 2,000 characters: for a FailureReason."""
        return tuple(self._tail)

    def write(self, lines: Sequence[str]) -> None:
        """One event per line, all at once; empty lines are no events."""
        now = self._now()
        self._allowance = min(self._burst, self._allowance + max(0.0, now - self._last) * self._rate)
        self._last = now
        stamp = int(now * 1000)
        events: list[Event] = []
        for line in lines:
            if not line:
                continue
            self._tail.append(line[:_TAIL_CHARACTERS])
            if self._allowance <= 0:
                self._dropped += 1
                continue
            if self._dropped:
                events.append(Event(stamp, stamp, self._dropped_note()))
                self._dropped = 0
            self._allowance -= len(line)
            events.append(Event(stamp, stamp, line))
        if events:
            self._append(events)

    def pipe(self) -> LinePipe:
        """For the bytes of one pipe: stdout and stderr each have their own."""
        return LinePipe(self.write)

    def close(self) -> None:
        """Writes what there is to say about dropped lines; writing again opens the stream again."""
        if self._dropped:
            stamp = int(self._now() * 1000)
            self._append([Event(stamp, stamp, self._dropped_note())])
            self._dropped = 0
        self._appender.close()

    def _dropped_note(self) -> str:
        return f"slipway: {self._dropped} lines dropped: this container writes more than {self._rate} bytes per second"

    def _append(self, events: Sequence[Event]) -> None:
        try:
            try:
                self._appender.append(events)
            except FileNotFoundError:
                self._ensure()
                self._appender.append(events)
            self._failing = False
        except OSError as error:
            self._appender.close()
            if not self._failing:
                logger.warning("log-write-failed", extra={"error": error.strerror, "lines": len(events)})
            self._failing = True


class LinePipe:
    """Cuts a pipe's bytes into lines of at most 256 KB; what is not UTF-8 becomes replacement characters."""

    def __init__(self, write: Callable[[Sequence[str]], None]) -> None:
        self._write = write
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes as they came; the lines complete by now are written."""
        self._rest += data
        if b"\n" not in data and len(self._rest) <= LINE_BYTES:
            return
        pieces = bytes(self._rest).split(b"\n")
        rest = pieces.pop()
        lines: list[str] = []
        for piece in pieces:
            lines += _cut(piece)
        while len(rest) > LINE_BYTES:
            end = _boundary(rest)
            lines.append(_text(rest[:end]))
            rest = rest[end:]
        self._rest = bytearray(rest)
        if lines:
            self._write(lines)

    def close(self) -> None:
        """The pipe ended: a last line without its end counts."""
        rest, self._rest = bytes(self._rest), bytearray()
        if rest:
            self._write(_cut(rest))


def _cut(line: bytes) -> list[str]:
    found = []
    while len(line) > LINE_BYTES:
        end = _boundary(line)
        found.append(_text(line[:end]))
        line = line[end:]
    found.append(_text(line))
    return found


def _boundary(line: bytes) -> int:
    """Where to cut a long line: not within a character."""
    end = LINE_BYTES
    while end > LINE_BYTES - 4 and line[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode(errors="replace")
