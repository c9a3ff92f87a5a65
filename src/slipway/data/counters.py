"""What a gateway counts of each variant: cumulative counters and log-bucket histograms, cheap enough for every request.

Readers take differences; nothing is ever reset.
"""

from __future__ import annotations

import functools
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

BUCKETS = 160
_TOP_BITS = slice(3 if sys.byteorder == "little" else 0, None, 4)
"""Of doubles seen as 16-bit numbers."""
_FRESH = 256
"""Invocations between two folds: they bound what is kept, and a fold's pause (some 50 us)."""


def bucket_of(micros: int) -> int:
    """Four buckets for each power of two of microseconds (at most 25 % wide)."""
    bits = micros.bit_length()
    if bits < 3:
        return micros
    index = (bits << 2) + ((micros >> (bits - 3)) & 3) - 8
    return index if index < BUCKETS else BUCKETS - 1


def lower_bound(bucket: int) -> int:
    """Smallest number of microseconds that falls into `bucket`."""
    if bucket < 4:
        return bucket
    bits, quarter = divmod(bucket + 8, 4)
    return (4 + quarter) << (bits - 3)


class Histogram:
    """Durations in microseconds.

    Adding one is a list's own append; sorting into buckets is done for many at a time, mostly in C. What `fold` has not seen
    yet is folded when somebody reads.
    """

    __slots__ = ("_buckets", "_fresh", "_total", "add")

    def __init__(self) -> None:
        self._buckets = [0] * BUCKETS
        self._total = 0.0
        self._fresh: list[float] = []
        self.add: Callable[[float], None] = self._fresh.append
        """Takes seconds."""

    @property
    def buckets(self) -> list[int]:
        self.fold()
        return self._buckets

    @property
    def total(self) -> int:
        self.fold()
        return int(self._total)

    def fold(self) -> None:
        micros = array("d", [seconds * 1e6 for seconds in self._fresh])
        self._fresh.clear()
        self._total += sum(micros)
        # Sign, exponent and four bits of the fraction: a sixteenth of a power of two, which never straddles a bucket.
        for top, count in Counter(memoryview(micros).cast("B").cast("H")[_TOP_BITS]).items():
            self._buckets[_bucket_of_top(top)] += count


@functools.lru_cache(maxsize=4096)
def _bucket_of_top(top: int) -> int:
    (smallest,) = struct.unpack(">d", top.to_bytes(2, "big") + bytes(6))
    return bucket_of(int(smallest))


@dataclass(slots=True)
class VariantCounters:
    """Of one variant of one endpoint, since this process started (hosting.md 7.1: what the metrics mean)."""

    invocations: int = 0
    errors_4xx: int = 0
    """The model answered 4xx."""
    errors_5xx: int = 0
    """The model answered 5xx."""
    model_errors: int = 0
    """Anything but a 2xx from the model, broken connections and timeouts included."""
    refused: int = 0
    """Sent to no model: no capacity, too many waiting."""
    model: Histogram = field(default_factory=Histogram)
    """From handing over to the last byte of the answer."""
    overhead: Histogram = field(default_factory=Histogram)
    """The rest of the time between the request's head and the answer."""
    model_hits: int = 0
    """Requests whose model (of many) was loaded when they came."""
    model_misses: int = 0
    model_waits: Histogram = field(default_factory=Histogram)
    """How long requests waited for their model to be loaded."""
    fold_at: int = _FRESH
    """Number of invocations at which `fold` is due."""

    def fold(self) -> None:
        """To be called now and then, so that what the histograms have not folded stays little."""
        self.fold_at = self.invocations + _FRESH
        self.model.fold()
        self.overhead.fold()

    def model_answered(self, status: int) -> None:
        """The model answered outside 2xx."""
        self.model_errors += 1
        if 400 <= status < 500:
            self.errors_4xx += 1
        elif status >= 500:
            self.errors_5xx += 1


def counters_snapshot(counters: VariantCounters) -> dict[str, object]:
    """As plain values, for the metrics feed. Histogram buckets are sparse: `{bucket: count}`."""
    return {
        "invocations": counters.invocations,
        "errors_4xx": counters.errors_4xx,
        "errors_5xx": counters.errors_5xx,
        "model_errors": counters.model_errors,
        "refused": counters.refused,
        "model": _sparse(counters.model),
        "overhead": _sparse(counters.overhead),
    }


def _sparse(histogram: Histogram) -> dict[str, object]:
    return {"total": histogram.total, "buckets": {i: n for i, n in enumerate(histogram.buckets) if n}}
