"""Log groups and streams: append-only files, written by keepers and by PutLogEvents, read by the logs service.

`<directory>/<account>/<region>/<group>/about.json`, `…/<group>/s/<stream>/about.json` and beside it the stream's numbered
files (`log_files`). Everything is a plain blocking call on local files; a service calls it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from slipway.backing import log_files
from slipway.backing.log_files import Appender, Event
from slipway.backing.log_reader import AHEAD, EventPage, FilteredPage, filter_streams, read_page
from slipway.backing.log_writer import LogWriter

A = TypeVar("A")


class NoGroup(Exception):
    """There is no log group of that name."""


class NoStream(Exception):
    """There is no log stream of that name in the group."""


class AlreadyExists(Exception):
    """The group or stream is there already."""


class Group(msgspec.Struct, frozen=True):
    name: str
    created: int
    """Epoch milliseconds."""
    retention_days: int | None = None


class Stream(msgspec.Struct, frozen=True):
    name: str
    created: int
    """Epoch milliseconds, as all times here."""
    first_event: int | None = None
    last_event: int | None = None
    last_ingestion: int | None = None


class Logs:
    """Log groups of all accounts and regions, under one directory. Any number of processes may use it at once."""

    def __init__(
        self, directory: str, *, now: Callable[[], float] = time.time, segment_bytes: int = log_files.SEGMENT_BYTES
    ) -> None:
        """`now`: epoch seconds. `segment_bytes`: half of what one stream may take on disk; older events go."""
        self._directory = directory
        self._now = now
        self._segment_bytes = segment_bytes

    # Groups

    def create_group(self, account: str, region: str, name: str) -> None:
        """Raises AlreadyExists."""
        self._create(self._group(account, region, name), Group(name, self._stamp()))

    def delete_group(self, account: str, region: str, name: str) -> None:
        """With all its streams. Raises NoGroup."""
        self.group(account, region, name)
        self._delete(self._group(account, region, name))

    def group(self, account: str, region: str, name: str) -> Group:
        """Raises NoGroup."""
        found = _about(self._group(account, region, name), Group)
        if found is None:
            raise NoGroup(name)
        return found

    def groups(self, account: str, region: str) -> list[Group]:
        """By name."""
        return sorted(_abouts(self._place(account, region), Group), key=lambda group: group.name)

    def stored_bytes(self, account: str, region: str, name: str) -> int:
        folder = os.path.join(self._group(account, region, name), "s")
        return sum(size for stream in _folders(folder) for _, size in log_files.sizes(stream))

    def set_retention(self, account: str, region: str, name: str, days: int | None) -> None:
        """None: for ever. Older events are hidden at once and deleted by `expire`. Raises NoGroup."""
        group = self.group(account, region, name)
        folder = self._group(account, region, name)
        try:
            _write_about(folder, msgspec.structs.replace(group, retention_days=days))
        except FileNotFoundError:
            raise NoGroup(name) from None

    def expire(self) -> None:
        """Delete the files that hold only events older than their group's retention; to be called now and then."""
        for account in _folders(self._directory):
            for region in _folders(account):
                for folder in _folders(region):
                    group = _about(folder, Group)
                    if group is None or group.retention_days is None:
                        continue
                    for stream in _folders(os.path.join(folder, "s")):
                        log_files.drop_before(stream, self._now() - group.retention_days * 86400)

    # Streams

    def create_stream(self, account: str, region: str, group: str, name: str) -> None:
        """Raises NoGroup, AlreadyExists."""
        self.group(account, region, group)
        self._create(self._stream(account, region, group, name), Stream(name, self._stamp()))

    def delete_stream(self, account: str, region: str, group: str, name: str) -> None:
        """Raises NoGroup, NoStream."""
        self.stream(account, region, group, name)
        self._delete(self._stream(account, region, group, name))

    def stream(self, account: str, region: str, group: str, name: str) -> Stream:
        """With its times. Raises NoGroup, NoStream."""
        self.group(account, region, group)
        folder = self._stream(account, region, group, name)
        found = _about(folder, Stream)
        if found is None:
            raise NoStream(name)
        return _timed(folder, found)

    def streams(self, account: str, region: str, group: str, *, prefix: str = "", timed: bool = True) -> list[Stream]:
        """By name; `timed` reads each stream's first and last event as well. Raises NoGroup."""
        self.group(account, region, group)
        folder = os.path.join(self._group(account, region, group), "s")
        found = [stream for stream in _abouts(folder, Stream) if stream.name.startswith(prefix)]
        if timed:
            found = [_timed(self._stream(account, region, group, stream.name), stream) for stream in found]
        return sorted(found, key=lambda stream: stream.name)

    def timed(self, account: str, region: str, group: str, stream: Stream) -> Stream:
        """The stream with the times of its first and last event."""
        return _timed(self._stream(account, region, group, stream.name), stream)

    # Events

    def writer(self, account: str, region: str, group: str, stream: str) -> LogWriter:
        """For a keeper: makes group and stream, and again if they are deleted while the replica lives. Raises OSError."""

        def ensure() -> None:
            with contextlib.suppress(AlreadyExists):
                self.create_group(account, region, group)
            with contextlib.suppress(AlreadyExists):
                self.create_stream(account, region, group, stream)

        ensure()
        folder = self._stream(account, region, group, stream)
        return LogWriter(Appender(folder, self._segment_bytes), ensure, self._now)

    def append(self, account: str, region: str, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Events as (milliseconds, message), none more than two hours ahead. Raises NoGroup, NoStream, OSError."""
        self.group(account, region, group)
        ingestion = self._stamp()
        folder = self._stream(account, region, group, stream)
        if _about(folder, Stream) is None:
            raise NoStream(stream)
        appender = Appender(folder, self._segment_bytes)
        try:
            if any(timestamp > ingestion for timestamp, _ in events):
                with open(os.path.join(folder, AHEAD), "ab"):
                    pass
            appender.append([Event(timestamp, ingestion, message) for timestamp, message in events])
        except FileNotFoundError:
            raise NoStream(stream) from None
        finally:
            appender.close()

    def get(
        self,
        account: str,
        region: str,
        group: str,
        stream: str,
        *,
        token: str | None = None,
        from_head: bool = False,
        start: int | None = None,
        end: int | None = None,
        limit: int = 10_000,
    ) -> EventPage:
        """A page of one stream in the order written: after or before `token`, else the first (`from_head`) or the last.

        `start` ≤ timestamp < `end`, milliseconds. Raises NoGroup, NoStream, BadToken.
        """
        start = self._visible(self.group(account, region, group), start)
        folder = self._stream(account, region, group, stream)
        if _about(folder, Stream) is None:
            raise NoStream(stream)
        return read_page(folder, token=token, from_head=from_head, start=start, end=end, limit=limit)

    def filter(
        self,
        account: str,
        region: str,
        group: str,
        *,
        names: Sequence[str] | None = None,
        prefix: str = "",
        matches: Callable[[str], bool] = bool,
        start: int | None = None,
        end: int | None = None,
        token: str | None = None,
        limit: int = 10_000,
        descending: bool = False,
    ) -> FilteredPage:
        """A page of matching events of all streams (or of `names`), by timestamp; `start` ≤ timestamp ≤ `end`.

        A token goes on in the direction it came from.

        Raises NoGroup, NoStream, BadToken.
        """
        start = self._visible(self.group(account, region, group), start)
        if names is None:
            names = [stream.name for stream in self.streams(account, region, group, prefix=prefix, timed=False)]
        folders = {name: self._stream(account, region, group, name) for name in sorted(names)}
        for name, folder in folders.items():
            if _about(folder, Stream) is None:
                raise NoStream(name)
        return filter_streams(folders, matches, start=start, end=end, token=token, limit=limit, descending=descending)

    # Folders

    def _stamp(self) -> int:
        return int(self._now() * 1000)

    def _visible(self, group: Group, start: int | None) -> int | None:
        """The earliest timestamp that may be shown."""
        if group.retention_days is None:
            return start
        oldest = self._stamp() - group.retention_days * 86_400_000
        return oldest if start is None else max(start, oldest)

    def _place(self, account: str, region: str) -> str:
        return os.path.join(self._directory, log_files.folder_name(account), log_files.folder_name(region))

    def _group(self, account: str, region: str, name: str) -> str:
        return os.path.join(self._place(account, region), log_files.folder_name(name))

    def _stream(self, account: str, region: str, group: str, name: str) -> str:
        return os.path.join(self._group(account, region, group), "s", log_files.folder_name(name))

    def _create(self, folder: str, about: Group | Stream) -> None:
        """Appears whole, or raises AlreadyExists: made beside its place, then renamed into it."""
        parent = os.path.dirname(folder)
        os.makedirs(parent, mode=0o700, exist_ok=True)
        fresh = os.path.join(parent, f".new-{secrets.token_hex(8)}")
        os.mkdir(fresh, 0o700)
        try:
            _write_about(fresh, about)
            os.rename(fresh, folder)  # refuses a folder that is not empty, and ours never are
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if os.path.isdir(folder):
                raise AlreadyExists(about.name) from error
            raise

    def _delete(self, folder: str) -> None:
        """Gone at once, whoever still writes there."""
        gone = os.path.join(os.path.dirname(folder), f".old-{secrets.token_hex(8)}")
        try:
            os.rename(folder, gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)


def _write_about(folder: str, about: Group | Stream) -> None:
    path = os.path.join(folder, "about.json")
    fresh = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(about))
    os.replace(fresh, path)


def _about(folder: str, kind: type[A]) -> A | None:
    try:
        with open(os.path.join(folder, "about.json"), "rb") as file:
            return msgspec.json.decode(file.read(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return None


def _abouts(folder: str, kind: type[A]) -> list[A]:
    return [about for about in (_about(path, kind) for path in _folders(folder)) if about is not None]


def _folders(folder: str) -> list[str]:
    """Paths of the folders within; dotted ones are on their way in or out."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _timed(folder: str, stream: Stream) -> Stream:
    first = next(log_files.forward(folder), None)
    last = next(log_files.backward(folder), None)
    if first is None or last is None:
        return stream
    return msgspec.structs.replace(
        stream, first_event=first.event.timestamp, last_event=last.event.timestamp, last_ingestion=last.event.ingestion
    )
