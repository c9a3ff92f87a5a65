"""What a dispatcher holds of control's queue: claims, leases and their heartbeats, settlements in batches.

Control may go away at any time. Nothing that was claimed is forgotten for that: settlements wait, and are said again when
nobody knows whether they were heard (control knows them again); a lease that ran out meanwhile is told by the heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from slipway.core.asynchronous import Claimed, Outcome
from slipway.link import claims
from slipway.link.channel import Channel, LinkClosed, LinkError
from slipway.link.claims import LEASE_SECONDS, Claim, Heartbeat, Started

logger = logging.getLogger(__name__)

BATCH = 200
"""Settlements of one message."""
BATCH_BYTES = 8 * 1024 * 1024
"""Of what they carry, beyond which the rest waits for the next message."""
ANSWER_SECONDS = 30.0
"""For control's answer: a database that takes longer is as good as away."""
PAUSE = 0.2
"""Seconds before a settlement that control could not take is said again."""
GATHER_SECONDS = 0.1
"""How long a settlement that nobody waits for is kept for others to share its commit."""


class Link(Protocol):
    """`link.client.Link`."""

    @property
    def channel(self) -> Channel | None: ...

    async def ready(self, timeout: float | None = None) -> Channel: ...


class Verdict(NamedTuple):
    good: bool
    """It counts: the lease was the newest."""
    sure: bool
    """Control has heard it once only; else a bad verdict may come from its having counted before."""


@dataclass(slots=True)
class _Word:
    outcome: Outcome
    told: asyncio.Future[Verdict]
    weight: int
    repeated: bool = False


class Ledger:
    """`on_lost` is told of requests that this process is not to work on any more."""

    def __init__(self, holder: str, on_lost: Callable[[Sequence[int]], None]) -> None:
        self.holder = holder
        self._on_lost = on_lost
        self._link: Link | None = None
        self._held: dict[int, int] = {}
        """Lease by id."""
        self._words: deque[_Word] = deque()
        self._settling: set[int] = set()
        """Ids of what waits for control's answer, on its way or not: a lease that ends by it is not lost."""
        self._due = asyncio.Event()
        self._due_later: asyncio.TimerHandle | None = None
        self._begun: list[Started] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.weight = 0
        """Bytes of settlements that wait for control."""

    def start(self, link: Link) -> None:
        self._link = link
        self._spawn(self._settle())
        self._spawn(self._beat())

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def unsettled(self) -> int:
        return len(self._words)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- claims

    async def claim(self, endpoint: str, count: int) -> Sequence[Claimed]:
        """Up to `count` requests of the endpoint, now held. LinkClosed, LinkError, TimeoutError."""
        assert self._link is not None
        channel = self._link.channel
        if channel is None:
            raise LinkClosed("control is away")
        asked = Claim(self.holder, endpoint, count)
        found: tuple[Claimed, ...] = await channel.request(claims.CLAIM, asked, tuple[Claimed, ...], timeout=ANSWER_SECONDS)
        self._held.update((each.id, each.lease) for each in found)
        return found

    def began(self, started: Started) -> None:
        """A container has it: control hears of it with others of the same turn of the loop."""
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._tell_begun)
        self._begun.append(started)

    def _tell_begun(self) -> None:
        begun, self._begun = tuple(self._begun), []
        channel = self._link.channel if self._link is not None else None
        if channel is not None:
            self._spawn(_notify(channel, claims.STARTED, begun))

    def drop(self, id: int, lease: int) -> None:
        """It is worked on no more under this lease (there may be a newer one)."""
        if self._held.get(id) == lease:
            del self._held[id]

    # ---- settlements

    async def settle(self, outcome: Outcome, *, keep: bool = False, patient: bool = False) -> Verdict:
        """Returns when control has committed it. `keep`: the lease is still needed after that. `patient`: requests queue
        behind this one, so that a tenth of a second is nothing beside their wait, and a commit for each would slow them."""
        staged = outcome.staged
        weight = 1000 + len(outcome.answer or b"") + len(staged.data or b"" if staged is not None else b"")
        word = _Word(outcome, asyncio.get_running_loop().create_future(), weight)
        self._words.append(word)
        self._settling.add(outcome.id)
        self.weight += weight
        self._hasten(patient)
        try:
            return await word.told
        finally:
            self._settling.discard(outcome.id)
            if not keep:
                self.drop(outcome.id, outcome.lease)

    def _hasten(self, patient: bool) -> None:
        if not patient or len(self._words) >= BATCH or self.weight >= BATCH_BYTES:
            self._due.set()
        elif self._due_later is None:
            self._due_later = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._due.set)

    def _next(self) -> list[_Word]:
        batch: list[_Word] = []
        size = 0
        while self._words and len(batch) < BATCH and size < BATCH_BYTES:
            word = self._words.popleft()
            size += word.weight
            batch.append(word)
        return batch

    async def _settle(self) -> None:
        """What has finished while one batch was on its way is the next."""
        assert self._link is not None
        while True:
            await self._due.wait()
            channel = await self._link.ready()
            batch = self._next()
            if not self._words:
                self._due.clear()
                if self._due_later is not None:
                    self._due_later.cancel()
                    self._due_later = None
            if batch and not await self._send(channel, batch):
                self._words.extendleft(reversed(batch))
                self._due.set()
                await asyncio.sleep(PAUSE)

    async def _send(self, channel: Channel, batch: Sequence[_Word]) -> bool:
        outcomes = tuple(word.outcome for word in batch)
        try:
            answers = await channel.request(claims.SETTLE, outcomes, tuple[bool, ...], timeout=ANSWER_SECONDS)
        except (LinkClosed, LinkError, TimeoutError, msgspec.MsgspecError) as error:
            logger.warning("settlement-to-be-said-again", extra={"outcomes": len(batch), "error": repr(error)})
            for word in batch:
                word.repeated = True
            return False
        for word, good in zip(batch, answers, strict=False):
            self.weight -= word.weight
            if not word.told.done():
                word.told.set_result(Verdict(good, not word.repeated))
        return True

    # ---- leases

    async def connected(self, channel: Channel) -> None:
        """A (new) control is there: it hears what this process holds, and so who this is. Raises as `claim`."""
        held = tuple(self._held.items())
        lost = await channel.request(claims.HEARTBEAT, Heartbeat(self.holder, held), tuple[int, ...], timeout=ANSWER_SECONDS)
        self._lose(lost)

    def _lose(self, ids: Sequence[int]) -> None:
        gone = [id for id in ids if id in self._held and id not in self._settling]
        if gone:
            logger.warning("leases-lost", extra={"requests": len(gone)})
            self._on_lost(gone)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            channel = self._link.channel if self._link is not None else None
            if channel is not None and self._held:
                with contextlib.suppress(LinkClosed, LinkError, TimeoutError, msgspec.MsgspecError):
                    await self.connected(channel)


async def _notify(channel: Channel, kind: str, payload: object) -> None:
    with contextlib.suppress(LinkClosed):
        await channel.notify(kind, payload)
