"""Every variant's counters are read, and of those that are gone too, while answers may still come."""

from __future__ import annotations

from slipway.core.asynchronous import AsyncOptions
from slipway.core.routing import Endpoint, RouteTable, Variant, endpoint_key
from slipway.data.counting import KEPT_READINGS, Counting
from slipway.data.lanes import DataLimits
from slipway.data.slots import Slots
from slipway.link.counters import Counted


def table(version: int, *names: str, asynchronous: AsyncOptions | None = None) -> RouteTable:
    endpoints = [Endpoint("1", "r", name, (Variant("v", 1.0, ()),), asynchronous) for name in names]
    return RouteTable(version, {endpoint_key("1", "r", each.name): each for each in endpoints})


def readings(counting: Counting) -> dict[str, Counted]:
    return {counted.endpoint: counted for _, counted in counting.read()}


def test_counts_are_cumulative() -> None:
    slots = Slots(DataLimits())
    slots.apply(table(1, "a", "b"))
    counting = Counting(slots)
    counters = slots.endpoints[endpoint_key("1", "r", "a")].by_name["v"].counters
    for n in range(1, 4):
        counters.invocations += 1
        counters.model.add(0.001)
        counters.overhead.add(0.0001)
        found = readings(counting)["a"]
        assert (found.invocations, found.model.total, sum(found.model.buckets.values())) == (n, n * 1000, n)
        assert sum(found.overhead.buckets.values()) == n
    counters.model_answered(404)
    counters.refused += 2
    found = readings(counting)["a"]
    assert (found.errors_4xx, found.model_errors, found.refused) == (1, 1, 2)
    counters.model.add(0.001)  # a stream ends later than it was counted
    assert readings(counting)["a"].model.total == 4000
    assert readings(counting)["b"].invocations == 0


def test_what_is_gone_is_read_on_for_a_while() -> None:
    slots = Slots(DataLimits())
    slots.apply(table(1, "a"))
    counting = Counting(slots)
    counters = slots.endpoints[endpoint_key("1", "r", "a")].by_name["v"].counters
    readings(counting)
    slots.apply(table(2))
    counters.invocations += 1
    assert readings(counting)["a"].invocations == 1
    for _ in range(KEPT_READINGS):
        readings(counting)
    assert readings(counting) == {}


def test_asynchronous_endpoints_are_not_counted_here() -> None:
    slots = Slots(DataLimits())
    slots.apply(table(1, "a", asynchronous=AsyncOptions("s3://b/p")))
    assert readings(Counting(slots)) == {}
