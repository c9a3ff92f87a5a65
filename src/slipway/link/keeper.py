"""What control asks of a keeper over the link, and how a keeper answers and reports.

Requests, all safe to repeat: `start` (a ReplicaSpec), `stop` (id and grace), `list`, `usage`, `status`. Each change of a
replica is the notification `replica` with its ReplicaState.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from slipway.core.replicas import ReplicaSpec, ReplicaState, Usage
from slipway.link.channel import MAX_WAITING, Channel, LinkClosed, Server, serve
from slipway.link.client import Link

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stop:
    id: str
    grace: float
    """Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class RoleStatus:
    name: str
    pid: int | None
    restarts: int
    memory_bytes: int
    """Resident; 0 when not running."""
    ready: bool


@dataclass(frozen=True, slots=True)
class KeeperStatus:
    """For `slipway status`."""

    pid: int
    url: str
    data_dir: str
    uptime: float
    """Seconds."""
    roles: tuple[RoleStatus, ...]
    replicas: tuple[ReplicaState, ...]
    sandbox: str
    """`bubblewrap`, or why there is none."""
    notes: tuple[str, ...] = ()


class Keeping(Protocol):
    """What a keeper can do; `replicas.Keeper` is one, and tests have fakes."""

    async def start(self, spec: ReplicaSpec) -> None:
        """Begin to start it and return; the same id again changes nothing."""

    async def stop(self, id: str, grace: float) -> None:
        """Begin to stop it and return. An unknown id is fine; one that has exited is forgotten."""

    def list(self) -> list[ReplicaState]:
        """Every replica, also those that have exited and were not forgotten."""

    async def usage(self) -> Sequence[Usage]:
        """What each replica that runs uses."""

    def subscribe(self, callback: Callable[[ReplicaState], None]) -> Callable[[], None]:
        """Call `callback` on each change; the returned function ends that."""


class KeeperServer:
    """The keeper's end: serves `keeping` on a unix socket and reports each change to every channel, in order."""

    def __init__(self, path: str, keeping: Keeping, status: Callable[[], KeeperStatus] | None = None) -> None:
        self._path = path
        self._keeping = keeping
        self._status = status
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self._path, self._on_channel)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()

    def _on_channel(self, channel: Channel) -> None:
        channel.on("start", self._keeping.start, ReplicaSpec)
        channel.on("stop", lambda stop: self._keeping.stop(stop.id, stop.grace), Stop)
        channel.on("list", lambda _: self._keeping.list())
        channel.on("usage", lambda _: self._keeping.usage())
        if self._status is not None:
            status = self._status
            channel.on("status", lambda _: status())
        changes: asyncio.Queue[ReplicaState] = asyncio.Queue(MAX_WAITING)

        def changed(state: ReplicaState) -> None:
            try:
                changes.put_nowait(state)
            except asyncio.QueueFull:
                # Control hangs. When it comes to itself it connects again, and lists.
                logger.error("keeper-reports-dropped", extra={"waiting": MAX_WAITING})
                channel.close()

        unsubscribe = self._keeping.subscribe(changed)
        reporting = asyncio.get_running_loop().create_task(_report(channel, changes))

        def closed() -> None:
            unsubscribe()
            reporting.cancel()

        channel.on_close(closed)


async def _report(channel: Channel, changes: asyncio.Queue[ReplicaState]) -> None:
    with contextlib.suppress(LinkClosed):
        while True:
            await channel.notify("replica", await changes.get())


class KeeperClient:
    """Control's end. Requests wait for the connection; LinkClosed, TimeoutError and LinkError mean: ask again later.

    After each (re)connection `on_connect` should `list` and compare; `on_state` then gets every change.
    """

    def __init__(
        self,
        path: str,
        *,
        on_state: Callable[[ReplicaState], None] | None = None,
        on_connect: Callable[[], Awaitable[None]] | None = None,
        on_disconnect: Callable[[], None] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._on_state = on_state
        self._on_connect = on_connect
        self._timeout = timeout
        self._current: Channel | None = None
        self._link = Link(path, setup=self._setup, on_connect=self._connected, on_disconnect=on_disconnect)

    @property
    def connected(self) -> bool:
        return self._link.channel is not None

    def open(self) -> None:
        """Connect in the background and stay connected."""
        self._link.start()

    async def close(self) -> None:
        await self._link.close()

    async def start(self, spec: ReplicaSpec) -> None:
        await self._ask("start", spec)

    async def stop(self, id: str, grace: float) -> None:
        await self._ask("stop", Stop(id, grace))

    async def list(self) -> list[ReplicaState]:
        channel = self._current or await self._link.ready(self._timeout)
        states: list[ReplicaState] = await channel.request("list", None, list[ReplicaState], timeout=self._timeout)
        return states

    async def usage(self) -> Sequence[Usage]:
        found: Sequence[Usage] = await self._link.request("usage", None, tuple[Usage, ...], timeout=self._timeout)
        return found

    async def status(self) -> KeeperStatus:
        status: KeeperStatus = await self._link.request("status", None, KeeperStatus, timeout=self._timeout)
        return status

    async def _ask(self, kind: str, payload: object) -> None:
        channel = self._current or await self._link.ready(self._timeout)
        await channel.request(kind, payload, timeout=self._timeout)

    def _setup(self, channel: Channel) -> None:
        self._current = channel
        channel.on_close(self._lost)
        if self._on_state is not None:
            channel.on("replica", self._on_state, ReplicaState)

    def _lost(self) -> None:
        self._current = None

    async def _connected(self, channel: Channel) -> None:
        if self._on_connect is not None:
            await self._on_connect()
