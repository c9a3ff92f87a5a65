"""Pages of log events: of one stream in the order written, and of many by timestamp; and their page tokens."""

from __future__ import annotations

import base64
import binascii
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from slipway.backing.log_files import Event, Placed, Position, backward, end_of, forward, seek

PAGE_BYTES = 1024 * 1024
"""A page holds no more than this, counted as AWS does: the message's bytes and 26 for each event."""

AHEAD = "ahead"
"""A file beside a stream's events: some of them are stamped later than they were ingested."""

AHEAD_MILLISECONDS = 2 * 3600 * 1000
"""By so much at most (PutLogEvents refuses more)."""

Order = tuple[int, str, int, int]
"""Timestamp, stream, position: a total order of a group's events."""

_OVERHEAD = 26
_TOKEN = re.compile(r"([fb])/([0-9]{16})([0-9]{40})")


class BadToken(ValueError):
    """A page token that we did not give."""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order written, and the tokens of the pages after and before; at the end a token leads to itself."""

    events: list[Event]
    forward: str
    backward: str


class FilteredEvent(NamedTuple):
    stream: str
    event: Event
    position: Position

    @property
    def id(self) -> str:
        """56 digits, as AWS's: timestamp, stream, place; the same whenever it is read."""
        checksum = zlib.crc32(self.stream.encode(errors="surrogatepass"))
        return f"{self.event.timestamp:016d}{checksum:010d}{self.position.segment:012d}{self.position.offset:018d}"

    @property
    def order(self) -> Order:
        return (self.event.timestamp, self.stream, *self.position)


@dataclass(frozen=True, slots=True)
class FilteredPage:
    events: list[FilteredEvent]
    token: str | None


def cost(message: str) -> int:
    """What an event counts for, in a page and in a PutLogEvents batch."""
    return len(message.encode(errors="surrogatepass")) + _OVERHEAD


def read_page(folder: str, *, token: str | None, from_head: bool, start: int | None, end: int | None, limit: int) -> EventPage:
    """See `Logs.get`. Raises BadToken."""
    at: Position | None = None
    ahead = from_head
    if token is not None:
        ahead, at = _read_token(token)
    source = forward(folder, at) if ahead else backward(folder, at)
    page = list(_page(source, start, end, limit))
    if not ahead:
        page.reverse()
    if page:
        return EventPage([placed.event for placed in page], _token("f", page[-1].after), _token("b", page[0].before))
    here = at or (Position(1, 0) if ahead else end_of(folder))
    return EventPage([], _token("f", here), _token("b", here))


def _page(source: Iterator[Placed], start: int | None, end: int | None, limit: int) -> Iterator[Placed]:
    size = 0
    for placed in source:
        timestamp = placed.event.timestamp
        if (start is not None and timestamp < start) or (end is not None and timestamp >= end):
            continue
        size += cost(placed.event.message)
        if limit == 0 or (size > PAGE_BYTES and size > cost(placed.event.message)):
            return
        yield placed
        limit -= 1


def _token(direction: str, at: Position) -> str:
    return f"{direction}/{at.segment:016d}{at.offset:040d}"


def _read_token(token: str) -> tuple[bool, Position]:
    match = _TOKEN.fullmatch(token)
    if match is None or int(match[3]) >= 2**62:
        raise BadToken(token)
    return match[1] == "f", Position(int(match[2]), int(match[3]))


def filter_streams(
    folders: Mapping[str, str],
    matches: Callable[[str], bool],
    *,
    start: int | None,
    end: int | None,
    token: str | None,
    limit: int,
    descending: bool,
) -> FilteredPage:
    """See `Logs.filter`; `folders`: by stream name. Holds at most two pages in memory. Raises BadToken."""
    after: Order | None = None
    if token is not None:
        descending, after = _read_order(token)
    page = _FirstOnes(limit, descending)
    earliest = start if after is None or descending else max(start or 0, after[0])
    for stream, folder in folders.items():
        for placed in forward(folder, _begin(folder, earliest)):
            timestamp = placed.event.timestamp
            if (start is not None and timestamp < start) or (end is not None and timestamp > end):
                continue
            event = FilteredEvent(stream, placed.event, placed.before)
            if after is not None and (event.order >= after if descending else event.order <= after):
                continue
            if matches(placed.event.message):
                page.add(event)
    events, more = page.result()
    return FilteredPage(events, _write_order(descending, events[-1].order) if more else None)


def _begin(folder: str, earliest: int | None) -> Position | None:
    """Where to begin to read for events stamped `earliest` or later: an event is stamped when it is ingested, or before.

    (In a stream marked as ahead, up to two hours after. A minute more forgives a clock that was set back.)
    """
    if earliest is None:
        return None
    ahead = AHEAD_MILLISECONDS if os.path.exists(os.path.join(folder, AHEAD)) else 0
    return seek(folder, earliest - ahead - 60_000)


class _FirstOnes:
    """Keeps the first events of an order, as many as fit on a page, out of any number that are added in any order."""

    def __init__(self, limit: int, descending: bool) -> None:
        self._limit = limit
        self._descending = descending
        self._events: list[FilteredEvent] = []
        self._size = 0
        self._beyond: Order | None = None

    def add(self, event: FilteredEvent) -> None:
        if self._beyond is not None and (event.order <= self._beyond if self._descending else event.order >= self._beyond):
            return
        self._events.append(event)
        self._size += cost(event.event.message)
        if len(self._events) > 2 * self._limit or self._size > 2 * PAGE_BYTES:
            self._cut()

    def result(self) -> tuple[list[FilteredEvent], bool]:
        """The page, and whether there was more."""
        self._cut()
        return self._events, self._beyond is not None

    def _cut(self) -> None:
        self._events.sort(key=lambda event: event.order, reverse=self._descending)
        self._size = 0
        for index, event in enumerate(self._events):
            size = cost(event.event.message)
            if index >= self._limit or (self._size + size > PAGE_BYTES and index > 0):
                self._beyond = event.order
                del self._events[index:]
                return
            self._size += size


def _write_order(descending: bool, order: Order) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((descending, order))).decode()


def _read_order(token: str) -> tuple[bool, Order]:
    try:
        return msgspec.json.decode(base64.b64decode(token, altchars=b"-_", validate=True), type=tuple[bool, Order])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadToken(token) from error
