"""A keyed work queue: each key is looked at by one task at a time, keys beside one another, failures later and later.

Wakes are hints and may be repeated or lost: a resync finds what they missed. Times are the event loop's, so that tests can
run on a virtual clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from slipway.background import Background

logger = logging.getLogger(__name__)

Reconcile = Callable[[str, str], Awaitable[float | None]]
"""Look at (kind, key), do the next step, and say in how many seconds to look again; None: when woken. Raising means backoff."""


@dataclass(slots=True)
class _Entry:
    running: bool = False
    again: bool = False
    """It was woken while it ran."""
    failures: int = 0
    timer: asyncio.TimerHandle | None = None


class Reconciler:
    """Start it with `start`; `wake` may be called before and from anywhere in the loop."""

    def __init__(
        self,
        reconcile: Reconcile,
        resync: Callable[[], Awaitable[Iterable[tuple[str, str]]]],
        *,
        resync_seconds: float = 30.0,
        backoff: tuple[float, float] = (0.1, 10.0),
        parallel: int = 32,
    ) -> None:
        """`resync` names everything that there is; `backoff` is the first and the longest wait after failures, in seconds."""
        self._reconcile = reconcile
        self._resync = resync
        self._resync_seconds = resync_seconds
        self._backoff = backoff
        self._slots = asyncio.Semaphore(parallel)
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._background = Background()
        self._closed = False

    def start(self) -> None:
        """Begin to resync: the first one, at once, is what startup and recovery have in common."""
        self._background.spawn(self._resyncing())

    async def stop(self) -> None:
        """Cancel what runs; nothing is woken any more."""
        self._closed = True
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        await self._background.close()

    def wake(self, kind: str, key: str) -> None:
        """Have it looked at soon. Any number of wakes before that are one."""
        if self._closed:
            return
        entry = self._entries.setdefault((kind, key), _Entry())
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.running:
            entry.again = True
        else:
            entry.running = True
            self._background.spawn(self._run(kind, key, entry))

    async def _run(self, kind: str, key: str, entry: _Entry) -> None:
        while True:
            entry.again = False
            wait = await self._look(kind, key, entry)
            if not entry.again:
                break
        entry.running = False
        if wait is not None:
            loop = asyncio.get_running_loop()
            entry.timer = loop.call_later(wait, self.wake, kind, key)
        elif entry.failures == 0:
            del self._entries[kind, key]

    async def _look(self, kind: str, key: str, entry: _Entry) -> float | None:
        async with self._slots:
            try:
                wait = await self._reconcile(kind, key)
            except Exception:
                logger.exception("reconcile-failed", extra={"kind": kind, "key": key, "failures": entry.failures + 1})
                entry.failures += 1
                first, longest = self._backoff
                return min(first * 2.0 ** min(entry.failures - 1, 20), longest)
        entry.failures = 0
        return wait

    async def _resyncing(self) -> None:
        while True:
            try:
                for kind, key in await self._resync():
                    # What waits after a failure keeps its backoff: a resync is no reason to hurry.
                    entry = self._entries.get((kind, key))
                    if entry is None or entry.failures == 0:
                        self.wake(kind, key)
            except Exception:
                logger.exception("resync-failed")
            await asyncio.sleep(self._resync_seconds)
