"""A lane leads to one worker (or one foreign container): how much it may hold, how much it holds, how to get there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from slipway.core.routing import Replica
from slipway.data.abandoning import abandon
from slipway.data.frames_link import UNKNOWN, FramesLink, depth_for, depth_for_batches, settle_lost
from slipway.data.invoke import Call
from slipway.http.client import ClientResponse, ConnectFailed, NoAnswer, Pool, PoolLimits
from slipway.http.messages import BodyTooLarge, ClientGone
from slipway_host import frames

if TYPE_CHECKING:
    from slipway.data.slots import VariantSlots

logger = logging.getLogger(__name__)

FOREIGN_CONCURRENCY = 128
"""Requests that a foreign container gets at a time; what it does with them is its own matter."""
_RETRY = (0.02, 0.05, 0.1, 0.25, 0.5)
_BUSY_PAUSE = 0.01
_MAX_BODY = frames.MAX_BODY


@dataclass(frozen=True, slots=True)
class DataLimits:
    """Bytes, seconds and counts of the data path (settings.Limits has the user's side of them)."""

    invoke_seconds: float = 60.0
    stream_seconds: float = 480.0
    response_bytes: int = 25 * 1024 * 1024
    waiting: int = 1000
    """Per variant."""
    between_bytes: int = 5 * 1024 * 1024
    """Of an answer that is the next container's request."""
    between_memory: int = 256 * 1024 * 1024
    """Of all answers that wait for the next container; beyond it containers wait that have others behind them."""
    capacity_seconds: float = 15.0
    model_seconds: float = 60.0
    """How long a request waits for its model to be loaded."""
    free_seconds: float = frames.GRACE
    """How long a worker counts as busy after its exchange was cut, unless it says before that it is free."""


class Lane:
    """Common accounting; `take` is for a call that has been counted in `busy`."""

    __slots__ = ("address", "batch", "busy", "depth", "draining", "instance", "limits", "owner", "pool", "ready", "replica")

    ours = False
    """Whether slipway_host is at the other end."""
    path = b"/invocations"

    def __init__(self, owner: VariantSlots, replica: Replica, address: str, limits: DataLimits) -> None:
        self.owner = owner
        self.replica = replica.id
        self.instance = replica.instance
        self.address = address
        self.limits = limits
        self.busy = 0
        self.depth = 1
        self.batch = 1
        """Requests that its worker answers together at most."""
        self.ready = False
        self.draining = False
        self.pool = Pool(address, PoolLimits(connections=FOREIGN_CONCURRENCY, idle=8))

    def start(self) -> None:
        """Make it ready, in the background if need be."""

    def close(self) -> None:
        self.pool.close()

    def take(self, call: Call) -> None:
        raise NotImplementedError

    def abandon(self, call: Call, name: int = 0) -> None:
        """Nobody waits for a call that is here, or on its way. A foreign container goes on: it has others to answer.

        `name`: in `frames.NAME_HEADER`, of a call over HTTP.
        """

    def gone_away(self, response: ClientResponse) -> bool:
        """The answer means that nobody is there (any more): the request was not taken."""
        return False

    def dismissed(self) -> None:
        """Nothing more is to be sent here."""

    def freed(self, count: int) -> None:
        """So many calls are off this lane."""
        self.busy -= count
        owner = self.owner
        counters = owner.counters
        if counters.invocations >= counters.fold_at:
            counters.fold()
        if self.draining:
            if self.busy <= 0:
                self.close()
                owner.drained(self)
        else:
            owner.pump(self)

    def finished(self, call: Call, clean: bool) -> None:
        """An HTTP exchange ended; not `clean`: it was cut while the worker may still be at it."""
        self.freed(1)


class ForeignLane(Lane):
    """A container that speaks only HTTP/1.1, at one address."""

    __slots__ = ()

    def start(self) -> None:
        self.depth = FOREIGN_CONCURRENCY
        self.ready = True
        self.owner.lane_ready(self)

    def take(self, call: Call) -> None:
        call.sent = perf_counter()
        call.carry(self)


class WorkerLane(Lane):
    """A worker of slipway_host: frames, and HTTP/1.1 for what frames do not carry."""

    __slots__ = ("_closed", "_connecting", "_link", "_tasks", "_timer", "_tries", "speaks_frames")

    ours = True
    hello = frames.hello()

    def __init__(self, owner: VariantSlots, replica: Replica, address: str, limits: DataLimits) -> None:
        super().__init__(owner, replica, address, limits)
        self._link: FramesLink | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tries = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.speaks_frames = False

    def take(self, call: Call) -> None:
        link = self._link
        if link is not None and self.speaks_frames and call.framed and len(call.body) <= _MAX_BODY:
            link.send(call)
        else:
            call.sent = perf_counter()
            call.carry(self)

    def abandon(self, call: Call, name: int = 0) -> None:
        """The host hears of it, and replaces the worker if that is still at it after `frames.GRACE`."""
        named = name or (None if self._link is None else self._link.ident(call))
        if named:
            self._spawn(abandon(self.address, named))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(work))
        task.add_done_callback(self._tasks.discard)

    # ---- connection

    def start(self) -> None:
        self._timer = None
        if not self._closed:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        link = FramesLink(self, self.hello)
        try:
            if self.address.startswith("unix:"):
                await loop.create_unix_connection(lambda: link, self.address[5:])
            else:
                host, _, port = self.address.removeprefix("tcp:").rpartition(":")
                await loop.create_connection(lambda: link, host.strip("[]"), int(port))
        except OSError:
            self._retry()
            return
        finally:
            self._connecting = None
        self._link = link

    def _retry(self) -> None:
        if self._closed or self.draining:
            return
        pause = _RETRY[min(self._tries, len(_RETRY) - 1)]
        self._tries += 1
        self._timer = asyncio.get_running_loop().call_later(pause, self.start)

    def greeted(self, version: int | None, batch: int = 1) -> None:
        """The worker answered HELLO: it is alive; another version gets HTTP."""
        self._tries = 0
        self.speaks_frames = version == frames.VERSION
        if not self.speaks_frames:
            logger.warning("frames-version-differs", extra={"replica": self.replica, "version": version})
        self.batch = batch
        self.depth = depth_for(UNKNOWN) if batch == 1 else depth_for_batches(UNKNOWN, batch)
        self.ready = True
        self.owner.lane_ready(self)

    def begun(self, calls: list[Call]) -> None:
        """The worker is at these now."""
        self.owner.begun(calls)

    def parted(self) -> None:
        """The other side takes nothing more; only models' processes say so."""

    def lost(self, calls: list[Call], begun: int) -> None:
        """The connection closed with these calls unanswered; the worker was at the first `begun`."""
        self._link = None
        spoke, self.speaks_frames = self.speaks_frames, False
        if self.ready and not spoke and not self._closed:
            return
        self.ready = False
        self.owner.lane_lost(self)
        again = settle_lost(calls, begun)
        self.freed(len(calls))
        for call in reversed(again):
            self.owner.put_back(call)
        self._retry()

    def refused(self, call: Call | None) -> None:
        """BUSY: somebody else's request is there; rest a moment and let another worker have this one."""
        if call is None:
            return
        self.busy -= 1
        depth, self.depth = self.depth, 0
        asyncio.get_running_loop().call_later(_BUSY_PAUSE, self._rested, depth)
        if not call.done:
            self.owner.put_back(call)

    def _rested(self, depth: int) -> None:
        self.depth = max(self.depth, depth)
        self.freed(0)

    def finished(self, call: Call, clean: bool) -> None:
        if clean or self._closed:
            self.freed(1)
        else:
            self._spawn(self._until_free())

    async def _until_free(self) -> None:
        """A worker does one thing at a time: when it answers to ping it is at nothing else. The host kills it in the end."""
        try:
            async with asyncio.timeout(self.limits.free_seconds):
                response = await self.pool.request("GET", b"/ping", [])
                await response.read(1024)
        except (TimeoutError, ConnectFailed, NoAnswer, BodyTooLarge, ClientGone) as error:
            logger.debug("worker-does-not-answer", extra={"worker": self.address, "error": str(error)})
        self.freed(1)

    def close(self) -> None:
        super().close()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._connecting, *self._tasks):
            if task is not None:
                task.cancel()
        if self._link is not None:
            self._link.close()
