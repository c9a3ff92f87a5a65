"""What a dispatcher holds of control's transform jobs: claims, leases, durable points, settlements."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from slipway.core.transforms import ClaimedObject, ObjectOutcome, Point
from slipway.data.ledgers import LeaseLedger, Terms
from slipway.data.settlements import UNHEARD, Verdict
from slipway.link import transforms
from slipway.link.transforms import Claim, Heartbeat, Held, Parameters, Reached

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
"""Between two words on how far objects are; leases last longer by far."""


class TransformLedger(LeaseLedger[ObjectOutcome]):
    """`held` says what is being worked on; `on_lost` is told of objects that this process is not to work on any more."""

    def __init__(self, holder: str, held: Callable[[], Iterable[Held]], on_lost: Callable[[Sequence[int]], None]) -> None:
        super().__init__(Terms(transforms.SETTLE, transforms.HEARTBEAT, Heartbeat, BEAT_SECONDS, _weight), holder, on_lost)
        self._held = held

    def under_lease(self) -> Mapping[int, Held]:
        return {each.id: each for each in self._held()}

    async def claim(self, job: str, count: int) -> Sequence[ClaimedObject]:
        """Up to `count` objects of the job. Raises as `ask`."""
        found: tuple[ClaimedObject, ...] = await self.ask(
            transforms.CLAIM, Claim(self.holder, job, count), tuple[ClaimedObject, ...]
        )
        return found

    async def parameters(self, told: Parameters) -> None:
        """For the job's log; raises as `ask`."""
        await self.ask(transforms.PARAMETERS, told)

    async def point(self, id: int, lease: int, point: Point) -> bool | None:
        """Whether it is committed; None: nobody can say now, it may be."""
        try:
            return bool(await self.ask(transforms.POINT, Reached(id, lease, point), bool))
        except UNHEARD as error:
            logger.warning("durable-point-not-told", extra={"id": id, "error": repr(error)})
            return None

    async def settle(self, outcome: ObjectOutcome) -> Verdict:
        """As `Settlements.say`."""
        return await self.settlements.say(outcome)


def _weight(outcome: ObjectOutcome) -> int:
    return 1000 + sum(len(staged.data or b"") for staged in outcome.staged)
