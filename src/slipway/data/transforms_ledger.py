"""What a dispatcher holds of control's transform jobs: claims, durable points, settlements in batches, heartbeats.

Control may go away at any time. Nothing that was claimed is forgotten for that: settlements wait, and are said again when
nobody knows whether they were heard; a lease that ran out meanwhile is told by the heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec

from slipway.core.transforms import ClaimedObject, ObjectOutcome, Point
from slipway.data.asynchronous_ledger import Link, Verdict
from slipway.link import transforms
from slipway.link.channel import Channel, LinkClosed, LinkError
from slipway.link.transforms import LEASE_SECONDS, Claim, Heartbeat, Held, Parameters, Reached

logger = logging.getLogger(__name__)

BATCH = 200
"""Settlements of one message."""
ANSWER_SECONDS = 30.0
PAUSE = 0.2
BEAT_SECONDS = 1.0
"""Between two words on how far objects are."""
_ERRORS = (LinkClosed, LinkError, TimeoutError, msgspec.MsgspecError)


class _Word:
    def __init__(self, outcome: ObjectOutcome) -> None:
        self.outcome = outcome
        self.told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.repeated = False


class TransformLedger:
    """`held` says what is being worked on; `on_lost` is told of objects that this process is not to work on any more."""

    def __init__(self, holder: str, held: Callable[[], Iterable[Held]], on_lost: Callable[[Sequence[int]], None]) -> None:
        self.holder = holder
        self._held = held
        self._on_lost = on_lost
        self._link: Link | None = None
        self._words: deque[_Word] = deque()
        self._settling: set[int] = set()
        self._due = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, link: Link) -> None:
        self._link = link
        self._spawn(self._settle())
        self._spawn(self._beat())

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def connected_now(self) -> bool:
        return self._link is not None and self._link.channel is not None

    def _channel(self) -> Channel:
        channel = self._link.channel if self._link is not None else None
        if channel is None:
            raise LinkClosed("control is away")
        return channel

    async def claim(self, job: str, count: int) -> Sequence[ClaimedObject]:
        """Up to `count` objects of the job. LinkClosed, LinkError, TimeoutError, msgspec.MsgspecError."""
        asked = Claim(self.holder, job, count)
        found: tuple[ClaimedObject, ...] = await self._channel().request(
            transforms.CLAIM, asked, tuple[ClaimedObject, ...], timeout=ANSWER_SECONDS
        )
        return found

    async def parameters(self, told: Parameters) -> None:
        """For the job's log; raises as `claim`."""
        await self._channel().request(transforms.PARAMETERS, told, timeout=ANSWER_SECONDS)

    async def point(self, id: int, lease: int, point: Point) -> bool | None:
        """Whether it is committed; None: nobody can say now, it may be."""
        try:
            answer = await self._channel().request(transforms.POINT, Reached(id, lease, point), bool, timeout=ANSWER_SECONDS)
        except _ERRORS as error:
            logger.warning("durable-point-not-told", extra={"id": id, "error": repr(error)})
            return None
        return bool(answer)

    async def settle(self, outcome: ObjectOutcome) -> Verdict:
        """Returns when control has committed it."""
        word = _Word(outcome)
        self._words.append(word)
        self._settling.add(outcome.id)
        self._due.set()
        try:
            return await word.told
        finally:
            self._settling.discard(outcome.id)

    async def _settle(self) -> None:
        """What has finished while one batch was on its way is the next."""
        assert self._link is not None
        while True:
            await self._due.wait()
            channel = await self._link.ready()
            batch = [self._words.popleft() for _ in range(min(BATCH, len(self._words)))]
            if not self._words:
                self._due.clear()
            if batch and not await self._send(channel, batch):
                self._words.extendleft(reversed(batch))
                self._due.set()
                await asyncio.sleep(PAUSE)

    async def _send(self, channel: Channel, batch: Sequence[_Word]) -> bool:
        outcomes = tuple(word.outcome for word in batch)
        try:
            answers = await channel.request(transforms.SETTLE, outcomes, tuple[bool, ...], timeout=ANSWER_SECONDS)
        except _ERRORS as error:
            logger.warning("settlement-to-be-said-again", extra={"outcomes": len(batch), "error": repr(error)})
            for word in batch:
                word.repeated = True
            return False
        for word, good in zip(batch, answers, strict=False):
            if not word.told.done():
                word.told.set_result(Verdict(good, not word.repeated))
        return True

    async def connected(self, channel: Channel) -> None:
        """A (new) control is there: it hears what this process holds, and so who this is. Raises as `claim`."""
        held = tuple(self._held())
        beat = Heartbeat(self.holder, held)
        lost = await channel.request(transforms.HEARTBEAT, beat, tuple[int, ...], timeout=ANSWER_SECONDS)
        if gone := [id for id in lost if id not in self._settling]:
            logger.warning("transform-leases-lost", extra={"objects": len(gone)})
            self._on_lost(gone)

    async def _beat(self) -> None:
        """Leases last ten times as long; what is told besides is how far the objects are."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            channel = self._link.channel if self._link is not None else None
            if channel is not None and any(True for _ in self._held()):
                with contextlib.suppress(*_ERRORS):
                    await self.connected(channel)


__all__ = ["LEASE_SECONDS", "TransformLedger"]
