"""The route feed: control publishes whole tables, gateways take them over, acknowledge, and say what still runs on old ones.

A subscriber gets the whole table when it connects, after that what changed between the table it was sent last and the
current one. It is known by its process: one whose link broke still counts until that process is gone, since it goes on
serving from the table it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from slipway.core.routing import Endpoint, Key, RouteTable
from slipway.link.channel import Channel, LinkClosed
from slipway.link.client import Link

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SUBSCRIBE, _CHANGES, _ACKNOWLEDGE = "routes-subscribe", "routes-changes", "routes-acknowledge"
_LOOK = 0.1
"""Seconds between two looks at whether the process of a broken link still lives, while somebody waits for it."""
_ABSENT = 10.0
"""How long a drain waits for dispatchers that have not connected to this control: far more than a living one takes."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    version: int
    """Of the table it has; 0: none."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What turns the table of version `base` into that of `version`."""

    base: int
    version: int
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    endpoints_gone: tuple[str, ...] = ()
    keys: Mapping[str, Key] = field(default_factory=dict)
    keys_gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledge:
    version: int
    busy: tuple[str, ...]
    """Ids of replicas that are in that table no more and still have requests in flight."""


def difference(old: RouteTable, new: RouteTable) -> Changes:
    return Changes(
        old.version,
        new.version,
        *_changed(old.endpoints, new.endpoints),
        *_changed(old.keys, new.keys),
    )


def _changed(old: Mapping[str, T], new: Mapping[str, T]) -> tuple[dict[str, T], tuple[str, ...]]:
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return changed, tuple(key for key in old if key not in new)


def apply_changes(table: RouteTable, changes: Changes) -> RouteTable:
    """The table of `changes.version`; the caller has compared `changes.base`."""
    endpoints = {key: value for key, value in table.endpoints.items() if key not in changes.endpoints_gone}
    keys = {key: value for key, value in table.keys.items() if key not in changes.keys_gone}
    return RouteTable(changes.version, {**endpoints, **changes.endpoints}, {**keys, **changes.keys})


class _Subscriber:
    """A gateway's process as control sees it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.sent: RouteTable | None = None
        self.version = 0
        self.busy: frozenset[str] = frozenset()
        self.dirty = asyncio.Event()
        self.sender: asyncio.Task[None] | None = None


class RouteFeed:
    """Control's end. `attach` each channel of the link server; then publish.

    `expected`: how many gateways there should be: acknowledgements wait for as many to have connected once. `dispatchers`: so
    many subscribers more, without which a new control does not know yet what they still have running.
    """

    def __init__(self, expected: int = 0, alive: Callable[[int], bool] | None = None, *, dispatchers: int = 0) -> None:
        self._expected = expected
        self._all = expected + dispatchers
        self._alive = alive or process_alive
        self._table: RouteTable | None = None
        self._subscribers: dict[int, _Subscriber] = {}
        self._seen = 0
        self._changed = asyncio.Event()

    def attach(self, channel: Channel) -> None:
        """Register the feed's handlers on a new channel, before it reads."""
        channel.on(_SUBSCRIBE, lambda request: self._subscribe(channel, request), Subscribe)
        channel.on(_ACKNOWLEDGE, lambda message: self._acknowledge(channel, message), Acknowledge)

    def publish(self, table: RouteTable) -> None:
        """Make `table` the current one, and send it; its version is greater than that of any before."""
        self._table = table
        for subscriber in self._subscribers.values():
            subscriber.dirty.set()

    async def acknowledged(self, version: int) -> None:
        """Until every live gateway has this version or a later one."""
        await self._until(lambda: all(s.version >= version for s in self._subscribers.values()))

    async def drained(self, replica_ids: Iterable[str]) -> None:
        """Until nobody has requests in flight on these, which are in no table any more."""
        ids = frozenset(replica_ids)
        version = self._table.version if self._table is not None else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABSENT):
                await self._until(lambda: self._seen >= self._all)
        await self._until(lambda: all(s.version >= version and ids.isdisjoint(s.busy) for s in self._subscribers.values()))

    async def close(self) -> None:
        for subscriber in self._subscribers.values():
            if subscriber.sender is not None:
                subscriber.sender.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await subscriber.sender

    async def _until(self, settled: Callable[[], bool]) -> None:
        while True:
            self._bury()
            if self._seen >= self._expected and settled():
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK)

    def _bury(self) -> None:
        """Forget subscribers whose link is closed and whose process is gone."""
        for ident, subscriber in list(self._subscribers.items()):
            if subscriber.channel.closed and not (ident > 0 and self._alive(ident)):
                del self._subscribers[ident]

    def _subscribe(self, channel: Channel, request: Subscribe) -> RouteTable | None:
        ident = channel.peer.pid or -id(channel)
        before = self._subscribers.get(ident)
        if before is not None and before.sender is not None:
            before.sender.cancel()
        subscriber = _Subscriber(channel)
        subscriber.sent = self._table
        if before is not None:
            subscriber.busy = before.busy
        self._subscribers[ident] = subscriber
        self._seen = max(self._seen, len(self._subscribers))
        subscriber.sender = asyncio.get_running_loop().create_task(self._send(subscriber))
        channel.on_close(self._changed.set)
        self._changed.set()
        return self._table

    async def _send(self, subscriber: _Subscriber) -> None:
        """Everything published after the subscription, changes of the meantime in one message."""
        with contextlib.suppress(LinkClosed):
            while not subscriber.channel.closed:
                await subscriber.dirty.wait()
                subscriber.dirty.clear()
                table = self._table
                if table is not None and table is not subscriber.sent:
                    changes = difference(subscriber.sent or RouteTable(0), table)
                    subscriber.sent = table
                    await subscriber.channel.notify(_CHANGES, changes)

    def _acknowledge(self, channel: Channel, message: Acknowledge) -> None:
        for subscriber in self._subscribers.values():
            if subscriber.channel is channel:
                # Before it has taken a table of this control it may still tell of an earlier one's, perhaps of a higher number.
                known = self._table is not None and message.version <= self._table.version
                subscriber.version = message.version if known else 0
                subscriber.busy = frozenset(message.busy)
                self._changed.set()


class RouteSubscriber:
    """A gateway's end: keeps the table, hands each new one to `take`, acknowledges it with what `busy` says then.

    The last table is kept in `file` (mode 0600: it holds secrets), for a start while control is down; None: nowhere.
    """

    def __init__(
        self, link_path: str, file: str | None, take: Callable[[RouteTable], None], busy: Callable[[], Iterable[str]]
    ) -> None:
        self._file = file
        self._take = take
        self._busy = busy
        self._table = RouteTable(0)
        self._told: Acknowledge | None = None
        self._tell = asyncio.Event()
        self._save = asyncio.Event()
        self.first = asyncio.Event()
        """Set once there is a table, of the file or of control."""
        self._tasks: list[asyncio.Task[None]] = []
        self._link = Link(link_path, setup=self._setup, on_connect=self._connected, on_disconnect=self._disconnected)

    @property
    def table(self) -> RouteTable:
        return self._table

    def load(self) -> bool:
        """Take the table of the file, if there is a good one."""
        if self._file is None:
            return False
        try:
            with open(self._file, "rb") as file:
                table = msgspec.json.decode(file.read(), type=RouteTable)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("routes-file-unreadable", extra={"error": str(error)})
            return False
        self._use(table)
        self._save.clear()
        return True

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._telling())]
        if self._file is not None:
            self._tasks.append(loop.create_task(self._saving(self._file)))
        self._link.start()

    async def close(self) -> None:
        await self._link.close()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def busy_changed(self) -> None:
        """What `busy` says may have changed."""
        self._tell.set()

    def _setup(self, channel: Channel) -> None:
        async def changes(message: Changes) -> None:
            await self._change(channel, message)

        channel.on(_CHANGES, changes, Changes)

    async def _connected(self, channel: Channel) -> None:
        await self._refetch(channel)
        self._tell.set()

    def _disconnected(self) -> None:
        self._told = None

    async def _refetch(self, channel: Channel) -> None:
        before = self._table
        table = await channel.request(_SUBSCRIBE, Subscribe(before.version), RouteTable | None, timeout=10.0)
        if table is not None and (self._table is before or table.version > self._table.version):
            self._use(table)

    async def _change(self, channel: Channel, changes: Changes) -> None:
        """Versions of one control grow; those of the next may be lower, if the clock was set back: its first table counts."""
        if changes.base == 0:
            self._use(apply_changes(RouteTable(0), changes))
        elif changes.base == self._table.version:
            self._use(apply_changes(self._table, changes))
        elif changes.version <= self._table.version:
            return
        else:
            await self._refetch(channel)

    def _use(self, table: RouteTable) -> None:
        self._take(table)
        self._table = table
        self.first.set()
        self._tell.set()
        self._save.set()

    async def _telling(self) -> None:
        """Acknowledge, whenever there is something new to say and somebody to tell."""
        while True:
            await self._tell.wait()
            self._tell.clear()
            channel = self._link.channel
            message = Acknowledge(self._table.version, tuple(self._busy()))
            if channel is None:
                await self._link.ready()
                self._tell.set()
            elif message != self._told:
                with contextlib.suppress(LinkClosed):
                    await channel.notify(_ACKNOWLEDGE, message)
                    self._told = message

    async def _saving(self, file: str) -> None:
        while True:
            await self._save.wait()
            self._save.clear()
            try:
                await asyncio.to_thread(_write_private, file, msgspec.json.encode(self._table))
            except OSError as error:
                logger.warning("routes-file-not-written", extra={"error": str(error)})


def _write_private(path: str, data: bytes) -> None:
    """Replace the file whole; it was never readable by others."""
    fresh = f"{path}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    os.replace(fresh, path)


def process_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
