"""Control's lease: exactly one control is active, and one that another has taken over from cannot write any more.

Held under the name of the data directory's node, so that a restarted control finds its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from slipway.core.routing import Key
from slipway.store import keys, leases
from slipway.store.db import Connection, Db, StoreError
from slipway.store.leases import LeaseLost

logger = logging.getLogger(__name__)
T = TypeVar("T")

LEASE = "control"
LEASE_SECONDS = 15.0


class FencedDb(Db):
    """Writes only while this control holds the lease: where another may take it over, each transaction looks first."""

    token: int | None = None
    """Set when the lease is held."""

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """As `Db.write`; raises LeaseLost, with nothing written, when another control has taken over."""
        token = self.token
        if token is None or self.dialect == "sqlite":
            # One data directory has one keeper (a lock on the directory), and that keeper one control.
            return await super().write(fn)

        def fenced(connection: Connection) -> T:
            leases.guard(connection, LEASE, token)
            return fn(connection)

        return await super().write(fenced)


async def acquire(db: Db, holder: str, fresh: Key, configured: list[Key]) -> tuple[int, Key]:
    """The lease's fencing token, when whoever held it has let go or is long gone; and the data directory's own key."""

    def take(connection: Connection) -> tuple[int, Key] | None:
        token = leases.acquire(connection, LEASE, holder, LEASE_SECONDS)
        if token is None:
            return None
        keys.configure(connection, configured, time.time())
        return token, keys.first(connection, fresh, time.time())

    waiting = False
    while True:
        acquired = await db.write(take)
        if acquired is not None:
            return acquired
        if not waiting:
            logger.warning("lease-held", extra={"seconds": LEASE_SECONDS})
            waiting = True
        await asyncio.sleep(0.5)


async def renew(db: Db, token: int, lost: asyncio.Future[None]) -> None:
    """Keep the lease; a control that has lost it must not write any more, and `lost` is set for it to end."""
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        try:
            await db.write(lambda c: leases.renew(c, LEASE, token, LEASE_SECONDS))
        except LeaseLost:
            logger.error("lease-lost")
            lost.set_result(None)
            return
        except StoreError as error:
            logger.warning("lease-not-renewed", extra={"error": str(error)})
        except Exception:
            logger.exception("lease-not-renewed")
