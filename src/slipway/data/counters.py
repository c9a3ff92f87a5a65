"""What a gateway counts of each variant: cumulative counters and log-bucket histograms, cheap enough for every request.

Readers take differences; nothing is ever reset.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BUCKETS = 160


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


@dataclass(slots=True)
class Histogram:
    """Durations in microseconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    total: int = 0

    def add(self, seconds: float) -> None:
        micros = int(seconds * 1e6) if seconds > 0 else 0
        self.total += micros
        bits = micros.bit_length()  # bucket_of, without the call
        index = (bits << 2) + ((micros >> (bits - 3)) & 3) - 8 if bits > 2 else micros
        self.buckets[index if index < BUCKETS else BUCKETS - 1] += 1


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
