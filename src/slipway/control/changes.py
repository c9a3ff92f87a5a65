"""Who waits for a resource to change, and is told: what lets a Describe hold its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """In memory, one control's own: everything that changes a resource's status tells `happened`."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], set[asyncio.Future[None]]] = {}
        self._listeners: list[Callable[[str, str], None]] = []

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Have `listener(kind, key)` called at every change; it wakes somebody and returns."""
        self._listeners.append(listener)

    def happened(self, kind: str, key: str) -> None:
        for listener in self._listeners:
            listener(kind, key)
        for waiter in self._waiting.pop((kind, key), ()):
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, kind: str, key: str, seconds: float) -> None:
        """Until the next change of (kind, key), or so many seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((kind, key), set()).add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            waiters = self._waiting.get((kind, key))
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[kind, key]
