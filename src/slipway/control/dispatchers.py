"""The dispatchers of one kind of work: known by the names that they claim under, told together, and missed when they are gone.

A link that closes says little: the process behind it may live, and come back. What it held is free as soon as that process is
gone; where nobody can tell, at the end of its leases.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from slipway.background import Background
from slipway.link.channel import Channel, LinkClosed, LinkError

LOOK_SECONDS = 0.1
"""Between two looks at whether a dispatcher's process still lives."""
LONGEST_NAME = 200


@dataclass(slots=True)
class _Known:
    """Of a channel."""

    since: float
    holders: set[str] = field(default_factory=set)


class Dispatchers:
    """`gone(holder, since)`: its process is; `since` (epoch seconds) is when its channel was first heard of."""

    def __init__(
        self,
        gone: Callable[[str, float], Awaitable[None]],
        *,
        lease_seconds: float,
        now: Callable[[], float],
        alive: Callable[[int], bool],
    ) -> None:
        """`alive`: whether a process lives, by its pid."""
        self._gone = gone
        self._lease_seconds = lease_seconds
        self._now = now
        self._alive = alive
        self._channels: dict[Channel, _Known] = {}
        self._holders: dict[str, Channel] = {}
        self._background = Background()

    def heard(self, channel: Channel, holder: str) -> bool:
        """A claim or a heartbeat came: who this is. True: the first that came on this channel. LinkError: it has no name."""
        if not holder or len(holder) > LONGEST_NAME:
            raise LinkError("bad-holder", "a dispatcher needs a name")
        known = self._channels.get(channel)
        first = known is None
        if known is None:
            known = self._channels[channel] = _Known(self._now())
            channel.on_close(lambda: self._closed(channel))
        known.holders.add(holder)
        self._holders[holder] = channel
        return first

    def connected(self, holder: str) -> bool:
        return holder in self._holders

    def tell(self, kind: str, payload: object) -> None:
        """All of them, soon; those whose link breaks meanwhile do not hear it."""
        for channel in self._channels:
            self._background.spawn(_notify(channel, kind, payload))

    async def close(self) -> None:
        await self._background.close()

    def _closed(self, channel: Channel) -> None:
        known = self._channels.pop(channel)
        for holder in known.holders:
            if self._holders.get(holder) is channel:
                del self._holders[holder]
                self._background.spawn(self._watch(holder, channel.peer.pid, known.since))

    async def _watch(self, holder: str, pid: int, since: float) -> None:
        if pid <= 0:
            return
        for _ in range(int(self._lease_seconds / LOOK_SECONDS)):
            if holder in self._holders:
                return  # only its link was broken
            if not self._alive(pid):
                await self._gone(holder, since)
                return
            await asyncio.sleep(LOOK_SECONDS)


async def _notify(channel: Channel, kind: str, payload: object) -> None:
    with contextlib.suppress(LinkClosed):
        await channel.notify(kind, payload)
