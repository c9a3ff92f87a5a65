"""Batch transform on control's side of the link: objects claimed under lease, durable points, settlements committed.

Output, state and counts of an object are one transaction. What a dispatcher held is free once its process is gone
(`control.dispatchers`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from slipway.control import settling, transforms_settlement
from slipway.control.dispatchers import Dispatchers
from slipway.control.lease_clock import LeaseClock
from slipway.control.settling import Shelves, store_errors
from slipway.control.transforms_log import TransformLog, failure_lines
from slipway.control.transforms_settlement import Settlement
from slipway.core.asynchronous import Staged
from slipway.core.s3_events import SLIPWAY, Origin
from slipway.core.transform_jobs import log_stream
from slipway.core.transforms import BROKEN, CLAIMS, ClaimedObject, ObjectOutcome, parameters_line
from slipway.link import transforms as link
from slipway.link.channel import Channel
from slipway.link.transforms import LEASE_SECONDS, Claim, Heartbeat, Parameters, Reached
from slipway.store import resources, transforms
from slipway.store.db import Connection, Db, StoreError

KIND = "transform-job"
MOST_CLAIMED = 200


@dataclass(frozen=True, slots=True)
class LinkWorld:
    db: Db
    log: TransformLog
    shelves: Shelves | None
    """None: the objects are in an external store."""
    instances: Callable[[str], int]
    """How many instances the job of this ARN has in service."""
    wake: Callable[[str, str], None]
    now: Callable[[], float]
    alive: Callable[[int], bool]
    """Whether a process lives."""
    steady: Callable[[], float]
    """Seconds of a clock that nobody sets, and that stands still while the machine sleeps."""
    origin: Origin = SLIPWAY


class TransformLink:
    """`attach` each channel of the link server. One of these for a control's life."""

    def __init__(self, world: LinkWorld) -> None:
        self._world = world
        self._lease_clock = LeaseClock(LEASE_SECONDS, world.now, world.steady)
        self._dispatchers = Dispatchers(self._gone, lease_seconds=LEASE_SECONDS, now=world.now, alive=world.alive)
        self._renewed: dict[str, float] = {}
        self.under_way: dict[str, dict[int, int]] = {}
        """By job: records that its running objects have done, by object."""

    def attach(self, channel: Channel) -> None:
        """Register the handlers on a new channel, before it reads."""
        channel.on(link.CLAIM, lambda claim: self._claim(channel, claim), Claim)
        channel.on(link.SETTLE, self._settle, tuple[ObjectOutcome, ...])
        channel.on(link.POINT, self._point, Reached)
        channel.on(link.HEARTBEAT, lambda beat: self._heartbeat(channel, beat), Heartbeat)
        channel.on(link.PARAMETERS, self._parameters, Parameters)

    async def close(self) -> None:
        await self._dispatchers.close()

    # ---- what others tell of

    def wake_dispatchers(self, job: str) -> None:
        self._dispatchers.tell(link.WAKE, (job,))

    def cancel(self, ids: Sequence[int]) -> None:
        if ids:
            self._dispatchers.tell(link.CANCEL, tuple(ids))

    # ---- the link

    async def _claim(self, channel: Channel, claim: Claim) -> tuple[ClaimedObject, ...]:
        self._dispatchers.heard(channel, claim.holder)
        world = self._world
        until = world.now() + LEASE_SECONDS
        instances = max(world.instances(claim.job), 1)

        def write(connection: Connection) -> list[ClaimedObject]:
            count = max(0, min(claim.count, MOST_CLAIMED))
            if instances > 1:  # the last objects are for all of them
                left = transforms.queued_up_to(connection, claim.job, 2 * instances * count)
                count = min(count, max(1, left // (2 * instances)))
            return transforms.claim(connection, claim.job, claim.holder, until, count)

        with store_errors():
            return tuple(await world.db.write(write))

    async def _settle(self, outcomes: tuple[ObjectOutcome, ...]) -> tuple[bool, ...]:
        with store_errors():
            async with settling.holding(self._world.shelves, [staged for each in outcomes for staged in each.staged]) as gone:
                lost = {id(staged) for staged in gone}
                sound = [_lost(each) if any(id(staged) in lost for staged in each.staged) else each for each in outcomes]
                return await settling.commit(sound, self._commit, self._committed, _unsettleable)

    async def _commit(self, outcomes: Sequence[ObjectOutcome]) -> Settlement:
        now, origin = self._world.now(), self._world.origin
        return await self._world.db.write(lambda c: transforms_settlement.settle(c, outcomes, now, origin))

    def _committed(self, done: Settlement) -> list[bool]:
        world = self._world
        if done.retired and world.shelves is not None:
            world.shelves.retire(sorted(done.retired))
        for outcome, state in done.ends:
            row = done.rows[outcome.id]
            self.under_way.get(row.job, {}).pop(outcome.id, None)
            job = done.jobs.get(row.job)
            if state == BROKEN and job is not None:
                lines = list(failure_lines(row.bucket, row.key, outcome.cause, outcome.detail))
                world.log.say(job.account, job.region, log_stream(job.name, outcome.instance, job.created), lines)
        for job_arn in {done.rows[id].job for id in (*done.lost, *done.released)}:
            self.wake_dispatchers(job_arn)
        for job_arn in done.complete:
            world.wake(KIND, job_arn)
        return done.answers

    async def _point(self, reached: Reached) -> bool:
        point = reached.point
        segments = tuple((piece.blob, 0, piece.size) for piece in (*point.pieces, *point.errors))
        with store_errors():
            async with settling.holding(self._world.shelves, [Staged("", "", 0, "", "", segments=segments)]) as gone:
                if gone:
                    return False
                return await self._world.db.write(lambda c: transforms.reach(c, reached.id, reached.lease, point))

    async def _heartbeat(self, channel: Channel, beat: Heartbeat) -> tuple[int, ...]:
        """Says how far objects are each second; leases are renewed every third of their time."""
        first = self._dispatchers.heard(channel, beat.holder)
        for each in beat.held:
            self.under_way.setdefault(each.job, {})[each.id] = each.records
        now = self._world.now()
        if not first and now < self._renewed.get(beat.holder, 0.0) + LEASE_SECONDS / 3:
            return ()
        self._renewed[beat.holder] = now
        held = [(each.id, each.lease) for each in beat.held]
        with store_errors():
            lost = await self._world.db.write(lambda c: transforms.heartbeat(c, beat.holder, now + LEASE_SECONDS, held))
        return tuple(lost)

    async def _parameters(self, told: Parameters) -> None:
        now = self._world.now()

        def write(connection: Connection) -> resources.Resource | None:
            job = resources.get_by_arn(connection, told.job)
            if job is not None and job.observed.get("started") is None:
                resources.save(connection, job, replace(job, observed={**job.observed, "started": now}))
            return job

        with store_errors():
            job = await self._world.db.write(write)
        if job is not None:
            stream = log_stream(job.name, told.instance, job.created)
            self._world.log.say(job.account, job.region, stream, [parameters_line(told.found)])

    # ---- the dead

    async def _gone(self, holder: str, since: float) -> None:
        with contextlib.suppress(StoreError):
            await self.reap((holder,))

    async def reap(self, gone: Sequence[str] | None = None) -> None:
        """Queue again what the dead held: these holders, or (None) all whose lease ran out. StoreError."""
        self._lease_clock.mind()
        if gone is None and not self._lease_clock.may_reap:
            return  # they cannot have been renewed yet
        now = self._world.now()

        def write(connection: Connection) -> list[tuple[int, str, int]]:
            found = transforms.reap(connection, now, gone)
            transforms.put_back(connection, [id for id, _, attempts in found if attempts + 1 < CLAIMS], counted=True)
            given_up = [id for id, _, attempts in found if attempts + 1 >= CLAIMS]
            transforms.give_up(connection, given_up, now)
            return found

        found = await self._world.db.write(write)
        for job in {job for _, job, _ in found}:
            self.wake_dispatchers(job)
            self._world.wake(KIND, job)


def _lost(outcome: ObjectOutcome) -> ObjectOutcome:
    """Its content is gone: whoever wrote it died long ago."""
    return replace(outcome, kind="lost", staged=(), cause="Its output was lost before it was settled.")


def _unsettleable(outcome: ObjectOutcome) -> ObjectOutcome:
    """What breaks a transaction even alone ends as a failure without its content."""
    return replace(outcome, kind="failed", cause="The output could not be stored.", staged=(), client=False)
