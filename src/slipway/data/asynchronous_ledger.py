"""What a dispatcher holds of control's queue of asynchronous requests: claims, leases, settlements, and what has begun."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from slipway.core.asynchronous import Claimed, Outcome
from slipway.data.ledgers import LeaseLedger, Terms
from slipway.data.settlements import Verdict
from slipway.link import claims
from slipway.link.channel import Channel, LinkClosed
from slipway.link.claims import LEASE_SECONDS, Claim, Heartbeat, Started


class Ledger(LeaseLedger[Outcome]):
    """`on_lost` is told of requests that this process is not to work on any more."""

    def __init__(self, holder: str, on_lost: Callable[[Sequence[int]], None]) -> None:
        super().__init__(Terms(claims.SETTLE, claims.HEARTBEAT, Heartbeat, LEASE_SECONDS / 3, _weight), holder, on_lost)
        self._held: dict[int, int] = {}
        """Lease by id."""
        self._begun: list[Started] = []

    def under_lease(self) -> Mapping[int, tuple[int, int]]:
        return {id: (id, lease) for id, lease in self._held.items()}

    async def claim(self, endpoint: str, count: int) -> Sequence[Claimed]:
        """Up to `count` requests of the endpoint, now held. Raises as `ask`."""
        found: tuple[Claimed, ...] = await self.ask(claims.CLAIM, Claim(self.holder, endpoint, count), tuple[Claimed, ...])
        self._held.update((each.id, each.lease) for each in found)
        return found

    def began(self, started: Started) -> None:
        """A container has it: control hears of it with others of the same turn of the loop."""
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._tell_begun)
        self._begun.append(started)

    def _tell_begun(self) -> None:
        begun, self._begun = tuple(self._begun), []
        channel = self.channel
        if channel is not None:
            self._background.spawn(_notify(channel, begun))

    def drop(self, id: int, lease: int) -> None:
        """It is worked on no more under this lease (there may be a newer one)."""
        if self._held.get(id) == lease:
            del self._held[id]

    async def settle(self, outcome: Outcome, *, keep: bool = False, patient: bool = False) -> Verdict:
        """As `Settlements.say`. `keep`: the lease is still needed after that."""
        try:
            return await self.settlements.say(outcome, patient=patient)
        finally:
            if not keep:
                self.drop(outcome.id, outcome.lease)


def _weight(outcome: Outcome) -> int:
    staged = outcome.staged
    return 1000 + len(outcome.answer or b"") + len(staged.data or b"" if staged is not None else b"")


async def _notify(channel: Channel, begun: tuple[Started, ...]) -> None:
    with contextlib.suppress(LinkClosed):
        await channel.notify(claims.STARTED, begun)
