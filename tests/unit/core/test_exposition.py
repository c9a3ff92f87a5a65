"""Prometheus' text: escaped, ordered, complete."""

from __future__ import annotations

import math

from slipway.core.exposition import BOUNDS, Family, render
from slipway.core.histograms import of_quarters, quarter_bounds
from slipway.data.counters import bucket_of, lower_bound


def test_labels_and_help_are_escaped() -> None:
    family = Family("a_total", "counter", 'back\\slash "and"\nline')
    family.add({"endpoint": 'x"\\\n'}, 1.5)
    family.add({}, math.inf)
    assert render([family]) == (
        '# HELP a_total back\\\\slash "and"\\nline\n# TYPE a_total counter\na_total{endpoint="x\\"\\\\\\n"} 1.5\na_total +Inf\n'
    )


def test_histograms_are_cumulative_and_end_in_their_count() -> None:
    family = Family("d", "histogram", "h")
    family.durations({}, 3_001_500.0, {bucket_of(500): 3, bucket_of(3_000_000): 1})
    values = [value for _, _, value in family.samples]
    counts = values[: len(BOUNDS) + 1]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1], values[-2], values[-1]) == (3, 4, 3.0015, 4)


def test_buckets_are_those_of_the_gateways_counters() -> None:
    for micros in (0, 1, 3, 4, 5, 7, 8, 100, 1000, 123_456, 10**7):
        bucket = bucket_of(micros)
        low, high = quarter_bounds(bucket)
        assert low == lower_bound(bucket)
        assert low <= micros < high


def test_statistics_of_buckets_hold_together() -> None:
    found = of_quarters(6000.0, {bucket_of(1000): 3, bucket_of(3000): 1})
    assert (found.count, found.sum) == (4, 6000.0)
    assert found.minimum <= 1000
    assert 3000 <= found.maximum < 3600
    only = of_quarters(1234.0, {bucket_of(1234): 1})
    assert (only.minimum, only.maximum, only.percentile(50)) == (1234.0, 1234.0, 1234.0)
    assert of_quarters(0.0, {}).count == 0
