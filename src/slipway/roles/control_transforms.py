"""The part of control that is batch transform, wired: link handlers, and the controller of jobs."""

from __future__ import annotations

import time
from collections.abc import Callable

from slipway.backing.logs import Logs
from slipway.backing.objects import Objects
from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.control.changes import Changes
from slipway.control.routes import Routes
from slipway.control.transforms import Transforms, TransformWorld
from slipway.control.transforms_link import LinkWorld, TransformLink
from slipway.control.transforms_log import TransformLog
from slipway.core.s3_events import Origin
from slipway.core.transform_jobs import fleet_of_job
from slipway.link.routes import process_alive
from slipway.store.db import Db


class TransformParts:
    """`link.attach` for the link server, `jobs.reconcile` for the reconciler; `close` once."""

    def __init__(
        self,
        db: Db,
        objects: Objects,
        logs: Logs,
        routes: Routes,
        changes: Changes,
        wake: Callable[[str, str], None],
        origin: Origin,
        now: Callable[[], float] = time.time,
        alive: Callable[[int], bool] = process_alive,
        steady: Callable[[], float] | None = None,
    ) -> None:
        """`steady`: a clock that nobody sets; None: `now` is one."""
        self._routes = routes
        self.log = TransformLog(logs, now)
        shelves = objects if isinstance(objects, EmbeddedObjects) else None
        self.link = TransformLink(LinkWorld(db, self.log, shelves, self._instances, wake, now, alive, steady or now, origin))
        self.jobs = Transforms(TransformWorld(db, objects, shelves, routes, self.link, self.log, changes, wake, now))

    def _instances(self, job: str) -> int:
        entry = self._routes.entry(fleet_of_job(job))
        return sum(len(variant.replicas) for variant in entry.variants) if entry is not None else 0

    async def close(self) -> None:
        await self.link.close()
        await self.log.close()
