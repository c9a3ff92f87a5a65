"""Requests that nobody waits for any more: a worker that goes on with one is condemned, never one that has gone on to the next.

A worker that is at a request hears nothing. Its client tells the parent instead, naming the request; the worker may have it
still before it, be at it, or be through with it. Of requests that run together all must be unwanted.
"""

from __future__ import annotations

import math

from .slots import MEMBERS_MOST, Slots

MOST = 2 * MEMBERS_MOST
"""Names remembered for each worker: more than a client sends ahead."""


class Unwanted:
    """`grace`: seconds for which a worker may go on, from when it is first seen at such a request."""

    def __init__(self, slots: Slots, grace: float) -> None:
        self._slots = slots
        self._grace = grace
        self._names: dict[int, dict[int, None]] = {}
        """By worker; oldest first."""
        self._seen: dict[int, tuple[int, float]] = {}
        """By worker: at which, since when (monotonic)."""

    def add(self, worker: int, name: int) -> None:
        """From now on nobody waits for this request of this worker. 0 names none."""
        if not 0 <= worker < self._slots.count or not name:
            return
        names = self._names.setdefault(worker, {})
        names[name] = None
        if len(names) > MOST:
            del names[next(iter(names))]

    def look(self, now: float) -> float:
        """Condemns what is due; seconds until this is worth calling again, infinite where a look now and then will do."""
        wait = math.inf
        for worker, names in self._names.items():
            running = self._slots.running(worker)
            if not running or not all(name in names for name in self._slots.together(worker)):
                self._seen.pop(worker, None)
                continue
            name, since = self._seen.get(worker, (0, now))
            if name != running:
                self._seen[worker] = (running, now)
                since = now
            left = since + self._grace - now
            if left <= 0:
                self._slots.condemn(worker, running)
            else:
                wait = min(wait, left)
        return wait
