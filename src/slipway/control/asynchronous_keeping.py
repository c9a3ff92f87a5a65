"""What happens to asynchronous requests when nobody asks: expiry, lost leases, retries, orphans, old records; kind `async`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from slipway.control.asynchronous import Asynchronous, Surroundings
from slipway.core.asynchronous import Staged
from slipway.store import jobs, jobs_claims, jobs_places, jobs_publications
from slipway.store.db import Connection
from slipway.store.jobs import Queue
from slipway.store.jobs_places import Version
from slipway.store.jobs_settle import Result

logger = logging.getLogger(__name__)

BUSY_SECONDS = 1.0
"""Between two looks while requests wait or run."""
IDLE_SECONDS = 5.0
FORGET_SECONDS = 60.0
ADOPT_SECONDS = 2.0
"""After control's start, until dispatchers have connected: whose process is gone by then does not."""
ROUNDS = 20
"""Transactions of one kind of work in one look, so that a million orphans do not hold up the rest."""

PutFailure = Callable[[str, str, str], Awaitable[bool]]
"""Give an external store a failure object (account, location, content); False: try again later."""
Publish = Callable[[Staged], Awaitable[bool]]
"""Show an answer in an external store under its key; False: try again later."""


class Keeping:
    """`reconcile` is the reconciler's for kind `async`."""

    def __init__(
        self,
        world: Surroundings,
        asynchronous: Asynchronous,
        *,
        kept_seconds: float,
        put_failure: PutFailure | None = None,
        publish: Publish | None = None,
    ) -> None:
        """`kept_seconds`: of a settled request's record. `put_failure`, `publish`: where objects are in an external store."""
        self._world = world
        self._asynchronous = asynchronous
        self._kept_seconds = kept_seconds
        self._put_failure = put_failure
        self._publish = publish
        self._began = world.now()
        self._adopted = False
        self._forgot = 0.0
        self._versions: dict[int, Version] = {}
        """Of the endpoints whose options the busy queues have, by queue."""

    async def reconcile(self, key: str) -> float | None:
        """Do what is due; seconds until the next look. Only the empty key means anything."""
        if key:
            return None
        world, now = self._world, self._world.now()
        self._asynchronous.mind_the_clock()
        busy = await world.db.read(jobs_places.busy_queues)
        soon = BUSY_SECONDS if busy else IDLE_SECONDS
        if busy:
            await self._refresh(busy)
            soon = min(soon, await self._retries(now))
            await self._rounds(lambda c: jobs_claims.expire(c, world.rules, world.now()))
            await self._rounds(lambda c: jobs_claims.orphans(c, world.rules, world.now()))
            if self._asynchronous.may_reap:
                roll = world.roll()
                await self._rounds(lambda c: jobs_claims.reap(c, world.rules, world.now(), roll))
            if self._publish is not None:
                await self._publish_orphans(self._publish)
        await self._adopt(now)
        if self._put_failure is not None and await self._pay(self._put_failure):
            soon = min(soon, BUSY_SECONDS)
        if now - self._forgot >= FORGET_SECONDS:
            self._forgot = now
            await self._forget(now - self._kept_seconds)
        return soon

    async def _refresh(self, busy: Sequence[Queue]) -> None:
        """Requests end with the topics that their endpoint has now, also if it was updated after they were accepted."""

        def refresh(connection: Connection) -> dict[int, Version]:
            seen: dict[int, Version] = {}
            for queue in busy:
                place = queue.place
                found = jobs_places.find(connection, place.account, place.region, place.endpoint)
                if found is None or found.place != place:
                    continue
                seen[queue.id] = found.version
                if self._versions.get(queue.id) == found.version:
                    continue
                if (options := jobs_places.options(connection, place)) is not None:
                    jobs.open_queue(connection, place, options)
            return seen

        self._versions = await self._world.db.write(refresh)

    async def _retries(self, now: float) -> float:
        """Wake dispatchers for requests whose next attempt is due; seconds until the next ones are."""
        ready, later = await self._world.db.write(lambda c: jobs_claims.due(c, now))
        for key in ready:
            self._asynchronous.wake_dispatchers(key)
        return BUSY_SECONDS if later is None else max(0.01, later - now)

    async def _rounds(self, work: Callable[[Connection], Result]) -> None:
        for _ in range(ROUNDS):
            result = await self._world.db.write(work)
            self._asynchronous.ended(result)
            if not result.settled and not result.requeued:
                return

    async def _adopt(self, now: float) -> None:
        """Once: what dispatchers held that died with the control before this one."""
        if self._adopted or now < self._began + ADOPT_SECONDS:
            return
        self._adopted = True
        holders = await self._world.db.read(jobs_claims.holders)
        gone = {each for each in holders if not self._asynchronous.connected(each) and not self._alive(each)}
        if gone:
            await self._asynchronous.free(gone)

    def _alive(self, holder: str) -> bool:
        """Whether the process of a holder (`pid.incarnation`) may live."""
        pid = holder.partition(".")[0]
        return not pid.isdecimal() or self._world.alive(int(pid))

    async def _pay(self, put: PutFailure) -> bool:
        """Failure objects that an external store has yet to be given; whether some are still owed."""
        owed = await self._world.db.read(jobs_claims.owed)
        paid = [ident for ident, account, location, content in owed if await put(account, location, content)]
        await self._world.db.write(lambda c: jobs_claims.paid(c, paid))
        return len(paid) < len(owed) or len(owed) == jobs_claims.CHUNK

    async def _publish_orphans(self, publish: Publish) -> None:
        """Answers whose endpoint went before they were shown: no dispatcher claims for it any more."""
        found = await self._world.db.read(jobs_publications.unpublished)
        shown = [ident for ident, staged in found if await publish(staged)]
        if shown:
            world = self._world
            result = await world.db.write(lambda c: jobs_publications.published(c, shown, world.rules, world.now()))
            self._asynchronous.ended(result)

    async def _forget(self, before: float) -> None:
        for _ in range(ROUNDS):
            if await self._world.db.write(lambda c: jobs_claims.forget(c, before)) == 0:
                return
        self._forgot = 0.0  # there is more: go on at the next look
