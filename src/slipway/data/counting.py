"""The counters of every variant as control is told of them; also of variants that are gone, while answers may still come."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from slipway.core.routing import DIRECT, Endpoint
from slipway.data.counters import Histogram, VariantCounters
from slipway.data.slots import Slots, VariantSlots
from slipway.link.counters import Counted, Durations

KEPT_READINGS = 600
"""How often the counters of a variant that is gone are still read: as long as a stream may last, at one a second."""


class Counting:
    """`read` for `link.counters.CountersSender`."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._left: dict[VariantSlots, tuple[Endpoint, int]] = {}
        self._read: dict[VariantSlots, tuple[tuple[float, ...], list[Counted]]] = {}

    def read(self) -> Iterator[tuple[object, Counted]]:
        """Of real-time endpoints; asynchronous ones are counted where their requests are settled."""
        current: dict[VariantSlots, Endpoint] = {}
        for found in self._slots.endpoints.values():
            if found.endpoint.asynchronous is None:
                for variant in found.by_name.values():
                    current[variant] = found.endpoint
        gone = {variant: (endpoint, left - 1) for variant, (endpoint, left) in self._left.items() if left > 1}
        self._left = {**gone, **{variant: (endpoint, KEPT_READINGS) for variant, endpoint in current.items()}}
        read, self._read = self._read, {}
        for variant, (endpoint, _) in self._left.items():
            sums = _sums(variant)
            before = read.get(variant)
            # Most of many variants are idle.
            counted = before[1] if before is not None and before[0] == sums else _all(endpoint, variant)
            self._read[variant] = (sums, counted)
            for each in counted:
                yield (variant, each.container) if each.container else variant, each


def _sums(slots: VariantSlots) -> tuple[float, ...]:
    """What changes whenever anything was counted."""
    counters = slots.counters
    parts = slots.containers_counters()
    return (
        counters.invocations,
        counters.model_errors,
        counters.refused,
        counters.model_hits,
        counters.model_misses,
        counters.model.total,
        counters.overhead.total,
        slots.in_flight,
        slots.waiting,
        *(part.invocations + part.model_errors + part.refused for part in parts.values()),
        *(part.model.total for part in parts.values()),
    )


def _all(endpoint: Endpoint, slots: VariantSlots) -> list[Counted]:
    """Of the variant; and of each container, where there are several."""
    parts = [_counted(endpoint, slots, counters, name) for name, counters in slots.containers_counters().items()]
    whole = _counted(endpoint, slots, slots.counters)
    if slots.variant.mode == DIRECT:  # a request is counted at the container that it names
        whole = functools.reduce(_sum, parts, whole)
    return [whole, *(replace(part, in_flight=0, waiting=0) for part in parts)]


def _sum(whole: Counted, part: Counted) -> Counted:
    return replace(
        whole,
        invocations=whole.invocations + part.invocations,
        errors_4xx=whole.errors_4xx + part.errors_4xx,
        errors_5xx=whole.errors_5xx + part.errors_5xx,
        model_errors=whole.model_errors + part.model_errors,
        refused=whole.refused + part.refused,
        model=_together(whole.model, part.model),
        overhead=_together(whole.overhead, part.overhead),
    )


def _together(one: Durations, other: Durations) -> Durations:
    buckets = dict(one.buckets)
    for bucket, count in other.buckets.items():
        buckets[bucket] = buckets.get(bucket, 0) + count
    return Durations(one.total + other.total, buckets)


def _counted(endpoint: Endpoint, slots: VariantSlots, counters: VariantCounters, container: str = "") -> Counted:
    return Counted(
        account=endpoint.account,
        region=endpoint.region,
        endpoint=endpoint.name,
        variant=slots.variant.name,
        invocations=counters.invocations,
        errors_4xx=counters.errors_4xx,
        errors_5xx=counters.errors_5xx,
        model_errors=counters.model_errors,
        refused=counters.refused,
        model=_durations(counters.model),
        overhead=_durations(counters.overhead),
        in_flight=slots.in_flight,
        waiting=slots.waiting,
        container=container,
        model_hits=counters.model_hits,
        model_misses=counters.model_misses,
        model_waits=_durations(counters.model_waits),
    )


def _durations(histogram: Histogram) -> Durations:
    return Durations(float(histogram.total), {bucket: count for bucket, count in enumerate(histogram.buckets) if count})
