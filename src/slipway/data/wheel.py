"""Timeouts for very many short calls: one set per tick, so that a call costs two set operations and no timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Wheel(Generic[T]):
    """Everything in `current` fires `seconds` (at most a tick more) after it was added, unless discarded before.

    To add: `bucket = wheel.current; bucket.add(item)`; to discard: `bucket.discard(item)`.
    """

    def __init__(self, seconds: float, fire: Callable[[T], None]) -> None:
        self.seconds = seconds
        self.current: set[T] = set()
        self._fire = fire
        self._tick = min(0.25, seconds / 8)
        self._buckets: deque[tuple[float, set[T]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._turn)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = loop.call_later(self._tick, self._turn)
        if self.current:
            self._buckets.append((now + self.seconds, self.current))
            self.current = set()
        while self._buckets and self._buckets[0][0] <= now:
            for item in tuple(self._buckets.popleft()[1]):
                self._fire(item)
