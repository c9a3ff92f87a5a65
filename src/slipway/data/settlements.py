"""How a dispatcher's work ended, on its way to control: in batches, and said again until somebody has heard it.

Control may go away at any time. What it was told meanwhile waits here, and is said again when nobody knows whether it was
heard: control knows a word that has counted, and calls the second one void.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from slipway.link.channel import Channel, LinkClosed, LinkError

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
UNHEARD = (LinkClosed, LinkError, TimeoutError, msgspec.MsgspecError)
"""What a question to control raises that has no answer."""


class Link(Protocol):
    """`link.client.Link`."""

    @property
    def channel(self) -> Channel | None: ...

    async def ready(self, timeout: float | None = None) -> Channel: ...


class Settled(Protocol):
    """What is known of a piece of work when it has ended (`core.asynchronous.Outcome`, `core.transforms.ObjectOutcome`)."""

    @property
    def id(self) -> int: ...


Word = TypeVar("Word", bound=Settled)


class Verdict(NamedTuple):
    good: bool
    """It counts: the lease was the newest."""
    sure: bool
    """Control has heard it once only; else a bad verdict may come from its having counted before."""


@dataclass(slots=True)
class _Waiting(Generic[Word]):
    word: Word
    told: asyncio.Future[Verdict]
    weight: int
    repeated: bool = False


class Settlements(Generic[Word]):
    """`kind` of the link's message; `weigh`: about the bytes that a word has in it. `run` for as long as there is work."""

    def __init__(self, kind: str, weigh: Callable[[Word], int]) -> None:
        self._kind = kind
        self._weigh = weigh
        self._waiting: deque[_Waiting[Word]] = deque()
        self._under_way: set[int] = set()
        self._due = asyncio.Event()
        self._due_later: asyncio.TimerHandle | None = None
        self.weight = 0
        """Bytes of what waits for control."""

    @property
    def unsent(self) -> int:
        """How many wait for the next message."""
        return len(self._waiting)

    def under_way(self, id: int) -> bool:
        """Whether it waits for control's answer, sent or not: a lease that ends by it is not lost."""
        return id in self._under_way

    async def say(self, word: Word, *, patient: bool = False) -> Verdict:
        """Returns when control has committed it. `patient`: more work waits behind this one, so that a tenth of a second is
        nothing beside its wait, and a commit for each would slow it."""
        waiting = _Waiting(word, asyncio.get_running_loop().create_future(), self._weigh(word))
        self._waiting.append(waiting)
        self._under_way.add(word.id)
        self.weight += waiting.weight
        self._hasten(patient)
        try:
            return await waiting.told
        finally:
            self._under_way.discard(word.id)

    def _hasten(self, patient: bool) -> None:
        if not patient or len(self._waiting) >= BATCH or self.weight >= BATCH_BYTES:
            self._due.set()
        elif self._due_later is None:
            self._due_later = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._due.set)

    async def run(self, link: Link) -> None:
        """Say it all; what is settled while one batch is on its way is the next."""
        while True:
            await self._due.wait()
            channel = await link.ready()
            batch = self._next()
            if not self._waiting:
                self._due.clear()
                if self._due_later is not None:
                    self._due_later.cancel()
                    self._due_later = None
            if batch and not await self._send(channel, batch):
                self._waiting.extendleft(reversed(batch))
                self._due.set()
                await asyncio.sleep(PAUSE)

    def _next(self) -> list[_Waiting[Word]]:
        batch: list[_Waiting[Word]] = []
        size = 0
        while self._waiting and len(batch) < BATCH and size < BATCH_BYTES:
            waiting = self._waiting.popleft()
            size += waiting.weight
            batch.append(waiting)
        return batch

    async def _send(self, channel: Channel, batch: Sequence[_Waiting[Word]]) -> bool:
        words = tuple(each.word for each in batch)
        try:
            answers = await channel.request(self._kind, words, tuple[bool, ...], timeout=ANSWER_SECONDS)
        except UNHEARD as error:
            logger.warning("settlement-to-be-said-again", extra={"outcomes": len(batch), "error": repr(error)})
            for each in batch:
                each.repeated = True
            return False
        for each, good in zip(batch, answers, strict=False):
            self.weight -= each.weight
            if not each.told.done():
                each.told.set_result(Verdict(good, not each.repeated))
        return True
