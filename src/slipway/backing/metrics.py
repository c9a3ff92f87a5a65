"""Metrics: counted in memory, written each second in one transaction, read with what is not written yet.

Periods are nominal seconds, divided by the time scale: with a scale of 60, a period of 60 is one real second. Timestamps are
real. Retention is AWS's, in numbers of points: below 60 s three hours, 60 s fifteen days, 300 s 63 days, 3600 s 455 days.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from slipway.core.histograms import Statistics
from slipway.store import metrics as rows
from slipway.store.db import Connection, Db, StoreError
from slipway.store.leases import LeaseLost
from slipway.store.metrics import Key, Metric, Point, metric

__all__ = ["Budget", "Datapoint", "Metric", "Metrics", "Query", "TooManyPoints", "TooManySeries", "metric"]

logger = logging.getLogger(__name__)

HOUR = 3600.0
DAY = 86_400.0
KEPT: Final = ((1, 60, 3 * HOUR), (10, 60, 3 * HOUR), (60, 300, 15 * DAY), (300, 3600, 63 * DAY))
"""Step, the next coarser step, and how long the former is kept (seconds of nominal time)."""
KEPT_LONGEST: Final = 455 * DAY
LISTED_SECONDS: Final = 14 * DAY
"""ListMetrics names what had data since."""
FLUSH_SECONDS = 1.0
ROLL_SECONDS = 300.0
SERIES = 50_000
"""Of one account: more are refused."""
PENDING = 200_000
"""Buckets that wait for the store while it is away; beyond it new ones are dropped, and logged."""


class TooManyPoints(Exception):
    """More points are stored for the time asked for than one request may read."""


class TooManySeries(Exception):
    """The account has as many different metrics as one account may have."""


@dataclass(frozen=True, slots=True)
class Datapoint:
    start: float
    """Epoch seconds of the period's begin."""
    unit: str
    statistics: Statistics


@dataclass(frozen=True, slots=True)
class Query:
    """`start` is the begin of the first period (see `Metrics.floor`), `end` exclusive; `period` in nominal seconds."""

    metric: Metric
    start: float
    end: float
    period: int
    unit: str | None = None
    """None: whatever the unit."""


@dataclass(slots=True)
class Budget:
    """How many stored points a request may still read: a period of an hour may be of sixty of them."""

    left: int = 1_000_000

    def spend(self, points: int) -> None:
        self.left -= points
        if self.left < 0:
            raise TooManyPoints


class Metrics:
    """Of one control. `start` and `stop` once each; `add` and `merge` at any time, from the loop."""

    def __init__(self, db: Db, now: Callable[[], float], time_scale: float = 1.0, *, series: int = SERIES) -> None:
        self._db = db
        self._now = now
        self.time_scale = time_scale
        self._most = series
        self._pending: dict[Key, Statistics] = {}
        self._marks: dict[str, int] = {}
        self._dropped = 0
        self._ids: dict[tuple[Metric, str], int] = {}
        self._counts: dict[str, int] | None = None
        self._flushing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Flush and roll from now on."""
        self._tasks = [asyncio.create_task(self._keep_flushing()), asyncio.create_task(self._keep_rolling())]

    async def stop(self) -> None:
        """Write what there is, if the store still answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(StoreError, LeaseLost):
            await self.flush()

    # Writing

    def add(
        self,
        account: str,
        region: str,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        value: float,
        unit: str = "None",
        *,
        count: float = 1,
        at: float | None = None,
        resolution: int = 60,
    ) -> None:
        """Count `value` (`count` times) at `at` (epoch seconds; None: now). `resolution`: 60, 10 or 1 nominal seconds."""
        found = self._bucket(metric(account, region, namespace, name, dimensions), unit, at, resolution)
        if found is not None:
            found.add(float(value), float(count))

    def merge(
        self,
        account: str,
        region: str,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        statistics: Statistics,
        unit: str = "None",
        *,
        at: float | None = None,
        resolution: int = 60,
    ) -> None:
        """Count all the values that `statistics` is of."""
        found = self._bucket(metric(account, region, namespace, name, dimensions), unit, at, resolution)
        if found is not None:
            found.merge(statistics)

    async def admit(self, names: Iterable[tuple[Metric, str]]) -> None:
        """Raises TooManySeries if these (metric, unit) would make an account have more series than one may have."""
        unknown = {name for name in names if name not in self._ids}
        if not unknown:
            return
        unknown |= {(key.metric, key.unit) for key in self._pending if (key.metric, key.unit) not in self._ids}
        found = await self._db.read(lambda c: rows.resolve(c, unknown))
        self._ids.update(found)
        counts = await self._series_counts()
        for account in {name[0].account for name in unknown}:
            fresh = sum(name[0].account == account and name not in self._ids for name in unknown)
            if counts.get(account, 0) + fresh > self._most:
                raise TooManySeries(account)

    def _bucket(self, name: Metric, unit: str, at: float | None, resolution: int) -> Statistics | None:
        at = self._now() if at is None else at
        key = Key(name, unit, resolution, self.floor(at, resolution))
        found = self._pending.get(key)
        if found is None:
            if len(self._pending) >= PENDING:
                self._dropped += 1
                return None
            found = self._pending[key] = Statistics()
        return found

    def mark(self, source: str, number: int) -> None:
        """Up to this batch of the source, all was counted: written with the counts (`link.counters`)."""
        self._marks[source] = number

    async def marked(self, source: str) -> int:
        """The last batch of the source that is durable; 0: none."""
        return await self._db.read(lambda c: rows.marked(c, source))

    async def flush(self) -> None:
        """Write what was counted until now; durable when it returns. Raises StoreError, and keeps what it could not write."""
        async with self._flushing:
            if not self._pending and not self._marks:
                return
            counts = await self._series_counts()
            taken, self._pending = self._pending, {}
            marks, self._marks = self._marks, {}
            self._limited(taken, counts)
            try:
                fresh = await self._db.write(lambda c: rows.store(c, taken, self._ids, marks, self._now()))
            except BaseException:
                self._restore(taken)
                self._marks = marks | self._marks
                raise
            self._ids.update(fresh)
            for name, _unit in fresh:
                counts[name.account] = counts.get(name.account, 0) + 1

    def _limited(self, taken: dict[Key, Statistics], counts: Mapping[str, int]) -> None:
        """Take out what would be one series too many; those of callers who could not be told so."""
        fresh: dict[str, set[tuple[Metric, str]]] = {}
        for key in list(taken):
            name = (key.metric, key.unit)
            if name not in self._ids:
                mine = fresh.setdefault(key.metric.account, set())
                if name not in mine and counts.get(key.metric.account, 0) + len(mine) >= self._most + 1000:
                    del taken[key]
                    self._dropped += 1
                else:
                    mine.add(name)
        if self._dropped:
            logger.warning("metrics-dropped", extra={"points": self._dropped})
            self._dropped = 0

    def _restore(self, taken: dict[Key, Statistics]) -> None:
        for key, statistics in self._pending.items():
            if (before := taken.get(key)) is not None:
                before.merge(statistics)
            elif len(taken) < PENDING:
                taken[key] = statistics
        self._pending = taken

    async def _series_counts(self) -> dict[str, int]:
        if self._counts is None:
            self._counts = await self._db.read(rows.counts)
        return self._counts

    # Reading

    def floor(self, at: float, period: int) -> float:
        """The begin of the (scaled) period that `at` is in."""
        width = period / self.time_scale
        # What a bucket's own begin is computed to may lie a hair before it.
        return math.floor(at / width + 1e-4) * width

    async def statistics(
        self,
        account: str,
        region: str,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        *,
        start: float,
        end: float,
        period: int = 60,
        unit: str | None = None,
    ) -> list[Datapoint]:
        """Of each period from `start` (floored to a whole one) to `end` that has data, in the order of time; units apart."""
        wanted = metric(account, region, namespace, name, dimensions)
        (found,) = await self.query([Query(wanted, self.floor(start, period), end, period, unit)])
        return found

    async def query(self, queries: Sequence[Query]) -> list[list[Datapoint]]:
        """The datapoints of each query, read in one transaction; what was added before the call is in them."""
        await self.flush()
        return await self._db.read(lambda c: [self.read(c, query) for query in queries])

    def read(self, connection: Connection, query: Query, budget: Budget | None = None) -> list[Datapoint]:
        """As `query`, inside a caller's own transaction, of what was flushed. TooManyPoints when the budget is spent."""
        most = None if budget is None else budget.left + 1
        start, end = query.start - 1e-6, query.end - 1e-6
        found = rows.read(connection, query.metric, start, end, query.period, query.unit, most)
        if budget is not None:
            budget.spend(len(found))
        return self._datapoints(query, found)

    def read_many(self, connection: Connection, queries: Sequence[Query]) -> list[list[Datapoint]]:
        """As `read`, of queries that all have one start, end and period: in few statements."""
        if not queries:
            return []
        first = queries[0]
        metrics = (query.metric for query in queries)
        found = rows.read_many(connection, metrics, first.start - 1e-6, first.end - 1e-6, first.period)
        return [self._datapoints(query, found.get(query.metric, ())) for query in queries]

    def _datapoints(self, query: Query, points: Iterable[Point]) -> list[Datapoint]:
        width = query.period / self.time_scale
        found: dict[tuple[int, str], Statistics] = {}
        for point in points:
            if query.unit is None or point.unit == query.unit:
                index = math.floor((point.start - query.start) / width + 1e-4)
                found.setdefault((index, point.unit), Statistics()).merge(point.statistics)
        return [Datapoint(query.start + index * width, unit, found[index, unit]) for index, unit in sorted(found)]

    # Keeping house

    async def roll(self) -> None:
        """Make old points into coarser ones, and end the oldest."""
        now = self._now()
        for step, to, kept in KEPT:
            await self._roll(step, to, self.floor(now - kept / self.time_scale, to))
        oldest = now - KEPT_LONGEST / self.time_scale
        more = 1
        while more:
            more = await self._db.write(lambda c: rows.expire(c, 3600, oldest))
        await self._db.write(lambda c: rows.forget_marks(c, now - DAY))
        async with self._flushing:
            if await self._db.write(lambda c: rows.forget(c, now - LISTED_SECONDS)):
                self._ids.clear()
                self._counts = None

    async def _roll(self, step: int, to: int, before: float) -> None:
        more = 1
        while more:  # little by little: other writers wait meanwhile
            more = await self._db.write(lambda c: rows.roll(c, step, to, before, lambda at: self.floor(at, to)))

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except (StoreError, LeaseLost) as error:
                logger.warning("metrics-not-written", extra={"error": str(error), "points": len(self._pending)})

    async def _keep_rolling(self) -> None:
        while True:
            await asyncio.sleep(ROLL_SECONDS)
            try:
                await self.roll()
            except (StoreError, LeaseLost) as error:
                logger.warning("metrics-not-rolled", extra={"error": str(error)})
