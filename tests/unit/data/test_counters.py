"""Counters and timeouts."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from slipway.data.counters import BUCKETS, Histogram, VariantCounters, bucket_of, counters_snapshot, lower_bound
from slipway.data.wheel import Wheel
from tests.deadlines import PATIENCE


@given(st.integers(min_value=0, max_value=2**40))
def test_buckets_are_ordered_and_at_most_a_quarter_wide(micros: int) -> None:
    bucket = bucket_of(micros)
    assert lower_bound(bucket) <= micros
    if bucket < BUCKETS - 1:
        upper = lower_bound(bucket + 1)
        assert micros < upper
        assert upper - lower_bound(bucket) <= max(1, lower_bound(bucket) // 4)


@given(st.lists(st.integers(min_value=0, max_value=10**9)))
def test_histogram_agrees_with_bucket_of(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add((value + 0.5) / 1e6)
    expected = [0] * BUCKETS
    for value in values:
        expected[bucket_of(value)] += 1
    assert histogram.buckets == expected
    assert abs(histogram.total - sum(value + 0.5 for value in values)) <= 1


def test_snapshot_is_plain_and_sparse() -> None:
    counters = VariantCounters()
    counters.invocations += 1
    counters.model_answered(503)
    counters.model_answered(404)
    counters.model.add(0.001)
    snapshot = counters_snapshot(counters)
    assert (snapshot["errors_4xx"], snapshot["errors_5xx"], snapshot["model_errors"]) == (1, 1, 2)
    assert snapshot["model"] == {"total": 1000, "buckets": {bucket_of(1000): 1}}


async def test_wheel_fires_once_not_early_and_not_after_discard() -> None:
    fired: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    wheel: Wheel[str] = Wheel(0.2, lambda item: fired.append((item, loop.time())))
    wheel.start()
    start = loop.time()
    wheel.current.add("kept")
    bucket = wheel.current
    bucket.add("discarded")
    bucket.discard("discarded")
    await asyncio.sleep(0.1)
    wheel.current.add("later")
    async with asyncio.timeout(PATIENCE):
        while len(fired) < 2:  # noqa: ASYNC110  a wheel tells nobody else
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    wheel.stop()
    assert [item for item, _ in fired] == ["kept", "later"]
    assert fired[0][1] - start >= 0.2
