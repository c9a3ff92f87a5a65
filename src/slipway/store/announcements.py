"""A signal inside this process after a commit: who waits for a topic hears that something was written, and looks.

`announce(connection, topic)` inside a `Db.write`; once that is committed, every open `Db.watch(topic)` is woken. A call that
fails after announcing wakes for nothing, which costs its watchers a look. Nothing is kept: open the watch, look, then wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from typing import Self

from sqlalchemy import Connection

_KEY = "slipway.announced"


def announce(connection: Connection, topic: str) -> None:
    """Wake the topic's watches when this transaction is committed."""
    connection.info.setdefault(_KEY, set()).add(topic)


def announced(connection: Connection) -> Collection[str]:
    """What was announced on this connection since the last time; for `Db`, after each commit."""
    topics: set[str] = connection.info.pop(_KEY, set())
    return topics


class Watch:
    """A context manager, for one task of the event loop that made it."""

    def __init__(self, announcements: Announcements, topic: str) -> None:
        self.topic = topic
        self._announcements = announcements
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._announcements.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._announcements.remove(self)

    def wake(self) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._announcements.remove(self)

    async def wait(self, seconds: float) -> bool:
        """Until the topic is announced (also when it was since the last wait): True; False after so many seconds."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Announcements:
    """The open watches of one `Db`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[str, set[Watch]] = {}

    def add(self, watch: Watch) -> None:
        with self._lock:
            self._watches.setdefault(watch.topic, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        with self._lock:
            watches = self._watches.get(watch.topic, set())
            watches.discard(watch)
            if not watches:
                self._watches.pop(watch.topic, None)

    def tell(self, topics: Collection[str]) -> None:
        """From any thread."""
        if not topics or not self._watches:
            return
        with self._lock:
            found = [watch for topic in topics for watch in self._watches.get(topic, ())]
        for watch in found:
            watch.wake()
