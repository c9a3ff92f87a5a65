"""Statistics of many values in little space: count, sum, extremes, and a histogram of logarithmic buckets for percentiles.

A bucket is at most 2.2 % wide; where values are spread over more than `MOST` buckets, all become twice as wide. Merging keeps
count, sum, minimum and maximum exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FINEST = 5
"""Binary logarithm of the number of buckets for each power of two."""
MOST = 640
"""Buckets of one histogram."""
_OFFSET = 1 << 24
"""Keys of positive values lie around it, those of negative ones around its negative; 0 is zero's: they sort as values do."""


@dataclass(slots=True)
class LogBuckets:
    """Counts by bucket; `scale` is the logarithm of the buckets per power of two."""

    scale: int = FINEST
    counts: dict[int, float] = field(default_factory=dict)

    def add(self, value: float, count: float = 1.0) -> None:
        key = _key(value, self.scale)
        self.counts[key] = self.counts.get(key, 0.0) + count
        if len(self.counts) > MOST:
            self._coarsen()

    def merge(self, other: LogBuckets) -> None:
        while self.scale > other.scale:
            self._coarsen()
        shift = other.scale - self.scale
        for key, count in other.counts.items():
            key = _shifted(key, shift)
            self.counts[key] = self.counts.get(key, 0.0) + count
        while len(self.counts) > MOST:
            self._coarsen()

    def value_at(self, rank: float) -> float:
        """The value that `rank` values are at most as great as; within its bucket, as if they lay evenly."""
        seen = 0.0
        key = 0
        for key in sorted(self.counts):
            count = self.counts[key]
            if seen + count >= rank:
                return _inside(key, self.scale, (rank - seen) / count)
            seen += count
        return _inside(key, self.scale, 1.0)

    def _coarsen(self) -> None:
        coarser: dict[int, float] = {}
        for key, count in self.counts.items():
            key = _shifted(key, 1)
            coarser[key] = coarser.get(key, 0.0) + count
        self.scale -= 1
        self.counts = coarser


@dataclass(slots=True)
class Statistics:
    """What CloudWatch keeps of a metric's values. `buckets`: None where only sums were told: no percentiles."""

    count: float = 0.0
    sum: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    buckets: LogBuckets | None = field(default_factory=LogBuckets)

    def add(self, value: float, count: float = 1.0) -> None:
        self.count += count
        self.sum += value * count
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)
        if self.buckets is not None:
            self.buckets.add(value, count)

    def merge(self, other: Statistics) -> None:
        if not other.count:
            return
        self.count += other.count
        self.sum += other.sum
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if self.buckets is not None and other.buckets is not None:
            self.buckets.merge(other.buckets)
        else:
            self.buckets = None

    @property
    def average(self) -> float:
        return self.sum / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float | None:
        """`percent` from 0 to 100; exact where all values are equal. None: unknown."""
        if not self.count:
            return None
        if self.minimum == self.maximum:
            return self.minimum
        if self.buckets is None:
            return None
        found = self.buckets.value_at(self.count * percent / 100.0)
        return min(max(found, self.minimum), self.maximum)


def told(count: float, total: float, minimum: float, maximum: float) -> Statistics:
    """From a set of statistics; percentiles are known if it is of one value only (as AWS has it)."""
    if minimum == maximum or count == 1:
        found = Statistics(count, total, minimum, maximum)
        if found.buckets is not None:
            found.buckets.add(minimum, count)
        return found
    return Statistics(count, total, minimum, maximum, None)


def merged(many: Iterable[Statistics]) -> Statistics:
    found = Statistics()
    for statistics in many:
        found.merge(statistics)
    return found


def packed(buckets: LogBuckets | None) -> list[Any] | None:
    """As plain JSON values; keys as differences, which are short."""
    if buckets is None:
        return None
    flat: list[Any] = [buckets.scale]
    last = 0
    for key in sorted(buckets.counts):
        count = buckets.counts[key]
        flat += (key - last, int(count) if count.is_integer() else count)
        last = key
    return flat


def unpacked(flat: list[Any] | None) -> LogBuckets | None:
    """The reverse of `packed`."""
    if flat is None:
        return None
    counts: dict[int, float] = {}
    key = 0
    for step, count in zip(flat[1::2], flat[2::2], strict=True):
        key += step
        counts[key] = float(count)
    return LogBuckets(flat[0], counts)


def _key(value: float, scale: int) -> int:
    if value == 0.0:
        return 0
    index = math.floor(math.ldexp(math.log2(abs(value)), scale))
    return _OFFSET + index if value > 0 else -(_OFFSET + index)


def _shifted(key: int, by: int) -> int:
    """The key of the same values where buckets are 2**by times as wide."""
    if key == 0 or by == 0:
        return key
    return _OFFSET + ((key - _OFFSET) >> by) if key > 0 else -(_OFFSET + ((-key - _OFFSET) >> by))


def _inside(key: int, scale: int, fraction: float) -> float:
    if key == 0:
        return 0.0
    index = abs(key) - _OFFSET
    if key < 0:
        fraction = 1.0 - fraction
    magnitude = math.exp2(min(math.ldexp(index + fraction, -scale), 1023.999))
    return magnitude if key > 0 else -magnitude


def quarter_bounds(bucket: int) -> tuple[int, int]:
    """The microseconds of a gateway's bucket (`data.counters`: four for each power of two): from, and up to."""
    return _quarter(bucket), _quarter(bucket + 1)


def _quarter(bucket: int) -> int:
    if bucket < 4:
        return bucket
    bits, quarter = divmod(bucket + 8, 4)
    return (4 + quarter) << (bits - 3)


def of_quarters(total: float, counts: Mapping[int, int]) -> Statistics:
    """Of durations counted in a gateway's buckets: count and sum exact, the extremes as near as their buckets are wide."""
    count = sum(counts.values())
    if not count:
        return Statistics()
    if count == 1:
        found = Statistics()
        found.add(total)
        return found
    average = total / count
    least = min(float(quarter_bounds(min(counts))[0]), average)
    most = max(float(quarter_bounds(max(counts))[1]), average)
    found = Statistics(float(count), total, least, most)
    for bucket, number in counts.items():
        low, high = quarter_bounds(bucket)
        if found.buckets is not None:
            found.buckets.add((low + high) / 2, number)
    return found
