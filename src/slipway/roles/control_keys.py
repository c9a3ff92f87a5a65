"""The part of control that is access keys: read from the store, published with the routes, and what URLs are presigned with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from slipway.control.routes import Feed, Routes
from slipway.core.routing import Key
from slipway.services.authenticate import Keys
from slipway.settings import Settings
from slipway.store import keys
from slipway.store.db import Db, StoreError
from slipway.wire import signatures

logger = logging.getLogger(__name__)

KEYS = "keys"
"""For the reconciler; its one key is empty."""
KEYS_SECONDS = 60.0
"""How often keys are read again, should nobody have told of a change."""
KEYS_REACH_SECONDS = 2.0
"""How long the answer with fresh credentials waits for gateways to know them; one that hangs must not hold it up for ever."""


class ControlKeys:
    """`callers` knows them for control's own services."""

    def __init__(
        self, settings: Settings, db: Db, routes: Routes, feed: Feed, wake: Callable[[str, str], None], first: Key
    ) -> None:
        """`first`: the data directory's own."""
        self.callers = Keys(db, time.time)
        self._settings = settings
        self._db = db
        self._routes = routes
        self._feed = feed
        self._wake = wake
        self._live: list[Key] = [first]
        self._reading = asyncio.Lock()

    async def reconcile(self, _key: str) -> float | None:
        await self.publish()
        return KEYS_SECONDS

    async def publish(self) -> int:
        """Read the keys and enter them in the route table, whose version it returns."""
        async with self._reading:  # of two that read at once, the older reading must not be the last word
            self._live = await self._db.read(lambda c: keys.live(c, time.time()))
            return self._routes.set_keys(self._live)

    async def changed(self) -> None:
        """Fresh credentials are good at once: whoever gets them may use them before the answer is cold."""
        self.callers.forget()
        try:
            async with asyncio.timeout(KEYS_REACH_SECONDS):
                await self._feed.acknowledged(await self.publish())
        except (TimeoutError, StoreError) as error:
            logger.warning("keys-not-acknowledged", extra={"error": repr(error)})
            self._wake(KEYS, "")

    def gone(self) -> None:
        """Some were revoked."""
        self.callers.forget()
        self._wake(KEYS, "")

    def presign(self, account: str, bucket: str, key: str, expires: int) -> str:
        """A GET that the account may do, for the keeper's fetchers."""
        own = next((k for k in self._live if k.account == account and k.token is None and not k.services), self._live[0])
        host = self._settings.local_url.partition("://")[2]
        return signatures.presign("GET", f"/{bucket}/{key}", own.id, own, self._settings.region, host, expires, time.time())
