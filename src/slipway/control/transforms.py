"""Makes transform jobs be what the store wants: has their inputs listed, their instances started, and ends them.

Dispatchers do the work in between (`control.transforms_link`). A job's instances are a resource of their own, its fleet, which
`control.endpoints` brings up, keeps alive and stops as it does an endpoint's. Every step is a transaction, and a look finds
what a dead control left: startup is the same code as recovery.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from slipway.backing.objects import Attributes, Objects
from slipway.backing.objects_errors import ObjectsError
from slipway.control.changes import Changes
from slipway.control.routes import Routes
from slipway.control.settling import Shelves
from slipway.control.transforms_inputs import Inputs, unlistable
from slipway.control.transforms_link import TransformLink
from slipway.control.transforms_log import TransformLog
from slipway.core.deployments import Asked, Wanted
from slipway.core.endpoints import CREATING, DELETING, Goal
from slipway.core.endpoints import FAILED as FLEET_FAILED
from slipway.core.transform_captures import MOST_ENTRIES, Capture
from slipway.core.transform_jobs import FLEET, KIND, VARIANT, Ending, Planned, Progress, fleet_name, fleet_of_job, log_stream
from slipway.core.transforms import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    STOPPED,
    STOPPING,
    TERMINAL,
    Counts,
    counted,
    failure_reason,
    idle_instances,
)
from slipway.store import resources, transforms
from slipway.store.db import Connection, Db
from slipway.store.resources import Resource

logger = logging.getLogger(__name__)

ENDPOINT = "endpoint"
"""The reconciler's kind for fleets as well."""
LOOK_SECONDS = 5.0
SAY_SECONDS = 10.0
"""Between two lines on how far the job is."""
CAPTURE_SECONDS = 300.0
"""For so long manifests are tried again where the object store does not answer."""
JSON = Attributes({"ContentType": "application/json"})
WITHOUT_SECONDS = 600.0
"""A job whose instances have all been gone for so long has failed."""


@dataclass(frozen=True, slots=True)
class TransformWorld:
    db: Db
    objects: Objects
    shelves: Shelves | None
    routes: Routes
    link: TransformLink
    log: TransformLog
    changes: Changes
    wake: Callable[[str, str], None]
    now: Callable[[], float]


@dataclass(slots=True)
class _Memory:
    """Of one job."""

    said: float = 0.0
    records: int = 0
    without: float | None = None
    """Since when it has had no instance."""


class Transforms:
    """The transform jobs' controller."""

    def __init__(self, world: TransformWorld) -> None:
        self._world = world
        self._inputs = Inputs(world.db, world.objects, self._paged)
        self._memory: dict[str, _Memory] = {}

    async def all(self) -> Iterable[tuple[str, str]]:
        """For the reconciler's resync."""
        rows = await self._world.db.read(lambda c: resources.every(c, KIND, (IN_PROGRESS, STOPPING)))
        return [(KIND, row.arn) for row in rows]

    async def keep_house(self, kept_seconds: float) -> None:
        """Forget the objects of jobs that ended long ago; the jobs themselves stay, as on AWS."""
        before = self._world.now() - kept_seconds

        def old(connection: Connection) -> list[str]:
            return [row.arn for row in resources.every(connection, KIND, tuple(TERMINAL)) if row.modified < before]

        for arn in await self._world.db.read(old):
            while await self._world.db.write(functools.partial(_purge, arn=arn)):
                pass

    async def reconcile(self, arn: str) -> float | None:
        """One look and one step; the seconds until the next."""
        row = await self._world.db.read(lambda c: resources.get_by_arn(c, arn))
        if row is None or row.status in TERMINAL:
            self._memory.pop(arn, None)
            return None
        progress = msgspec.convert(row.observed, Progress)
        if progress.ending is not None:
            return await self._capture(row, progress.ending)
        if row.status == STOPPING:
            return await self._end(row, STOPPED, "")
        planned = msgspec.convert(row.desired, Planned)
        if not progress.listed:
            refused = await self._inputs.list(row, planned, progress)
            return 0.0 if refused is None else await self._end(row, FAILED, refused)
        return await self._look(row, planned, progress)

    async def _paged(self, row: Resource, planned: Planned, before: Progress, fresh: Progress) -> None:
        """More of the input is listed: the rest is while instances come up and work."""
        if before.total < planned.instances <= fresh.total:
            await self._start(row, planned, fresh)
        self._world.link.wake_dispatchers(row.arn)

    # ---- under way

    async def _look(self, row: Resource, planned: Planned, progress: Progress) -> float | None:
        world = self._world
        fleet_arn = fleet_of_job(row.arn)
        await world.link.reap()

        def read(connection: Connection) -> tuple[Resource | None, bool]:
            return resources.get_by_arn(connection, fleet_arn), transforms.unfinished(connection, row.arn)

        fleet, unfinished = await world.db.read(read)
        if progress.total == 0:
            return await self._end(row, FAILED, unlistable(row, planned, "there is no object"))
        if not unfinished:
            return await self._completed(row)
        if fleet is None:
            await self._start(row, planned, progress)
            return LOOK_SECONDS
        if fleet.status == FLEET_FAILED:
            return await self._end(row, FAILED, fleet.reason)
        if self._abandoned(row, fleet_arn):
            return await self._end(row, FAILED, "AlgorithmError: The job's instances ended, and could not be started again.")
        await self._say(row, planned)
        return LOOK_SECONDS

    def _abandoned(self, row: Resource, fleet_arn: str) -> bool:
        """It had instances, and has had none for long."""
        memory = self._memory.setdefault(row.arn, _Memory())
        entry = self._world.routes.entry(fleet_arn)
        if entry is None or any(variant.replicas for variant in entry.variants):
            memory.without = None
            return False
        now = self._world.now()
        memory.without = memory.without if memory.without is not None else now
        return now - memory.without > WITHOUT_SECONDS

    async def _start(self, row: Resource, planned: Planned, progress: Progress) -> None:
        """The fleet: no more instances than there are objects."""
        now = self._world.now()
        count = min(planned.instances, progress.total)
        deployment = replace(planned.deployment, initial=(Goal(VARIANT, 1.0, count),), started=row.created)
        name = fleet_name(row.name)
        fleet = Resource(
            row.account,
            row.region,
            FLEET,
            name,
            fleet_of_job(row.arn),
            msgspec.to_builtins(Asked(deployment)),
            created=now,
            modified=now,
            status=CREATING,
            desired=msgspec.to_builtins(Wanted(deployment.initial, changed=now)),
        )

        def write(connection: Connection) -> bool:
            job = resources.get_by_arn(connection, row.arn)
            if job is None or job.status != IN_PROGRESS:
                return False
            resources.add(connection, fleet)
            return True

        if await self._world.db.write(write):
            if said := idle_instances(planned.instances, progress.total):
                self._log(row, said)
            self._world.wake(ENDPOINT, fleet.arn)

    async def _say(self, row: Resource, planned: Planned) -> None:
        """How far it is, into the job's log."""
        world = self._world
        memory = self._memory.setdefault(row.arn, _Memory(said=world.now()))
        passed = world.now() - memory.said
        if passed < SAY_SECONDS:
            return
        counts = await world.db.read(lambda c: transforms.counts(c, row.arn))
        records = counts.records + sum(world.link.under_way.get(row.arn, {}).values())
        rate = max(records - memory.records, 0) / passed
        self._log(row, progress_line(counts, records, rate, world.now() - row.created))
        memory.said, memory.records = world.now(), records

    def _log(self, row: Resource, line: str) -> None:
        self._world.log.say(row.account, row.region, log_stream(row.name, "job", row.created), [line])

    # ---- the end

    async def _completed(self, row: Resource) -> float | None:
        def read(connection: Connection) -> tuple[Counts, tuple[str, str, bool] | None]:
            first = transforms.first_failed(connection, row.arn)
            told = None if first is None else (f"{first.bucket}/{first.key}", first.cause, first.client)
            return transforms.counts(connection, row.arn), told

        counts, first = await self._world.db.read(read)
        status, reason = (FAILED, failure_reason(counts, first)) if counts.failed else (COMPLETED, "")
        return await self._end(row, status, reason)

    async def _capture(self, row: Resource, ending: Ending) -> float | None:
        """Write the manifests, and end; no failure of theirs is the job's."""
        world = self._world
        planned = msgspec.convert(row.desired, Planned)
        transform = planned.deployment.transform
        output = transform.bucket if transform is not None else ""
        capture = Capture(row.arn, planned.capture_bucket, planned.capture_path, output, ending.at)
        try:
            await self._write(row, capture)
        except (ObjectsError, OSError) as error:
            passing = not isinstance(error, ObjectsError) or (error.status or 500) >= 500
            if passing and world.now() - ending.at < CAPTURE_SECONDS:
                raise
            what = f"{error.code}: {error.message}" if isinstance(error, ObjectsError) else str(error)
            uri = f"s3://{capture.bucket}/{capture.path}"
            self._log(row, f"Data capture to {uri} (DataCaptureConfig.DestinationS3Uri) failed. {what}")
        return await self._ended(row, ending.status, ending.reason)

    async def _write(self, row: Resource, capture: Capture) -> None:
        after = 0
        for number in itertools.count():
            read = functools.partial(transforms.carried, job=row.arn, after=after, limit=MOST_ENTRIES)
            page = await self._world.db.read(read)
            if not page:
                return
            for key, manifest in capture.files(number, [each for _, each in page]):
                await self._world.objects.put(capture.bucket, key, manifest, attributes=JSON, account=row.account)
            after = page[-1][0]

    async def _end(self, row: Resource, status: str, reason: str) -> float | None:
        """The job's last state is known. What is captured is written first, once nothing is under way any more."""
        if not msgspec.convert(row.desired, Planned).capture_bucket:
            return await self._ended(row, status, reason)
        now = self._world.now()

        def write(connection: Connection) -> tuple[list[int], list[str]]:
            job = resources.get_by_arn(connection, row.arn)
            if job is None or job.status != row.status:
                return [], []
            ending = msgspec.to_builtins(Ending(status, reason, now))
            resources.save(connection, job, replace(job, observed={**job.observed, "ending": ending}))
            return _cut(connection, row.arn, now)

        self._let_go(*await self._world.db.write(write))
        return 0.0

    def _let_go(self, cut: Sequence[int], blobs: Sequence[str]) -> None:
        """Of what was under way."""
        self._world.link.cancel(cut)
        if self._world.shelves is not None:
            self._world.shelves.retire(blobs)

    async def _ended(self, row: Resource, status: str, reason: str) -> float | None:
        """What is still under way is cut, the job's instances are told to go."""
        world = self._world
        now = world.now()
        fleet_arn = fleet_of_job(row.arn)

        def write(connection: Connection) -> tuple[bool, list[int], list[str]]:
            job = resources.get_by_arn(connection, row.arn)
            if job is None or job.status != row.status:
                return False, [], []
            observed = {**job.observed, "ended": now}
            resources.save(connection, job, replace(job, status=status, reason=reason, observed=observed, modified=now))
            cut, blobs = _cut(connection, row.arn, now)
            fleet = resources.get_by_arn(connection, fleet_arn)
            if fleet is not None and fleet.status != DELETING:
                wanted = {**fleet.desired, "deleting_since": now}
                gone = replace(fleet, status=DELETING, desired=wanted, generation=fleet.generation + 1, modified=now)
                resources.save(connection, fleet, gone)
            return True, cut, blobs

        ended, cut, blobs = await world.db.write(write)
        if not ended:
            return 0.0
        logger.info("transform-job-ended", extra={"job": row.arn, "status": status, "reason": reason})
        self._let_go(cut, blobs)
        world.link.under_way.pop(row.arn, None)
        world.wake(ENDPOINT, fleet_arn)
        world.changes.happened(KIND, row.arn)
        counts = await world.db.read(lambda c: transforms.counts(c, row.arn))
        done = f"{counts.done:,} of {counted(counts.total, 'object')} done, {counts.failed:,} failed"
        line = f"{status}: {done}, {counted(counts.records, 'record')}"
        self._log(row, f"{line}, {counted(counts.bad, 'bad record')} put aside" if counts.bad else line)
        return None


def _cut(connection: Connection, arn: str, now: float) -> tuple[list[int], list[str]]:
    """Objects that are open stay undone: those that were running, and what their durable points name."""
    blobs = transforms.job_blobs(connection, arn)
    return transforms.cut(connection, arn, now), blobs


def _purge(connection: Connection, arn: str) -> int:
    return transforms.purge(connection, (arn,))


def progress_line(counts: Counts, records: int, rate: float, passed: float) -> str:
    """`12 of 100 objects, 34,567 records, 4,000 records/s, about 90 s to go`."""
    ended = counts.done + counts.failed
    line = f"{ended:,} of {counted(counts.total, 'object')}, {counted(records, 'record')}, {rate:,.0f} records/s"
    if ended:
        line += f", about {passed / ended * counts.open:.0f} s to go"
    return line
