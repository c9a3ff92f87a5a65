"""Merging keeps count, sum and extremes; percentiles lie within a bucket of the truth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.histograms import MOST, LogBuckets, Statistics, merged, packed, told, unpacked

numbers = st.floats(-1e12, 1e12, allow_nan=False).map(lambda value: 0.0 if abs(value) < 1e-12 else value)


def of(values: list[float]) -> Statistics:
    found = Statistics()
    for value in values:
        found.add(value)
    return found


@given(st.lists(numbers, min_size=1, max_size=60), st.integers(1, 6))
def test_parts_merge_to_the_whole(values: list[float], parts: int) -> None:
    whole = of(values)
    again = merged(of(values[part::parts]) for part in range(parts))
    assert (again.count, again.minimum, again.maximum) == (whole.count, whole.minimum, whole.maximum)
    assert (whole.count, whole.minimum, whole.maximum) == (len(values), min(values), max(values))
    assert again.sum == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-3)
    assert again.buckets == whole.buckets


@given(st.lists(numbers, min_size=1, max_size=60), st.sampled_from([0.0, 1.0, 50.0, 90.0, 99.9, 100.0]))
def test_percentiles_are_near(values: list[float], percent: float) -> None:
    found = of(values).percentile(percent)
    ordered = sorted(values)
    rank = max(math.ceil(len(values) * percent / 100), 1)
    truth = ordered[rank - 1]
    assert found is not None
    assert abs(found - truth) <= abs(truth) * 0.025 + 1e-9


@given(st.lists(numbers, max_size=60))
def test_what_is_packed_is_unpacked(values: list[float]) -> None:
    buckets = of(values).buckets
    assert unpacked(packed(buckets)) == buckets


def test_values_far_apart_take_no_more_room() -> None:
    found = LogBuckets()
    for exponent in range(-300, 300):
        for step in range(20):
            found.add(10.0**exponent * (1 + step / 20))
            found.add(-(10.0**exponent))
    assert len(found.counts) <= MOST
    assert sum(found.counts.values()) == 600 * 40
    assert found.value_at(1.0) < -1e280
    assert found.value_at(24_000.0) > 1e280


def test_coarse_and_fine_merge_either_way() -> None:
    coarse, fine = LogBuckets(), LogBuckets()
    for exponent in range(-200, 200):
        coarse.add(2.0**exponent * 1.3)
        coarse.add(2.0**exponent * 1.7)
    fine.add(100.0, 10_000.0)
    for first, second in ((coarse, fine), (fine, coarse)):
        both = unpacked(packed(first))
        assert both is not None
        both.merge(second)
        assert sum(both.counts.values()) == 10_800
        assert both.value_at(5000.0) == pytest.approx(100.0, rel=0.5)


def test_sums_alone_have_no_percentiles_but_of_one_value() -> None:
    assert told(3, 9, 1, 5).percentile(50) is None
    assert told(3, 9, 3, 3).percentile(99) == 3
    assert told(1, 4, 4, 4).percentile(10) == 4
    mixed = of([1.0, 2.0])
    mixed.merge(told(3, 9, 1, 5))
    assert mixed.percentile(50) is None
    assert (mixed.count, mixed.sum, mixed.average) == (5, 12, 2.4)


def test_nothing_is_nothing() -> None:
    assert Statistics().percentile(50) is None
    assert math.isnan(Statistics().average)
    found = of([2.0])
    found.merge(Statistics(buckets=None))
    assert found.percentile(50) == 2.0
