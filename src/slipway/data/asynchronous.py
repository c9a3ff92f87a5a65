"""Asynchronous inference in a dispatcher: claims requests as containers have room, has them executed, settles them.

One feed for each endpoint claims just so much ahead that its workers never wait for control: what they take at a time, and
what they will have finished before the next claim can be there.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slipway.background import Background
from slipway.backing.objects_errors import ObjectsError
from slipway.backing.objects_staging import Staging
from slipway.core.asynchronous import AsyncOptions, Claimed, Outcome
from slipway.core.routing import RouteTable
from slipway.data.asynchronous_exchange import Exchange, Surroundings
from slipway.data.asynchronous_ledger import Ledger
from slipway.data.asynchronous_places import AsyncSlots, AsyncVariant
from slipway.data.settlements import UNHEARD, Link, Verdict
from slipway.link.channel import Channel
from slipway.link.claims import CANCEL, WAKE, Started

logger = logging.getLogger(__name__)

MOST_AHEAD = 64
"""Requests of one endpoint that are claimed beside those that its workers have: they bound what is held in memory."""
MOST_CLAIMED = 200
"""Requests of one claim."""
_LEAST_AHEAD = ((0.05, 16), (0.1, 8), (1.0, 2), (5.0, 1))
"""Claimed ahead for each worker at least, by the seconds that a request takes; longer ones are not: a claim takes no time
beside them, and what is claimed cannot be claimed by others."""
POLL_SECONDS = 5.0
"""Between two claims of an endpoint that has room, should a wake have been lost."""
LOST_SECONDS = 2.0
"""How long claimed requests wait for a first worker before control has them back."""
UNSETTLED = 1000
"""Settlements that wait for control, beyond which nothing more is claimed; and their bytes."""
UNSETTLED_BYTES = 16 * 1024 * 1024
PUBLISH_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
_CLAIM_SECONDS = 0.01
"""Time of a claim, assumed before the first."""
_RETRY_SECONDS = 0.5


@dataclass(slots=True)
class _Job:
    """A claimed request while it is worked on."""

    claimed: Claimed
    feed: Feed
    task: asyncio.Task[None] | None = None
    exchange: Exchange | None = None
    settling: bool = False
    """Its outcome is known: cancelling would lose it."""
    freed: bool = False

    def cancel(self) -> None:
        """Unless it is on its way to control already."""
        if self.task is not None and not self.settling:
            self.task.cancel()


class Feed:
    """One endpoint's requests on their way to its workers."""

    def __init__(self, key: str, slots: AsyncVariant, options: AsyncOptions, owner: Dispatch) -> None:
        self.key = key
        self.slots = slots
        self.options = options
        self.active = 0
        """Claimed, and no container is done with them yet."""
        self._owner = owner
        self._hungry = True
        """There may be something to claim."""
        self._claiming = False
        self._seconds = _CLAIM_SECONDS
        self._hopeless: asyncio.TimerHandle | None = None
        slots.changed = self.look

    def wake(self) -> None:
        """There is something to claim."""
        self._hungry = True
        self.look()

    def look(self) -> None:
        """Claim if there is room, and enough of it to be worth a message or somebody idle."""
        self._mind_the_waiting()
        if self._claiming or not self._hungry or not self._owner.may_claim:
            return
        workers = self.slots.workers
        ahead = self._ahead(workers)
        room = min(self.slots.places + ahead - self.active, MOST_CLAIMED)
        if not workers or room <= 0 or (room <= ahead // 2 and self.active > workers):
            return
        self._claiming = True
        self._owner.spawn(self._claim(room))

    @property
    def crowded(self) -> bool:
        """Requests wait for a worker."""
        return self.active > self.slots.workers

    def _ahead(self, workers: int) -> int:
        """What the workers finish while a claim is on its way; while requests are short some more, to claim fewer times."""
        service = max(self.slots.service, 1e-5)
        least = next((least for seconds, least in _LEAST_AHEAD if service < seconds), 0)
        return min(MOST_AHEAD, workers * max(least, math.ceil(1.5 * self._seconds / service))) if least else 0

    async def _claim(self, room: int) -> None:
        loop = asyncio.get_running_loop()
        self._hungry = False
        began = loop.time()
        try:
            found = await self._owner.ledger.claim(self.key, room)
        except UNHEARD as error:
            logger.warning("claim-failed", extra={"endpoint": self.key, "error": repr(error)})
            self._hungry = True
            await asyncio.sleep(_RETRY_SECONDS)
            found = ()
        else:
            self._seconds = self._seconds * 0.8 + (loop.time() - began) * 0.2
            self._hungry = self._hungry or len(found) >= room
        finally:
            self._claiming = False
        for claimed in found:
            self._owner.work(claimed, self)
        self.look()

    def _mind_the_waiting(self) -> None:
        """Without a worker, what has been claimed goes back before long."""
        hopeless = bool(self.slots.waiting) and not self.slots.lanes
        if not hopeless and self._hopeless is not None:
            self._hopeless.cancel()
            self._hopeless = None
        elif hopeless and self._hopeless is None:
            self._hopeless = asyncio.get_running_loop().call_later(LOST_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._hopeless = None
        if not self.slots.lanes:
            self.slots.give_up()

    def close(self) -> None:
        self.slots.changed = _nothing
        if self._hopeless is not None:
            self._hopeless.cancel()


class Dispatch:
    """Everything of asynchronous inference in one process. `start` once there is a link; `stop` once."""

    def __init__(
        self,
        slots: AsyncSlots,
        ledger: Callable[[Callable[[Sequence[int]], None]], Ledger],
        staging: Callable[[], Awaitable[Staging]],
        now: Callable[[], float],
        body_bytes: int,
    ) -> None:
        """`ledger` makes it, given who is told of lost leases; `staging` opens it when it is first needed; `now`: epoch."""
        self.slots = slots
        self.ledger = ledger(self.unwanted)
        self._world = Surroundings(staging, now, body_bytes)
        self._staging = staging
        self._feeds: dict[str, Feed] = {}
        self._jobs: dict[int, _Job] = {}
        self._background = Background()
        self._link: Link | None = None
        self._stopping = False

    # ---- the link's side

    def setup(self, channel: Channel) -> None:
        channel.on(WAKE, self.wake, tuple[str, ...])
        channel.on(CANCEL, self.unwanted, tuple[int, ...])

    async def connected(self, channel: Channel) -> None:
        """A (new) control is there."""
        await self.ledger.connected(channel)
        asyncio.get_running_loop().call_soon(self._look_everywhere)

    def _look_everywhere(self) -> None:
        for feed in self._feeds.values():
            feed.wake()

    def wake(self, keys: Sequence[str]) -> None:
        for key in keys:
            if (feed := self._feeds.get(key)) is not None:
                feed.wake()

    def unwanted(self, ids: Sequence[int]) -> None:
        """Cancelled, or not ours any more: the container's answer is for nobody."""
        for id in ids:
            if (job := self._jobs.get(id)) is not None:
                job.cancel()

    def apply(self, table: RouteTable) -> None:
        """Take over a new table."""
        self.slots.apply(table)
        feeds, self._feeds = self._feeds, {}
        for key, endpoint in self.slots.endpoints.items():
            slots = next(iter(endpoint.by_name.values()))
            options = endpoint.endpoint.asynchronous
            assert isinstance(slots, AsyncVariant)
            assert options is not None
            feed = feeds.get(key)
            if feed is None or feed.slots is not slots:
                feed = Feed(key, slots, options, self)
            else:
                del feeds[key]
            feed.options = options
            self._feeds[key] = feed
            feed.wake()
        for feed in feeds.values():
            feed.close()

    # ---- its life

    def start(self, link: Link) -> None:
        self._link = link
        self.ledger.start(link)
        self.spawn(self._poll())

    async def stop(self, grace: float) -> None:
        """Claim no more, give back what no container has; what runs may finish for `grace` seconds, then it counts as lost."""
        self._stopping = True
        for job in list(self._jobs.values()):
            if job.exchange is None or not job.exchange.begun:
                job.cancel()
        await self._until_done(grace)
        for job in list(self._jobs.values()):
            job.cancel()
        await self._until_done(1.0)
        await self._background.close()
        await self.ledger.close()
        for feed in self._feeds.values():
            feed.close()

    async def _until_done(self, seconds: float) -> None:
        running = [job.task for job in self._jobs.values() if job.task is not None]
        if running:
            await asyncio.wait(running, timeout=seconds)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._background.spawn(work)

    @property
    def may_claim(self) -> bool:
        if self._stopping or self._link is None or self._link.channel is None:
            return False
        waiting = self.ledger.settlements
        return waiting.unsent < UNSETTLED and waiting.weight < UNSETTLED_BYTES

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._look_everywhere()

    # ---- one request

    def work(self, claimed: Claimed, feed: Feed) -> None:
        feed.active += 1
        self._jobs[claimed.id] = job = _Job(claimed, feed)
        job.task = self.spawn(self._work(job))
        job.task.add_done_callback(functools.partial(self._ended, job))

    async def _work(self, job: _Job) -> None:
        staged = job.claimed.publish
        if staged is not None:
            job.settling = True
            self._freed(job)
            await self._publish(Outcome(job.claimed.id, job.claimed.lease, "published", staged=staged))
            return
        outcome = await self._execute(job)
        job.settling = True
        job.exchange = None
        job.claimed = replace(job.claimed, body=None)  # it may wait a while for control
        if outcome is not None:
            await self._settle(outcome, patient=job.feed.crowded)

    def _ended(self, job: _Job, task: asyncio.Task[None]) -> None:
        self._freed(job)
        self.ledger.drop(job.claimed.id, job.claimed.lease)
        if self._jobs.get(job.claimed.id) is job:
            del self._jobs[job.claimed.id]
        job.feed.look()
        job.task = job.exchange = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("request-broke", exc_info=error, extra={"endpoint": job.feed.key, "id": job.claimed.id})

    async def _execute(self, job: _Job) -> Outcome | None:
        """None: nobody wants it."""
        exchange = job.exchange = Exchange(job.claimed, self._world, self._began, lambda: self._freed(job))
        try:
            return await exchange.run(job.feed.slots, job.feed.options)
        except asyncio.CancelledError:
            if not self._stopping:
                return None
            if exchange.begun:
                return exchange.outcome("lost", "no-answer", "slipway was stopped while the request was being processed.")
            return exchange.outcome("released")
        except Exception:
            logger.exception("exchange-broke", extra={"endpoint": job.feed.key})
            return exchange.outcome("lost", "no-answer", "The dispatcher failed while it processed the request.")

    def _freed(self, job: _Job) -> None:
        """Its place on the worker is free; once for each."""
        if not job.freed:
            job.freed = True
            job.feed.active -= 1
            job.feed.look()

    def _began(self, exchange: Exchange) -> None:
        claimed, timing = exchange.claimed, exchange.timing
        self.ledger.began(Started(claimed.id, claimed.lease, timing.started or 0.0, exchange.variant, timing.instance))

    async def _settle(self, outcome: Outcome, patient: bool) -> None:
        external = outcome.staged is not None and outcome.staged.attempt_key is not None
        verdict = await self.ledger.settle(outcome, keep=external, patient=patient)
        if not verdict.good:
            await self._void(outcome, verdict)
        elif external:
            await self._publish(replace(outcome, kind="published", answer=None))

    async def _void(self, outcome: Outcome, verdict: Verdict) -> None:
        """Somebody else settles it, or has; what was staged is garbage, unless an earlier word of ours has counted."""
        logger.info("settlement-void", extra={"id": outcome.id, "lease": outcome.lease, "kind": outcome.kind})
        if outcome.staged is not None and verdict.sure:
            await (await self._staging()).discard(outcome.staged)

    async def _publish(self, published: Outcome) -> None:
        """Show the answer in the external store, then say so. Given up, it is claimed again by whoever finds it."""
        assert published.staged is not None
        staging = await self._staging()
        for pause in (*PUBLISH_PAUSES, 0.0):
            try:
                await staging.publish(published.staged)
            except (ObjectsError, OSError) as error:
                logger.warning("publication-failed", extra={"id": published.id, "error": repr(error)})
                await asyncio.sleep(pause)
            else:
                await self.ledger.settle(published)
                return
        await self.ledger.settle(Outcome(published.id, published.lease, "released"))


def _nothing() -> None:
    """Nobody listens any more."""
