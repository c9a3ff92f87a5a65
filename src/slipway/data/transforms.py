"""Batch transform in a dispatcher: each instance of a job gets objects as it has room, has them carried through, settles them.

The instances' places are asynchronous inference's (`data.asynchronous_places`), one variant for each instance, so that an
object stays with one. What holds for the job (concurrency, payload, strategy) is settled once: from the request, else from
the container's /execution-parameters, else AWS's defaults.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from slipway.background import Background
from slipway.backing.objects_errors import ObjectsError
from slipway.backing.objects_staging import Staging
from slipway.core.routing import RouteTable
from slipway.core.transforms import ClaimedObject, Effective, ObjectOutcome, TransformOptions, effective
from slipway.data.asynchronous_places import AsyncVariant
from slipway.data.lanes import Lane
from slipway.data.settlements import UNHEARD, Link
from slipway.data.slots import EndpointSlots
from slipway.data.transforms_budget import Budget, budget_for
from slipway.data.transforms_calls import Caller
from slipway.data.transforms_ledger import TransformLedger
from slipway.data.transforms_object import LeaseLost, ObjectRun, Place
from slipway.data.transforms_places import TransformSlots, TransformVariant
from slipway.http.client import ConnectFailed, NoAnswer
from slipway.http.messages import BodyTooLarge, ClientGone
from slipway.link.channel import Channel
from slipway.link.transforms import CANCEL, WAKE, Held, Parameters

logger = logging.getLogger(__name__)

BESIDE = 3
"""Objects of an instance that are read or written while others have its container."""
BESIDE_LARGE = 1
"""The same, of objects of several requests each: what one instance holds at the end of a job, no other one works at."""
BESIDE_SMALL = 40
"""The same, of objects that are small: what a claim and a settlement cost is shared by as many."""
SMALL = 64 * 1024
POLL_SECONDS = 5.0
AWAY_SECONDS = 10.0
"""For so long requests wait for a control that is away before they begin without it."""
_RETRY_SECONDS = 0.5
_PARAMETER_BYTES = 64 * 1024
_PARAMETER_SECONDS = 10.0
_PUBLISH_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(slots=True)
class _Active:
    claimed: ClaimedObject
    run: ObjectRun | None = None
    task: asyncio.Task[None] | None = None
    settling: bool = False


class Job:
    """What this dispatcher knows of a job."""

    def __init__(self, options: TransformOptions) -> None:
        self.options = options
        self.found: Effective | None = None
        self.asking = False


class InstanceFeed:
    """One instance, and the objects that it is given."""

    def __init__(self, job: Job, stages: Sequence[AsyncVariant], owner: Transforms) -> None:
        self.job = job
        self.stages = tuple(stages)
        """One for each container, in order."""
        self.active: dict[int, _Active] = {}
        self._owner = owner
        self._budget: Budget | None = None
        self._claiming = False
        self._hungry = True
        self._beside = BESIDE_LARGE
        for slots in stages:
            slots.changed = self.look

    @property
    def instance(self) -> str:
        return self.stages[0].variant.name

    def wake(self) -> None:
        for slots in self.stages:
            if isinstance(slots, TransformVariant):
                slots.resume()
        self._hungry = True
        self.look()

    def look(self) -> None:
        """Claim if there is room."""
        if not self._owner.may_claim or any(not slots.lanes or slots.retired for slots in self.stages):
            return
        found = self.job.found
        if found is None:
            self._owner.ask(self.job, self.stages[0].lanes[0], min(_workers(slots) for slots in self.stages))
            return
        if self._budget is None:
            self._budget = self._settle_in(found)
        room = found.concurrent + self._beside - len(self.active)
        if room <= (self._beside // 2 if self.active else 0) or self._claiming or not self._hungry:
            return
        self._claiming = True
        self._owner.spawn(self._claim(room))

    def _settle_in(self, found: Effective) -> Budget:
        for slots in self.stages:
            # As many as there are workers is no bound at all: each may have the next request sent ahead.
            slots.most = 0 if slots.lanes[0].ours and found.concurrent >= _workers(slots) else found.concurrent
        return budget_for((found.payload_mb << 20) or (100 << 20), found.concurrent)

    async def _claim(self, room: int) -> None:
        try:
            claimed = await self._owner.ledger.claim(self.job.options.job, room)
        except UNHEARD as error:
            logger.warning("transform-claim-failed", extra={"job": self.job.options.job, "error": repr(error)})
            await asyncio.sleep(_RETRY_SECONDS)
            claimed = ()
        else:
            self._hungry = bool(claimed)
            self._beside = self._beside_of([each.size for each in claimed]) if claimed else self._beside
        finally:
            self._claiming = False
        for each in claimed:
            self._work(each)
        self.look()

    def _beside_of(self, sizes: Sequence[int]) -> int:
        """How many objects beside those at the container, after such ones; a size of 0 is not known."""
        if all(0 < size <= SMALL for size in sizes):
            return BESIDE_SMALL
        found = self.job.found
        request = (found.payload_mb << 20) if found is not None else 0
        return BESIDE_LARGE if request and min(sizes) > request else BESIDE

    def _work(self, claimed: ClaimedObject) -> None:
        self.active[claimed.id] = active = _Active(claimed)
        active.task = self._owner.spawn(self._carry(active))
        active.task.add_done_callback(lambda task: self._ended(active, task))

    def _ended(self, active: _Active, task: asyncio.Task[None]) -> None:
        self.active.pop(active.claimed.id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("object-broke", exc_info=error, extra={"job": self.job.options.job, "id": active.claimed.id})
        self.look()

    async def _carry(self, active: _Active) -> None:
        claimed = active.claimed
        if claimed.publish:
            active.settling = True
            await self._publish(ObjectOutcome(claimed.id, claimed.lease, "published", staged=claimed.publish))
            return
        outcome = await self._execute(active)
        active.settling = True
        if outcome is None:
            return
        verdict = await self._owner.ledger.settle(outcome)
        external = any(staged.attempt_key is not None for staged in outcome.staged)
        if verdict.good and external:
            await self._publish(replace(outcome, kind="published"))
        elif not verdict.good:
            logger.info("object-settlement-void", extra={"id": claimed.id, "lease": claimed.lease})
            if verdict.sure and active.run is not None and not active.run.shared:
                for staged in outcome.staged:
                    await (await self._owner.staging()).discard(staged)

    async def _execute(self, active: _Active) -> ObjectOutcome | None:
        """None: it is not ours any more."""
        assert self.job.found is not None
        assert self._budget is not None
        place = Place(
            await self._owner.staging(),
            self.job.options,
            self.job.found,
            self._budget,
            Caller(self.stages, self.job.options),
            self.instance,
            self._owner.now,
            self._owner.ledger.point,
        )
        run = active.run = ObjectRun(active.claimed, place)
        try:
            return await run.run()
        except LeaseLost:
            return None
        except Exception:
            logger.exception("object-run-broke", extra={"job": self.job.options.job, "id": active.claimed.id})
            claimed = active.claimed
            cause = "The dispatcher failed while it processed the object."
            return ObjectOutcome(claimed.id, claimed.lease, "lost", cause, instance=self.instance)

    async def _publish(self, published: ObjectOutcome) -> None:
        """Show it in the external store, then say so; given up, it is claimed again by whoever finds it."""
        staging = await self._owner.staging()
        for pause in (*_PUBLISH_PAUSES, 0.0):
            try:
                for staged in published.staged:
                    await staging.publish(staged)
            except (ObjectsError, OSError) as error:
                logger.warning("publication-failed", extra={"id": published.id, "error": repr(error)})
                await asyncio.sleep(pause)
            else:
                await self._owner.ledger.settle(published)
                return
        await self._owner.ledger.settle(ObjectOutcome(published.id, published.lease, "released"))

    def cancel(self, id: int) -> None:
        active = self.active.get(id)
        if active is not None and active.task is not None and not active.settling:
            active.task.cancel()

    def close(self) -> None:
        for slots in self.stages:
            slots.changed = _nothing

    def held(self) -> Iterator[Held]:
        for active in self.active.values():
            run = active.run
            yield Held(
                active.claimed.id,
                active.claimed.lease,
                self.job.options.job,
                run.records if run is not None else 0,
                run.bytes_in if run is not None else 0,
            )


class Transforms:
    """Everything of batch transform in one process. `start` once there is a link; `stop` once."""

    def __init__(
        self, slots: TransformSlots, holder: str, staging: Callable[[], Awaitable[Staging]], now: Callable[[], float]
    ) -> None:
        self.slots = slots
        self.staging = staging
        self.now = now
        self.ledger = TransformLedger(holder, self._held, self.unwanted)
        self._jobs: dict[str, Job] = {}
        self._feeds: dict[tuple[str, str], InstanceFeed] = {}
        self._leaving: list[InstanceFeed] = []
        self._background = Background()
        self._stopping = False
        self._away: float | None = None
        """Since when control is away."""
        slots.away = self._control_away

    def _control_away(self) -> bool:
        """It is back within a second or so; if not, work goes on without it."""
        if self.ledger.channel is not None:
            self._away = None
            return False
        now = asyncio.get_running_loop().time()
        self._away = now if self._away is None else self._away
        return now - self._away < AWAY_SECONDS

    def setup(self, channel: Channel) -> None:
        channel.on(WAKE, self.wake, tuple[str, ...])
        channel.on(CANCEL, self.unwanted, tuple[int, ...])

    async def connected(self, channel: Channel) -> None:
        """A (new) control is there."""
        await self.ledger.connected(channel)
        asyncio.get_running_loop().call_soon(self.look_everywhere)

    def _held(self) -> Iterator[Held]:
        for feed in (*self._feeds.values(), *self._leaving):
            yield from feed.held()

    def look_everywhere(self) -> None:
        for feed in list(self._feeds.values()):
            feed.wake()

    def wake(self, jobs: Sequence[str]) -> None:
        for feed in list(self._feeds.values()):
            if feed.job.options.job in jobs:
                feed.wake()

    def unwanted(self, ids: Sequence[int]) -> None:
        """Stopped, or not ours any more."""
        for feed in (*self._feeds.values(), *self._leaving):
            for id in ids:
                feed.cancel(id)

    def apply(self, table: RouteTable) -> None:
        """Take over a new table."""
        self.slots.apply(table)
        before, self._feeds = self._feeds, {}
        jobs: dict[str, Job] = {}
        for key, endpoint in self.slots.endpoints.items():
            options = endpoint.endpoint.transform
            assert options is not None
            job = jobs[key] = self._jobs.get(key) or Job(options)
            for name, stages in _by_instance(endpoint).items():
                feed = before.pop((key, name), None)
                if feed is None or feed.stages != stages or feed.job is not job:
                    feed = InstanceFeed(job, stages, self)
                self._feeds[key, name] = feed
        self._jobs = jobs
        for feed in before.values():
            feed.close()
        self._leaving = [feed for feed in (*self._leaving, *before.values()) if feed.active]
        for feed in list(self._feeds.values()):
            feed.look()

    # ---- what holds for a job

    def ask(self, job: Job, lane: Lane, workers: int) -> None:
        """Find out what holds, once; those who wait for it look again."""
        if not job.asking:
            job.asking = True
            self.spawn(self._ask(job, lane, workers))

    async def _ask(self, job: Job, lane: Lane, workers: int) -> None:
        try:
            told: Mapping[str, Any] = {} if lane.ours else await _execution_parameters(lane)
            found = effective(job.options, told, workers if lane.ours else 1)
            await self.ledger.parameters(Parameters(job.options.job, lane.instance, found))
            job.found = found
        except UNHEARD as error:
            logger.warning("parameters-not-told", extra={"job": job.options.job, "error": repr(error)})
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            job.asking = False
        for feed in list(self._feeds.values()):
            if feed.job is job:
                feed.look()

    # ---- life

    def start(self, link: Link) -> None:
        self.ledger.start(link)
        self.spawn(self._poll())

    async def stop(self) -> None:
        """What is under way is cut: its leases are free as soon as this process is gone."""
        self._stopping = True
        await self._background.close()
        await self.ledger.close()

    @property
    def may_claim(self) -> bool:
        return not self._stopping and self.ledger.channel is not None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._background.spawn(work)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._leaving = [feed for feed in self._leaving if feed.active]
            self.look_everywhere()


def _workers(slots: AsyncVariant) -> int:
    """That an instance's container has, those included that are not connected to yet."""
    return max(1, sum(len(replica.workers) for replica in slots.variant.replicas))


def _by_instance(endpoint: EndpointSlots) -> Mapping[str, tuple[AsyncVariant, ...]]:
    """The places of each instance's containers, in order."""
    found: dict[str, list[AsyncVariant]] = {}
    for name, slots in endpoint.by_name.items():
        assert isinstance(slots, AsyncVariant)
        found.setdefault(name.partition("#")[0], []).append(slots)
    return {instance: tuple(stages) for instance, stages in found.items()}


async def _execution_parameters(lane: Lane) -> Mapping[str, Any]:
    """Optional: whatever is no JSON object of a 200 means that the container supplies none."""
    try:
        async with asyncio.timeout(_PARAMETER_SECONDS):
            response = await lane.pool.request("GET", b"/execution-parameters", [])
            body = await response.read(_PARAMETER_BYTES)
    except (ConnectFailed, NoAnswer, ClientGone, BodyTooLarge, TimeoutError):
        return {}
    if response.status != 200:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _nothing() -> None:
    """Nobody listens any more."""
