"""The gateway process: carries invocations to replicas, hands every other request on to control.

Loads neither SQL nor service models, blocks on nothing. Started by a keeper with a RoleStart on standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import secrets
import signal
import socket
import ssl
import sys
import time
from dataclasses import replace

import uvloop

from slipway.core.routing import RouteTable
from slipway.data.counting import Counting
from slipway.data.lanes import DataLimits
from slipway.data.several import GatewaySlots
from slipway.http.limits import Budget, HttpLimits
from slipway.http.server import Server
from slipway.link.client import Link
from slipway.link.counters import CountersSender
from slipway.link.forward import Forwarder
from slipway.link.models import ModelLink
from slipway.link.routes import RouteSubscriber
from slipway.link.start import RoleStart, die_with_parent, read_start
from slipway.roles import events
from slipway.services.runtime import callers, enqueue
from slipway.services.runtime.enqueue import Enqueue
from slipway.services.runtime.invoke import Runtime, RuntimeLimits
from slipway.settings import Settings

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 1.0
"""What runs may go on for. Less than the keeper's patience: the last counts still go to control, and nothing is killed."""
_FIRST_TABLE_SECONDS = 10.0
_MODEL_MARGIN = 60.0
"""Seconds beyond the longest load, until an answer about a model is not waited for any more."""


def main() -> None:
    start = read_start(sys.stdin.buffer)
    die_with_parent(start.keeper_pid)
    settings = start.settings_as(Settings)
    events.configure("gateway", settings.log_level)
    uvloop.run(run(settings, start))


async def run(settings: Settings, start: RoleStart) -> None:
    """Serve until SIGTERM or SIGINT."""
    if start.fd is None:
        raise SystemExit("a gateway needs the listening socket that its keeper opened")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(settings)
    starting = asyncio.create_task(gateway.start(socket.socket(fileno=start.fd)))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return
    await starting
    gc.freeze()  # without a collection, which would find next to nothing and hold up the first answers
    await stop.wait()
    await gateway.stop()


class Gateway:
    """Everything of one gateway, wired."""

    def __init__(self, settings: Settings) -> None:
        limits = settings.limits
        self.models = ModelLink(
            settings.link_socket,
            lambda moved: self.slots.model_moved(moved),
            seconds=limits.model_load_seconds + _MODEL_MARGIN,
        )
        self.slots = GatewaySlots(
            DataLimits(
                invoke_seconds=limits.invoke_seconds,
                stream_seconds=limits.stream_seconds,
                response_bytes=limits.response_bytes,
                waiting=limits.waiting_per_variant,
                capacity_seconds=limits.capacity_wait_seconds,
                between_bytes=limits.between_bytes,
                between_memory=limits.bodies_in_memory,
                model_seconds=limits.model_wait_seconds,
            ),
            on_drained=self._drained,
            loader=self.models,
        )
        self.subscriber = RouteSubscriber(settings.link_socket, settings.routes_file, self._apply, self.slots.busy_removed)
        if settings.auth == "none":
            authenticate = callers.unsigned(settings.account, settings.region, settings.host)
        else:
            authenticate = callers.signed(self.slots.key)
        self.link = Link(settings.link_socket)
        self.enqueue = Enqueue(self.link, min(enqueue.BATCH, settings.commit_group))
        self.counters = CountersSender(
            settings.link_socket,
            f"{os.getpid()}.{secrets.token_hex(6)}",
            Counting(self.slots).read,
            time.time,
            every=min(1.0, max(60.0 / settings.time_scale, 0.1)),
        )
        self.runtime = Runtime(
            self.slots,
            RuntimeLimits(limits.body_bytes, limits.custom_attributes),
            authenticate,
            settings.endpoint_url,
            random.random,
            self.enqueue,
        )
        self.forwarder = Forwarder(f"unix:{settings.control_socket}")
        self.server = Server(
            self.forwarder,
            fast=self.runtime,
            limits=HttpLimits(),
            ssl=_tls(settings),
            budget=Budget(limits.bodies_in_memory),
        )

    async def start(self, sock: socket.socket) -> None:
        """Serve from the last table until control sends the current one.

        With no table at all every key would be unknown: callers wait in the keeper's socket until the first one is there.
        """
        self.slots.start()
        self.subscriber.load()
        self.subscriber.start()
        self.counters.start()
        self.link.start()
        self.enqueue.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_TABLE_SECONDS):
                await self.subscriber.first.wait()
        await self.server.start(sock=sock)

    async def stop(self) -> None:
        """What runs may finish for a moment; the keeper's socket goes on accepting for the next gateway."""
        await self.server.stop(_DRAIN_SECONDS)
        await self.enqueue.close()
        await self.link.close()
        await self.models.close()
        await self.counters.close()
        await self.subscriber.close()
        self.slots.close()
        self.forwarder.close()

    def _apply(self, table: RouteTable) -> None:
        """Transform jobs' instances are none of a gateway's business."""
        if any(endpoint.transform is not None for endpoint in table.endpoints.values()):
            ours = {key: endpoint for key, endpoint in table.endpoints.items() if endpoint.transform is None}
            table = replace(table, endpoints=ours)
        self.slots.apply(table)

    def _drained(self) -> None:
        self.subscriber.busy_changed()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


if __name__ == "__main__":
    main()
