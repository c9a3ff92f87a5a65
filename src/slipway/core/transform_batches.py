"""From the bytes of an object to requests: records put together up to the payload limit, or one by one; and back again.

`feed` what arrives, take what `ready` gives, `finish` at the end. What is held is bounded by the payload limit and one piece,
whatever the object's size: a record that is too large is passed over as it comes, and told as a Bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slipway.core.transform_joins import BadRecord
from slipway.core.transform_records import Broken, Framing, Lines, Whole

OWN = 8 * 1024 * 1024
"""Bytes of a request from which on the buffer itself becomes the request: nothing so large is there twice."""
SAMPLE = 1024
"""Bytes of a bad record that are kept to show it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: `count` records from number `first` on, `start` to `end` in the object (unpacked)."""

    payload: bytes | bytearray
    """Not changed any more."""
    count: int
    first: int
    start: int
    end: int
    records: Sequence[bytes] = ()
    """As they lie in the object; only where they are needed one by one."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be sent."""

    first: int
    start: int
    end: int
    """Where the next record begins, as far as it is known."""
    cause: str
    sample: bytes


class Batcher:
    """`limit`: bytes of a request. `single`: one record each, without its framing. `request`: what is sent of a record
    (raises BadRecord); records are then joined by newlines. `keep`: give the records with each batch."""

    def __init__(
        self,
        framing: Framing,
        limit: int,
        *,
        single: bool = False,
        request: Callable[[bytes], bytes] | None = None,
        keep: bool = False,
        start: int = 0,
        first: int = 0,
    ) -> None:
        self._framing = framing
        self._limit = limit
        self._single = single
        self._request = request
        self._keep = keep or request is not None
        self._buffer = bytearray()
        self._at = 0
        """Where the first record that was not taken begins in the buffer."""
        self._start = start
        """Of that record, in the object."""
        self._first = first
        self._skip = 0
        """Bytes of a record that is passed over; -1: up to the next newline."""
        self._pending: list[bytes] = []
        self._pending_records: list[bytes] = []
        self._pending_size = 0
        self._pending_start = start
        self._pending_first = first
        self._lines = isinstance(framing, Lines) and not single and not self._keep
        self._raw_limit = limit if request is None else max(limit, 100 << 20)

    @property
    def held(self) -> int:
        return len(self._buffer) - self._at

    def feed(self, piece: bytes) -> None:
        if self._skip:
            piece = self._skipped(piece)
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += piece

    def _skipped(self, piece: bytes) -> bytes:
        if self._skip < 0:
            cut = piece.find(b"\n") + 1
            if not cut:
                self._start += len(piece)
                return b""
        else:
            cut = min(self._skip, len(piece))
            self._skip -= cut
            self._start += cut
            self._pending_start = self._start
            return piece[cut:]
        self._skip = 0
        self._start += cut
        self._pending_start = self._start
        return piece[cut:]

    def ready(self) -> Iterator[Batch | Bad]:
        """What can be sent already. Raises Broken."""
        yield from self._fast(False) if self._lines else self._slow(False)

    def finish(self) -> Iterator[Batch | Bad]:
        """The rest. Raises Broken."""
        yield from self._fast(True) if self._lines else self._slow(True)
        if self._pending:
            yield self._flush()

    # ---- many lines at a time

    def _fast(self, final: bool) -> Iterator[Batch | Bad]:
        limit = self._limit
        while len(self._buffer) - self._at > limit:
            buffer = self._buffer
            cut = buffer.rfind(b"\n", self._at, self._at + limit) + 1
            if cut > self._at:
                yield self._lines_to(cut)
                continue
            yield self._too_large(self._framing.frame(buffer, self._at, final))
            if self._skip:
                return
        if final and len(self._buffer) > self._at:
            yield self._lines_to(len(self._buffer))

    def _lines_to(self, cut: int) -> Batch:
        payload = self._taken(cut)
        count = payload.count(b"\n") + (not payload.endswith(b"\n"))
        batch = Batch(payload, count, self._first, self._start, self._start + len(payload))
        self._first, self._start = self._first + count, batch.end
        return batch

    def _taken(self, cut: int) -> bytes | bytearray:
        """What is in the buffer up to there."""
        if cut - self._at < OWN:
            payload = bytes(memoryview(self._buffer)[self._at : cut])
            self._at = cut
            return payload
        whole, self._buffer = self._buffer, self._buffer[cut:]
        del whole[cut:]
        del whole[: self._at]
        self._at = 0
        return whole

    # ---- record by record

    def _slow(self, final: bool) -> Iterator[Batch | Bad]:
        buffer = self._buffer
        while self._at < len(buffer):
            frame = self._framing.frame(buffer, self._at, final)
            if frame.end - self._at > self._raw_limit:
                if self._pending:
                    yield self._flush()
                yield self._too_large(frame)
                if self._skip:
                    return
                continue
            if not frame.whole:
                return
            yield from self._take(bytes(memoryview(buffer)[self._at : frame.end]))

    def _take(self, record: bytes) -> Iterator[Batch | Bad]:
        number, start = self._first, self._start
        end = start + len(record)
        cause = ""
        try:
            sent = self._sent(record)
        except BadRecord as error:
            sent, cause = b"", str(error)
        size = len(sent) + (self._request is not None)
        if not cause and size > self._limit:
            cause = too_large(self._limit)
        if (cause or self._single or (self._pending and self._pending_size + size > self._limit)) and self._pending:
            yield self._flush()
        self._at += len(record)
        self._first, self._start = number + 1, end
        if cause:
            self._pending_first, self._pending_start = self._first, end
            yield Bad(number, start, end, cause, record[:SAMPLE])
            return
        self._pending.append(sent)
        if self._keep:
            self._pending_records.append(record)
        self._pending_size += size
        if self._single:
            yield self._flush()

    def _sent(self, record: bytes) -> bytes:
        if self._request is not None:
            return self._request(stripped(record))
        return self._framing.content(record) if self._single else record

    def _flush(self) -> Batch:
        joined = self._request is not None and not self._single and not isinstance(self._framing, Whole)
        payload = b"\n".join(self._pending) + b"\n" if joined else b"".join(self._pending)
        count = len(self._pending)
        batch = Batch(payload, count, self._pending_first, self._pending_start, self._start, tuple(self._pending_records))
        self._pending, self._pending_records, self._pending_size = [], [], 0
        self._pending_first, self._pending_start = self._first, self._start
        return batch

    def _too_large(self, frame: tuple[int, bool]) -> Bad:
        """Pass over the record at hand, and what of it has not come yet."""
        end, whole = frame
        have = len(self._buffer)
        sample = bytes(self._buffer[self._at : self._at + SAMPLE])
        bad = Bad(self._first, self._start, self._start + end - self._at, too_large(self._limit), sample)
        taken = min(end, have)
        self._start += taken - self._at
        self._at = taken
        self._first += 1
        if not whole:
            self._skip = -1 if isinstance(self._framing, Lines) else end - have
            if isinstance(self._framing, Whole):
                self._skip = 1 << 62
        self._pending_first, self._pending_start = self._first, self._start
        return bad


def too_large(limit: int) -> str:
    """The text of the SDK's local mode."""
    return f"Record is larger than {limit / (1 << 20):g}MB. Please increase your max_payload"


def stripped(record: bytes) -> bytes:
    """A line without its end."""
    if record.endswith(b"\n"):
        record = record[:-1]
    return record[:-1] if record.endswith(b"\r") else record


def parted(framing: Framing, payload: bytes | bytearray) -> list[bytes]:
    """The records of a batch's payload, framing and all. Raises Broken."""
    buffer, at = payload if isinstance(payload, bytearray) else bytearray(payload), 0
    found: list[bytes] = []
    while at < len(buffer):
        frame = framing.frame(buffer, at, True)
        found.append(bytes(memoryview(buffer)[at : frame.end]))
        at = frame.end
    return found


def assembled(results: Sequence[bytes], lines: bool) -> Iterator[bytes]:
    """An object's output from the results in their order: AssembleWith Line ends each with exactly one newline."""
    for result in results:
        yield result
        if lines and result and not result.endswith(b"\n"):
            yield b"\n"


__all__ = ["Bad", "Batch", "Batcher", "Broken", "assembled", "parted", "stripped", "too_large"]
