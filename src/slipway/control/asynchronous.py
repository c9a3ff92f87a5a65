"""Asynchronous inference on control's side of the link: batches accepted, claims leased, settlements committed.

What a dispatcher held is free once its process is gone (`control.dispatchers`). Leases are not looked at in the first
LEASE_SECONDS of a control: until then those that an earlier one gave cannot have been renewed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from slipway.background import Background
from slipway.control import settling
from slipway.control.asynchronous_ends import Ends
from slipway.control.dispatchers import Dispatchers
from slipway.control.lease_clock import LeaseClock
from slipway.control.settling import Shelves, store_errors
from slipway.core.asynchronous import RUNNING, AcceptAnswer, AcceptRequest, Claimed, Outcome
from slipway.link import claims
from slipway.link.channel import Channel, LinkError
from slipway.link.claims import LEASE_SECONDS, Claim, Heartbeat, Started
from slipway.store import jobs_claims, jobs_settle
from slipway.store.db import Connection, Db, StoreError
from slipway.store.jobs import Place
from slipway.store.jobs_claims import Taker
from slipway.store.jobs_settle import Result, Rules

logger = logging.getLogger(__name__)

KIND = "async"
"""For the reconciler; its one key is empty."""
SCALING = "scaling"
MOST_CLAIMED = 256
"""Requests of one CLAIM: with an inline body each, they still fit into a message."""
MOST_HELD = 100_000
STARTED_SECONDS = 0.05
"""STARTED is for the status, and tells an attempt from a claim: written when this has passed, unless the request has ended."""
SCALING_SECONDS = 0.25
"""Between two wakes of the autoscaler for one endpoint without instances."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What asynchronous inference works with."""

    db: Db
    rules: Rules
    accept: Callable[[Sequence[AcceptRequest]], Awaitable[tuple[AcceptAnswer, ...]]]
    """`services.runtime.invoke_async`."""
    ends: Ends
    shelves: Shelves | None
    """None: the objects are in an external store."""
    instances: Callable[[str], int]
    """How many instances the endpoint of this ARN has in service."""
    wake: Callable[[str, str], None]
    now: Callable[[], float]
    """Epoch seconds."""
    roll: Callable[[], float]
    """Chance, 0 ≤ roll < 1."""
    alive: Callable[[int], bool]
    """Whether a process lives."""
    steady: Callable[[], float]
    """Seconds of a clock that nobody sets, and that stands still while the machine sleeps."""


class Asynchronous:
    """`attach` each channel of the link server. One of these for a control's life."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self._lease_clock = LeaseClock(LEASE_SECONDS, world.now, world.steady)
        self._dispatchers = Dispatchers(self._gone, lease_seconds=LEASE_SECONDS, now=world.now, alive=world.alive)
        self._background = Background()
        self._waking: set[str] = set()
        self._scaled: dict[str, bool] = {}
        """ARNs for which the autoscaler was woken just now; True: again since then."""
        self._started: dict[int, Started] = {}

    def attach(self, channel: Channel) -> None:
        """Register the handlers on a new channel, before it reads."""
        channel.on(claims.ACCEPT, self._accept, tuple[AcceptRequest, ...])
        channel.on(claims.CLAIM, lambda claim: self._claim(channel, claim), Claim)
        channel.on(claims.SETTLE, self._settle, tuple[Outcome, ...])
        channel.on(claims.STARTED, self._start, tuple[Started, ...])
        channel.on(claims.HEARTBEAT, lambda beat: self._heartbeat(channel, beat), Heartbeat)

    async def close(self) -> None:
        await self._dispatchers.close()
        await self._background.close()
        await self._world.ends.close()

    @property
    def may_reap(self) -> bool:
        """Every lease has had its chance to be renewed since this control began, and since the clock was set."""
        return self._lease_clock.may_reap

    def mind_the_clock(self) -> None:
        """Call it before `may_reap`, often."""
        self._lease_clock.mind()

    def connected(self, holder: str) -> bool:
        return self._dispatchers.connected(holder)

    # What others tell of, after their commit

    def arrived(self, places: Iterable[Place]) -> None:
        """Requests were queued: dispatchers claim them; where there is no instance, the autoscaler hears of it."""
        for place in places:
            if self._world.instances(place.arn) == 0:  # a dispatcher claims once it has somewhere to send them
                self._scale(place.arn)
            else:
                self.wake_dispatchers(place.key)

    def ended(self, result: Result) -> None:
        """A transaction ended requests or put them back."""
        self._world.ends.tell(result.settled)
        if result.retired and self._world.shelves is not None:
            self._world.shelves.retire(result.retired)
        unwanted = [each.job for each in result.settled if each.job.state == RUNNING and each.outcome is None]
        if unwanted:
            self._dispatchers.tell(claims.CANCEL, tuple(job.id for job in unwanted))
        for key, ready_at in result.requeued.items():
            if ready_at <= self._world.now():
                self.wake_dispatchers(key)
        if any(ready_at > 0 for ready_at in result.requeued.values()):
            self._world.wake(KIND, "")

    def wake_dispatchers(self, key: str) -> None:
        """There is something to claim for the endpoint: all that came in one turn of the loop go in one message."""
        if not self._waking:
            asyncio.get_running_loop().call_soon(self._wake_now)
        self._waking.add(key)

    def _wake_now(self) -> None:
        keys, self._waking = tuple(sorted(self._waking)), set()
        self._dispatchers.tell(claims.WAKE, keys)

    def _scale(self, arn: str) -> None:
        if arn in self._scaled:
            self._scaled[arn] = True
            return
        self._scaled[arn] = False
        self._world.wake(SCALING, arn)
        asyncio.get_running_loop().call_later(SCALING_SECONDS, self._scaled_long_ago, arn)

    def _scaled_long_ago(self, arn: str) -> None:
        if self._scaled.pop(arn, False):
            self._scale(arn)

    # The link

    async def _accept(self, batch: tuple[AcceptRequest, ...]) -> tuple[AcceptAnswer, ...]:
        return await self._world.accept(batch)

    async def _claim(self, channel: Channel, claim: Claim) -> tuple[Claimed, ...]:
        self._dispatchers.heard(channel, claim.holder)
        parts = claim.endpoint.split("/")
        if len(parts) != 3:
            raise LinkError("bad-endpoint", "an endpoint is named account/region/name")
        account, region, endpoint = parts
        world, count = self._world, min(max(claim.count, 0), MOST_CLAIMED)
        now = world.now()
        taker = Taker(claim.holder, now + LEASE_SECONDS)
        with store_errors():
            claimed, result = await world.db.write(
                lambda c: jobs_claims.claim(c, account, region, endpoint, taker, count, world.rules, now)
            )
        self.ended(result)
        return tuple(claimed)

    async def _settle(self, outcomes: tuple[Outcome, ...]) -> tuple[bool, ...]:
        for outcome in outcomes:
            self._started.pop(outcome.id, None)
        with store_errors():
            async with settling.holding(self._world.shelves, [o.staged for o in outcomes if o.staged is not None]) as gone:
                lost = {id(staged) for staged in gone}
                sound = [_lost(o) if id(o.staged) in lost else o for o in outcomes]
                return await settling.commit(sound, self._commit, self._committed, _unsettleable)

    async def _commit(self, outcomes: Sequence[Outcome]) -> tuple[list[bool], Result]:
        world = self._world
        now, roll = world.now(), world.roll()
        return await world.db.write(lambda c: jobs_settle.settle(c, outcomes, world.rules, now, roll))

    def _committed(self, done: tuple[list[bool], Result]) -> list[bool]:
        answers, result = done
        self.ended(result)
        return answers

    def _start(self, started: tuple[Started, ...]) -> None:
        if not self._started:
            self._background.spawn(self._write_started_soon())
        self._started.update((each.id, each) for each in started)

    async def _write_started_soon(self) -> None:
        await asyncio.sleep(STARTED_SECONDS)
        await self._write_started()

    async def _write_started(self) -> None:
        found, self._started = self._started, {}
        values = [(each.id, each.lease, each.at, each.variant, each.instance) for each in found.values()]
        try:
            if values:
                await self._world.db.write(lambda c: jobs_claims.started(c, values))
        except StoreError as error:
            logger.warning("started-not-written", extra={"error": str(error)})

    async def _heartbeat(self, channel: Channel, beat: Heartbeat) -> tuple[int, ...]:
        """The first one on a channel comes before any claim on it: what it does not name, its holder never heard of."""
        first = self._dispatchers.heard(channel, beat.holder)
        if len(beat.held) > MOST_HELD:
            raise LinkError("too-many", f"a dispatcher holds {MOST_HELD} requests at most")
        taker = Taker(beat.holder, self._world.now() + LEASE_SECONDS)
        held = {id for id, _ in beat.held}

        def write(connection: Connection) -> tuple[list[int], Result]:
            lost = jobs_claims.heartbeat(connection, taker, beat.held)
            return lost, jobs_claims.unheard(connection, beat.holder, held) if first else Result()

        with store_errors():
            lost, unheard = await self._world.db.write(write)
        self.ended(unheard)
        return tuple(lost)

    # Dispatchers come and go

    async def _gone(self, holder: str, since: float) -> None:
        """Of what it claimed since then, it has told what a container has."""
        await self.free({holder}, since)

    async def free(self, holders: set[str], told_since: float | None = None) -> None:
        """Take back what these held: their processes are gone. `told_since`: see `jobs_claims.reap`."""
        logger.info("dispatcher-gone", extra={"holders": sorted(holders)})
        await self._write_started()  # what a container had has cost an attempt
        try:
            while await self._free_some(holders, told_since):
                pass
        except StoreError as error:
            logger.warning("leases-not-freed", extra={"error": str(error)})

    async def _free_some(self, holders: set[str], told_since: float | None) -> bool:
        world = self._world
        now, roll = world.now(), world.roll()
        result = await world.db.write(
            lambda c: jobs_claims.reap(c, world.rules, now, roll, gone=holders, overdue=False, told_since=told_since)
        )
        self.ended(result)
        return bool(result.settled or result.requeued)


def _lost(outcome: Outcome) -> Outcome:
    """Its content is gone: the process that staged it died, and this word came late."""
    return replace(outcome, kind="lost", staged=None, cause="The answer was lost with the dispatcher that had it.")


def _unsettleable(outcome: Outcome) -> Outcome:
    """What breaks a transaction even alone ends as a failure without its content."""
    cause = "slipway could not keep the answer; its log has the cause."
    return replace(outcome, kind="failed", cause_kind="upload", cause=cause, staged=None, answer=None, content_type="")
