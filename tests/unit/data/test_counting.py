"""Every variant's counters are read, and of those that are gone too, while answers may still come."""

from __future__ import annotations

from slipway.core.asynchronous import AsyncOptions
from slipway.core.routing import DIRECT, SERIAL, Endpoint, RouteTable, Stage, Variant, endpoint_key
from slipway.data.counting import KEPT_READINGS, Counting
from slipway.data.lanes import DataLimits
from slipway.data.several import GatewaySlots
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


def test_of_several_containers_each_is_counted_and_the_whole() -> None:
    slots = GatewaySlots(DataLimits())
    stages = (Stage("a"), Stage("b"))
    variants = (Variant("s", 1.0, (), mode=SERIAL, stages=stages), Variant("d", 1.0, (), mode=DIRECT, stages=stages))
    slots.apply(RouteTable(1, {endpoint_key("1", "r", "e"): Endpoint("1", "r", "e", variants)}))
    counting = Counting(slots)
    by_name = slots.endpoints[endpoint_key("1", "r", "e")].by_name
    for variant in ("s", "d"):
        assert len([counted for _, counted in counting.read() if counted.variant == variant]) == 3
        for name, counters in by_name[variant].containers_counters().items():
            counters.invocations += 1
            counters.model.add(0.001 if name == "a" else 0.002)
    by_name["s"].counters.invocations += 1
    by_name["s"].counters.model.add(0.003)
    found = {(counted.variant, counted.container): counted for _, counted in counting.read()}
    totals = {key: (counted.invocations, round(counted.model.total, -1)) for key, counted in found.items()}
    assert totals == {
        ("s", ""): (1, 3000),
        ("s", "a"): (1, 1000),
        ("s", "b"): (1, 2000),
        ("d", ""): (2, 3000),
        ("d", "a"): (1, 1000),
        ("d", "b"): (1, 2000),
    }
