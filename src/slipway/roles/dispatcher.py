"""The dispatcher process: carries asynchronous requests and transform jobs from control's queues to replicas.

Writes no SQL: it claims and settles over the link. May be killed at any moment: what it held is free as soon as it is gone.
Until there is an asynchronous endpoint it loads neither the database's driver nor an S3 client.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import secrets
import signal
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from slipway.backing.objects_staging import ExternalStaging, Staging
from slipway.core.routing import RouteTable
from slipway.data.asynchronous import Dispatch
from slipway.data.asynchronous_ledger import Ledger
from slipway.data.asynchronous_pipelines import DispatcherSlots
from slipway.data.lanes import DataLimits
from slipway.data.transforms import Transforms
from slipway.data.transforms_places import TransformSlots
from slipway.link.channel import Channel
from slipway.link.client import Link
from slipway.link.routes import RouteSubscriber
from slipway.link.start import die_with_parent, read_start
from slipway.roles import events
from slipway.settings import Settings

if TYPE_CHECKING:
    from slipway.store.db import Db

logger = logging.getLogger(__name__)

GRACE_SECONDS = 0.7
"""For what runs at SIGTERM; the keeper waits a little longer, and replicas go after us."""
_BUSY_SECONDS = 60.0
"""A worker counts as busy so long beyond its request's timeout, unless it says before that it is free."""


def main() -> None:
    start = read_start(sys.stdin.buffer)
    die_with_parent(start.keeper_pid)
    settings = start.settings_as(Settings)
    events.configure("dispatcher", settings.log_level)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # large inputs are many files
    uvloop.run(run(settings))


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    dispatcher = Dispatcher(settings)
    dispatcher.start()
    gc.freeze()
    await stop.wait()
    await dispatcher.stop()


class Dispatcher:
    """Everything of one dispatcher, wired."""

    def __init__(self, settings: Settings) -> None:
        limits = settings.limits
        self._settings = settings
        self._staging: Staging | None = None
        self._db: Db | None = None
        holder = f"{os.getpid()}.{secrets.token_hex(8)}"
        bounds = DataLimits(
            invoke_seconds=float(limits.async_timeout_seconds),
            between_bytes=limits.between_bytes,
            response_bytes=limits.async_body_bytes,
            free_seconds=limits.async_timeout_seconds + _BUSY_SECONDS,
        )
        self.slots = DispatcherSlots(bounds, on_drained=self._drained)
        self.transforms = Transforms(TransformSlots(bounds, on_drained=self._drained), holder, self._open, time.time)
        self.dispatch = Dispatch(
            self.slots, lambda on_lost: Ledger(holder, on_lost), self._open, time.time, limits.async_body_bytes
        )
        self.subscriber = RouteSubscriber(settings.link_socket, None, self._apply, self._busy)
        self.link = Link(settings.link_socket, setup=self._setup, on_connect=self._connected)

    def start(self) -> None:
        self.subscriber.start()
        self.link.start()
        self.dispatch.start(self.link)
        self.transforms.start(self.link)
        logger.info("dispatcher-started", extra={"holder": self.dispatch.ledger.holder})

    async def stop(self) -> None:
        await self.transforms.stop()
        await self.dispatch.stop(GRACE_SECONDS)
        await self.link.close()
        await self.subscriber.close()
        self.slots.close()
        self.transforms.slots.close()
        if self._staging is not None:
            await self._staging.close()
        if self._db is not None:
            await self._db.close()

    def _apply(self, table: RouteTable) -> None:
        self.dispatch.apply(table)
        self.transforms.apply(table)
        if (self.slots.endpoints or self.transforms.slots.endpoints) and self._staging is None:
            asyncio.get_running_loop().call_soon(self._open_now)

    def _busy(self) -> list[str]:
        return [*self.slots.busy_removed(), *self.transforms.slots.busy_removed()]

    def _setup(self, channel: Channel) -> None:
        self.dispatch.setup(channel)
        self.transforms.setup(channel)

    async def _connected(self, channel: Channel) -> None:
        await self.transforms.connected(channel)
        await self.dispatch.connected(channel)
        # Both may claim only once the link is up, which is after this: the look of the first would come too early.
        asyncio.get_running_loop().call_soon(self.transforms.look_everywhere)

    def _drained(self) -> None:
        self.subscriber.busy_changed()

    async def _open(self) -> Staging:
        return self._staging or self._open_now()

    def _open_now(self) -> Staging:
        if self._staging is None:
            self._staging = self._make()
        return self._staging

    def _make(self) -> Staging:
        settings = self._settings
        external = settings.external_s3
        if external is not None:
            return _external(settings)
        from slipway.backing.objects_staging_embedded import EmbeddedStaging  # noqa: PLC0415 - 18 MB, until they are needed
        from slipway.store.db import Db  # noqa: PLC0415 - as above

        self._db = Db.open_reading(settings.database_url or f"{settings.data_dir}/slipway.db")
        return EmbeddedStaging(self._db, f"{settings.data_dir}/objects")


def _external(settings: Settings) -> ExternalStaging:
    from slipway.backing.objects_external import ExternalObjects  # noqa: PLC0415 - only where there is one

    external = settings.external_s3
    assert external is not None
    objects = ExternalObjects(
        endpoint=external.endpoint,
        access_key=external.access_key,
        secret_key=external.secret_key,
        region=external.region,
        account=settings.account,
    )
    return ExternalStaging(objects, lambda: secrets.token_hex(16))


if __name__ == "__main__":
    main()
