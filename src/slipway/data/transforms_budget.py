"""How much of all objects' requests an instance's dispatcher holds in memory at a time."""

from __future__ import annotations

import asyncio
from collections import deque

AHEAD = 8
"""Requests that are ready, or wait to be written, beside those at the container."""
LARGE = 16 * 1024 * 1024
"""Bytes that requests may have for one more of them to be put together while as many as may are at the container."""


class Budget:
    """`bytes` and `count` of requests between being put together and their results' being written, over all objects."""

    def __init__(self, most_bytes: int, most_count: int, turns: int = 0) -> None:
        """`turns`: bytes of a request so large that one object at a time puts one together; 0: they are not."""
        self.turn = asyncio.Lock() if turns else None
        self._turns = turns
        self._most_bytes = most_bytes
        self._most_count = most_count
        self._bytes = 0
        self._count = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self, size: int) -> bool:
        """Whether there was room. One request always has."""
        if self._count and (self._count >= self._most_count or self._bytes + size > self._most_bytes):
            return False
        self._bytes += size
        self._count += 1
        return True

    def crowded(self) -> bool:
        """A large request would not find room."""
        return bool(self._count) and self._bytes + self._turns > self._most_bytes

    async def take(self, size: int) -> None:
        while not self.take_now(size):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def give_back(self, size: int) -> None:
        self._bytes -= size
        self._count -= 1
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)


def budget_for(limit: int, concurrent: int) -> Budget:
    """`limit`: bytes of a request."""
    limit = max(limit, 1)
    large = limit > LARGE
    return Budget(limit * concurrent + min(limit, LARGE), concurrent + AHEAD, limit if large else 0)
