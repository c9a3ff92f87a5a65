"""Backlog metrics of every asynchronous endpoint, each metric period, from the store: zeros too (hosting.md 7.4)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from slipway.backing.metrics import Metrics
from slipway.control.asynchronous_ends import NAMESPACE, zeros
from slipway.store import jobs_queries
from slipway.store.db import Db, StoreError

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 60.0
"""Of nominal time."""


@dataclass(frozen=True, slots=True)
class Served:
    """An asynchronous endpoint that is in service."""

    account: str
    region: str
    endpoint: str
    arn: str
    variant: str
    instances: int


class BacklogMetrics:
    """`served` tells of the endpoints of now."""

    def __init__(
        self, db: Db, metrics: Metrics, served: Callable[[], Iterable[Served]], now: Callable[[], float], time_scale: float
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._served = served
        self._now = now
        self._period = PERIOD_SECONDS / time_scale

    async def run(self) -> None:
        """Until cancelled: once in each period, near its begin, so that what is decided at its end knows it."""
        while True:
            await asyncio.sleep(self._period - self._now() % self._period + self._period * 0.02)
            try:
                await self.publish(self._now())
            except StoreError as error:
                logger.warning("backlog-not-published", extra={"error": str(error)})

    async def publish(self, at: float) -> None:
        """One value of each metric of each endpoint. Nothing for ApproximateBacklogSizePerInstance at zero instances."""
        served = list(self._served())
        if not served:
            return
        backlogs = await self._db.read(jobs_queries.backlogs)
        by_arn = {each.queue.place.arn: each for each in backlogs}
        for endpoint in served:
            found = by_arn.get(endpoint.arn)
            size = found.queue.backlog if found is not None else 0
            oldest = found.oldest if found is not None else None
            self._publish(endpoint, size, 0.0 if oldest is None else max(0.0, at - oldest), at)
            zeros(self._metrics, endpoint.account, endpoint.region, endpoint.endpoint, endpoint.variant, at)

    def _publish(self, served: Served, size: int, age: float, at: float) -> None:
        values = {
            "ApproximateBacklogSize": (float(size), "Count"),
            "ApproximateAgeOfOldestRequest": (age, "Seconds"),
            "HasBacklogWithoutCapacity": (float(size > 0 and served.instances == 0), "Count"),
        }
        if served.instances:
            values["ApproximateBacklogSizePerInstance"] = (size / served.instances, "Count")
        for name, (value, unit) in values.items():
            dimensions = {"EndpointName": served.endpoint}
            self._metrics.add(served.account, served.region, NAMESPACE, name, dimensions, value, unit, at=at)
