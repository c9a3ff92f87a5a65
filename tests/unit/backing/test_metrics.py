"""Metrics: what is added is what is read, through flushes, restarts, rolling and a store that is away."""

from __future__ import annotations

import random
from typing import Any

import pytest

from slipway.backing.metrics import DAY, HOUR, Budget, Metrics, Query, TooManyPoints, TooManySeries, metric
from slipway.core.histograms import Statistics
from slipway.store.db import Db, StoreUnavailable
from tests.deadlines import Watch

T0 = 1_699_999_980.0
SERIES = ("1", "us-east-1", "AWS/SageMaker", "ModelLatency", {"EndpointName": "e", "VariantName": "v"})
ID = metric(*SERIES)


class Clock:
    now = T0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def one(metrics: Metrics, **asked: Any) -> Statistics:
    (point,) = await metrics.statistics(*SERIES, **asked)
    return point.statistics


async def test_values_of_one_period_are_one_datapoint(db: Db, clock: Clock) -> None:
    metrics = Metrics(db, clock)
    metrics.add(*SERIES, 3.0)
    await metrics.flush()
    metrics.add(*SERIES, 5.0, count=2)
    found = await one(metrics, start=T0, end=T0 + 60)
    assert (found.count, found.sum, found.minimum, found.maximum, found.average) == (3, 13, 3, 5, 13 / 3)


async def test_another_control_adds_to_what_is_there(db: Db, clock: Clock) -> None:
    for _ in range(3):
        metrics = Metrics(db, clock)
        metrics.add(*SERIES, 1.0)
        await metrics.flush()
    assert (await one(Metrics(db, clock), start=T0, end=T0 + 60)).count == 3


async def test_periods_join_finer_points_and_know_no_coarser_ones(db: Db, clock: Clock) -> None:
    metrics = Metrics(db, clock)
    for second in range(300):
        metrics.add(*SERIES, 1.0, at=T0 + second, resolution=1)
    assert [p.statistics.count for p in await metrics.statistics(*SERIES, start=T0, end=T0 + 300)] == [60] * 5
    assert [p.statistics.count for p in await metrics.statistics(*SERIES, start=T0, end=T0 + 20, period=10)] == [10, 10]
    metrics.add(*SERIES, 1.0, at=T0)
    assert [p.statistics.count for p in await metrics.statistics(*SERIES, start=T0, end=T0 + 10, period=10)] == [10]
    assert [p.statistics.count for p in await metrics.statistics(*SERIES, start=T0, end=T0 + 60)] == [61]


async def test_units_and_dimensions_are_series_of_their_own(db: Db, clock: Clock) -> None:
    metrics = Metrics(db, clock)
    metrics.add(*SERIES, 1.0, "Seconds")
    metrics.add(*SERIES, 2.0, "Count")
    metrics.add(*SERIES[:4], {"EndpointName": "e"}, 4.0, "Count")
    found = await metrics.statistics(*SERIES, start=T0, end=T0 + 60)
    assert {(point.unit, point.statistics.sum) for point in found} == {("Seconds", 1.0), ("Count", 2.0)}
    (count,) = await metrics.statistics(*SERIES, start=T0, end=T0 + 60, unit="Count")
    assert count.statistics.sum == 2.0


@pytest.mark.parametrize("scale", [1, 7, 60, 1000])
async def test_time_scale_shortens_periods(db: Db, clock: Clock, scale: int) -> None:
    metrics = Metrics(db, clock, scale)
    start = metrics.floor(T0, 60)
    for period in range(5):
        for part in (0.0, 0.5, 0.99):
            metrics.add(*SERIES, float(period), at=start + (period + part) * 60 / scale)
    found = await metrics.statistics(*SERIES, start=start, end=start + 5 * 60 / scale)
    assert [(p.statistics.count, p.statistics.maximum) for p in found] == [(3, float(n)) for n in range(5)]
    assert all(abs(p.start - start - n * 60 / scale) < 1e-6 for n, p in enumerate(found))


async def test_old_points_become_coarser_and_lose_nothing(db: Db, clock: Clock) -> None:
    metrics = Metrics(db, clock)
    chance = random.Random(7)
    for _ in range(1000):
        metrics.add(
            *SERIES, chance.lognormvariate(8, 2), at=T0 + chance.uniform(0, 2 * HOUR), resolution=chance.choice((1, 10, 60))
        )
    start = metrics.floor(T0, 3600)
    whole: dict[str, Any] = {"start": metrics.floor(start, 10800), "end": start + 6 * HOUR, "period": 10800}
    before = [p.statistics for p in await metrics.statistics(*SERIES, **whole)]
    for later, finest in ((2 * HOUR + 3 * HOUR + 60, 60), (16 * DAY, 300), (64 * DAY, 3600)):
        clock.now = T0 + later
        await metrics.roll()
        after = [p.statistics for p in await metrics.statistics(*SERIES, **whole)]
        assert [(s.count, s.minimum, s.maximum) for s in after] == [(s.count, s.minimum, s.maximum) for s in before]
        assert [s.sum for s in after] == pytest.approx([s.sum for s in before])
        for percent in (1, 50, 99):
            assert [s.percentile(percent) for s in after] == pytest.approx([s.percentile(percent) for s in before], rel=0.05)
        steps = {p.start % finest for p in await metrics.statistics(*SERIES, start=start, end=start + 3 * HOUR, period=finest)}
        assert steps == {0}
    clock.now = T0 + 456 * DAY
    await metrics.roll()
    assert await metrics.statistics(*SERIES, **whole) == []
    assert await db.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM metric_series").scalar()) == 0
    metrics.add(*SERIES, 1.0)
    assert (await one(metrics, start=clock.now - 60, end=clock.now + 60)).count == 1


async def test_what_a_broken_store_refused_is_written_later(db: Db, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(db, clock)
    metrics.add(*SERIES, 1.0)
    await metrics.flush()

    async def away(_fn: object) -> None:
        metrics.add(*SERIES, 4.0)
        raise StoreUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(db, "write", away)
        metrics.add(*SERIES, 2.0)
        with pytest.raises(StoreUnavailable):
            await metrics.flush()
    assert (await one(metrics, start=T0, end=T0 + 60)).sum == 7


async def test_an_account_has_so_many_series_and_others_are_not_concerned(db: Db, clock: Clock) -> None:
    metrics = Metrics(db, clock, series=3)
    for name in "abc":
        await metrics.admit([(metric("1", "r", "n", name, {}), "None")])
        metrics.add("1", "r", "n", name, {}, 1.0)
    await metrics.admit([(metric("1", "r", "n", "a", {}), "None")])
    for flushed in (False, True):
        with pytest.raises(TooManySeries):
            await metrics.admit([(metric("1", "r", "n", "d", {}), "None")])
        await metrics.admit([(metric("2", "r", "n", "d", {}), "None")])
        if not flushed:
            await metrics.flush()
    with pytest.raises(TooManySeries):
        await Metrics(db, clock, series=3).admit([(metric("1", "r", "n", "d", {}), "None")])


async def test_a_day_minute_by_minute_is_written_at_once(db: Db, clock: Clock) -> None:
    """Backfilled points are of as many moments: they take few statements all the same."""
    metrics = Metrics(db, clock)
    for _ in range(2):  # made, and merged
        for back in range(1440):
            metrics.add(*SERIES, float(back), at=T0 - 60 * back)
        began = Watch()
        await metrics.flush()
        assert began.free < 2.0
    found = await metrics.statistics(*SERIES, start=T0 - 60 * 1439, end=T0 + 60)
    assert [(point.statistics.count, point.statistics.sum) for point in found] == [(2, 2.0 * n) for n in reversed(range(1440))]


async def test_a_request_reads_so_many_points(db: Db, clock: Clock) -> None:
    """One period of an hour is of sixty stored points, and they are what it costs."""
    metrics = Metrics(db, clock)
    for back in range(60):
        metrics.add(*SERIES, 1.0, at=T0 - 60 * back)
    await metrics.flush()
    hour = Query(ID, metrics.floor(T0 - 3600, 3600), T0 + 60, 3600)
    budget = Budget(100)
    assert sum(point.statistics.count for point in await db.read(lambda c: metrics.read(c, hour, budget))) == 60
    assert budget.left == 40
    with pytest.raises(TooManyPoints):
        await db.read(lambda c: metrics.read(c, hour, budget))


async def test_many_queries_are_answered_together(db: Db, clock: Clock) -> None:
    metrics = Metrics(db, clock)
    for n in range(50):
        metrics.add("1", "r", "n", f"m{n}", {"d": "v"}, float(n))
    queries = [Query(metric("1", "r", "n", f"m{n}", {"d": "v"}), T0, T0 + 60, 60) for n in range(50)]
    assert [found[0].statistics.sum for found in await metrics.query(queries)] == [float(n) for n in range(50)]
