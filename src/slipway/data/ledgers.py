"""What a dispatcher holds of control's work of one kind: settlements on their way, and leases kept by heartbeats.

Nothing that was claimed is forgotten because control went away: settlements wait (`data.settlements`), and a lease that ran
out meanwhile is told by the heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from slipway.background import Background
from slipway.data.settlements import ANSWER_SECONDS, UNHEARD, Link, Settlements, Word
from slipway.link.channel import Channel, LinkClosed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms(Generic[Word]):
    """What differs between the kinds of work."""

    settle: str
    """Of the link's messages, the one that takes settlements; and the one that keeps leases."""
    heartbeat: str
    beat: Callable[[str, tuple[Any, ...]], object]
    """What a heartbeat says, from the holder's name and what it holds."""
    beat_seconds: float
    weigh: Callable[[Word], int]
    """See `Settlements`."""


class LeaseLedger(ABC, Generic[Word]):
    """`on_lost` is told of what this process is not to work on any more. `start` and `close` once each."""

    def __init__(self, terms: Terms[Word], holder: str, on_lost: Callable[[Sequence[int]], None]) -> None:
        self.holder = holder
        self.settlements: Settlements[Word] = Settlements(terms.settle, terms.weigh)
        self._terms = terms
        self._on_lost = on_lost
        self._link: Link | None = None
        self._background = Background()

    @abstractmethod
    def under_lease(self) -> Mapping[int, Any]:
        """By id, what the heartbeat says of each that is held."""

    def start(self, link: Link) -> None:
        self._link = link
        self._background.spawn(self.settlements.run(link))
        self._background.spawn(self._beat())

    async def close(self) -> None:
        await self._background.close()

    @property
    def channel(self) -> Channel | None:
        """None: control is away."""
        return self._link.channel if self._link is not None else None

    async def ask(self, kind: str, payload: object, type: Any = Any) -> Any:
        """Control's answer, now. LinkClosed, LinkError, TimeoutError, msgspec.MsgspecError (`UNHEARD`)."""
        channel = self.channel
        if channel is None:
            raise LinkClosed("control is away")
        return await channel.request(kind, payload, type, timeout=ANSWER_SECONDS)

    async def connected(self, channel: Channel) -> None:
        """A (new) control is there: it hears what this process holds, and so who this is. Raises as `ask`."""
        said = self._terms.beat(self.holder, tuple(self.under_lease().values()))
        lost = await channel.request(self._terms.heartbeat, said, tuple[int, ...], timeout=ANSWER_SECONDS)
        if lost:
            self._lose(lost)

    def _lose(self, ids: Sequence[int]) -> None:
        held = self.under_lease()
        gone = [id for id in ids if id in held and not self.settlements.under_way(id)]
        if gone:
            logger.warning("leases-lost", extra={"told_by": self._terms.heartbeat, "count": len(gone)})
            self._on_lost(gone)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._terms.beat_seconds)
            channel = self.channel
            if channel is not None and self.under_lease():
                with contextlib.suppress(*UNHEARD):
                    await self.connected(channel)
