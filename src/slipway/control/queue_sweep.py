"""Takes away what nobody can receive any more: messages past their queue's retention, and those of queues deleted or purged."""

from __future__ import annotations

import logging
from collections.abc import Callable

from slipway.store import queue_messages
from slipway.store.db import Db

logger = logging.getLogger(__name__)

KIND = "queues"
"""Woken with the key "" when a queue was deleted or purged."""
SECONDS = 60.0
"""Between two looks; until then an expired message takes room, though it is not received any more."""


class QueueSweep:
    def __init__(self, db: Db, now: Callable[[], float]) -> None:
        self._db = db
        self._now = now

    async def reconcile(self, _key: str) -> float:
        """In chunks, so that nobody waits long for the writer; seconds until the next look."""
        total = 0
        while swept := await self._db.write(lambda c: queue_messages.sweep(c, self._now())):
            total += swept
            if swept < queue_messages.SWEEP:
                break
        if total:
            logger.info("queues-swept", extra={"messages": total})
        return SECONDS
