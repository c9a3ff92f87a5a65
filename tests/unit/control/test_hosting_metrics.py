"""What CloudWatch and Prometheus are told of what gateways counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from slipway.backing.metrics import Metrics
from slipway.control.exposition import Exposition
from slipway.control.hosting_metrics import HostingMetrics
from slipway.core.asynchronous import AsyncOptions
from slipway.core.histograms import Statistics
from slipway.core.models import ModelEvent
from slipway.core.replicas import Usage
from slipway.core.routing import Endpoint, Replica, Variant
from slipway.link.counters import Batch, Counted, Durations, Report
from slipway.store.db import Db, StoreUnavailable

T0 = 1_700_000_040.0
NAME = ("1", "us-east-1", "e", "v")


def endpoint(name: str = "e", instances: int = 2, asynchronous: AsyncOptions | None = None) -> Endpoint:
    replicas = tuple(Replica(f"i-{n}", f"i-{n}", "frames", ()) for n in range(instances))
    return Endpoint("1", "us-east-1", name, (Variant("v", 1.0, replicas),), asynchronous)


class World:
    def __init__(self, db: Db) -> None:
        self.db = db
        self.now = T0
        self.routed = {"e": endpoint()}
        self.restart()

    def restart(self) -> None:
        self.metrics = Metrics(self.db, lambda: self.now)
        self.hosting = HostingMetrics(self.metrics, lambda: self.routed, self.usage, lambda: self.now)

    async def usage(self) -> list[Usage]:
        return []

    async def told(self, metric: str, namespace: str = "AWS/SageMaker", period: int = 60, name: str = "e") -> list[Statistics]:
        dimensions = {"EndpointName": name, "VariantName": "v"}
        found = await self.metrics.statistics(
            "1", "us-east-1", namespace, metric, dimensions, start=T0, end=T0 + 600, period=period
        )
        return [point.statistics for point in found]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    db = await Db.open(database_url)
    yield World(db)
    await db.close()


def batch(number: int, at: float = T0 + 5, **counts: object) -> Batch:
    return Batch(number, at, (Counted(*NAME, **counts),))  # type: ignore[arg-type]


async def test_requests_become_metrics(world: World) -> None:
    model = Durations(4 * 1000.0, {36: 4})
    counts = {"invocations": 4, "errors_4xx": 1, "errors_5xx": 2, "model_errors": 3, "in_flight": 3, "waiting": 2}
    assert await world.hosting.report(Report("g1", (batch(1, model=model, **counts),))) == 1
    (invocations,) = await world.told("Invocations")
    assert (invocations.sum, invocations.count, invocations.maximum) == (4, 4, 1)
    (each,) = await world.told("InvocationsPerInstance")
    assert (each.sum, each.count) == (2, 4)
    for metric, errors in (("Invocation4XXErrors", 1), ("Invocation5XXErrors", 2), ("InvocationModelErrors", 3)):
        (found,) = await world.told(metric)
        assert (found.sum, found.average) == (errors, errors / 4)
    (latency,) = await world.told("ModelLatency")
    assert (latency.count, latency.sum) == (4, 4000)
    assert latency.minimum <= 1000 <= latency.maximum
    assert latency.percentile(99) == pytest.approx(1000, rel=0.25)
    (concurrent,) = await world.told("ConcurrentRequestsPerModel", period=10)
    assert concurrent.maximum == 5
    assert await world.told("OverheadLatency") == []


async def test_a_batch_counts_once_also_for_the_next_control(world: World) -> None:
    first, second = batch(1, invocations=3), batch(2, invocations=5)
    assert await world.hosting.report(Report("g1", (first,))) == 1
    world.restart()
    assert await world.hosting.report(Report("g1", (first, second))) == 2
    assert await world.hosting.report(Report("g1", (first, second))) == 2
    assert await world.hosting.report(Report("g2", (first,))) == 1
    (found,) = await world.told("Invocations")
    assert found.sum == 11


async def test_a_batch_that_could_not_be_written_counts_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_fn: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(world.db, "write", away)
        with pytest.raises(StoreUnavailable):
            await world.hosting.report(Report("g1", (batch(1, invocations=3),)))
    assert await world.hosting.report(Report("g1", (batch(1, invocations=3), batch(2, invocations=1)))) == 2
    (found,) = await world.told("Invocations")
    assert found.sum == 4
    world.restart()
    assert await world.hosting.report(Report("g1", (batch(2, invocations=1),))) == 2
    assert (await world.told("Invocations"))[0].sum == 4


async def test_periods_without_requests_are_zero(world: World) -> None:
    world.routed["a"] = endpoint("a", asynchronous=AsyncOptions("s3://b/p"))
    await world.hosting.report(Report("g1", (batch(1, invocations=3),)))
    for start in (T0, T0 + 60):
        world.now = start + 60.2
        world.hosting.close_period(start)
    assert [found.sum for found in await world.told("Invocations")] == [3, 0]
    assert [found.count for found in await world.told("InvocationsPerInstance")] == [3, 1]
    assert [found.average for found in await world.told("Invocation5XXErrors")] == [0, 0]
    concurrent = await world.told("ConcurrentRequestsPerModel", period=10)
    assert [found.maximum for found in concurrent] == [0] * 7
    assert await world.told("ModelLatency") == []
    assert await world.told("Invocations", name="a") == []


async def test_loads_of_all_gateways_are_one_number(world: World) -> None:
    await world.hosting.report(Report("g1", (batch(1, in_flight=2),)))
    await world.hosting.report(Report("g2", (batch(1, in_flight=3),)))
    (found,) = await world.told("ConcurrentRequestsPerModel", period=10)
    assert (found.minimum, found.maximum) == (2, 5)


async def test_instances_of_transform_jobs_have_a_namespace_of_their_own(world: World) -> None:
    account, region = NAME[:2]
    world.hosting.measure([Usage("i-1", account, region, "transform-job/j", "instances", 1.0, 256, 1024, 40.0)])
    place = (account, region, "/aws/sagemaker/TransformJobs")
    host = {"Host": "j/i-1"}
    (found,) = await world.metrics.statistics(*place, "MemoryUtilization", host, start=T0, end=T0 + 600, period=60)
    assert found.statistics.maximum == 25.0
    assert await world.metrics.statistics(*place, "DiskUtilization", host, start=T0, end=T0 + 600, period=60) == []


async def test_instances_use_of_the_machine(world: World) -> None:
    def usage(cpu: float) -> Usage:
        return Usage("i-1", *NAME, cpu_seconds=cpu, memory_bytes=256, memory_limit=1024, disk_percent=40.0)

    world.hosting.measure([usage(10.0)])
    world.now += 10
    world.hosting.measure([usage(25.0)])
    for metric, value in (("CPUUtilization", 150.0), ("MemoryUtilization", 25.0), ("DiskUtilization", 40.0)):
        found = (await world.told(metric, "/aws/sagemaker/Endpoints"))[-1]
        assert found.maximum == pytest.approx(value)


async def test_prometheus_is_told_the_same(world: World) -> None:
    model = Durations(2 * 3000.0, {40: 2})
    await world.hosting.report(Report("g1", (batch(1, invocations=2, errors_5xx=1, refused=4, model=model, in_flight=1),)))
    await world.hosting.report(Report("g1", (batch(2, invocations=1),)))
    lines = (await Exposition(world.db, world.hosting, lambda: world.routed).text()).splitlines()
    labels = 'account="1",region="us-east-1",endpoint="e",variant="v"'
    for line in (
        "# TYPE slipway_invocations_total counter",
        f"slipway_invocations_total{{{labels}}} 3",
        f"slipway_model_5xx_total{{{labels}}} 1",
        f"slipway_refused_total{{{labels}}} 4",
        f'slipway_model_latency_seconds_bucket{{{labels},le="0.001"}} 0',
        f'slipway_model_latency_seconds_bucket{{{labels},le="+Inf"}} 2',
        f"slipway_model_latency_seconds_sum{{{labels}}} 0.006",
        f"slipway_model_latency_seconds_count{{{labels}}} 2",
        f"slipway_instances{{{labels}}} 2",
        f"slipway_in_flight{{{labels}}} 0",
    ):
        assert line in lines


async def test_of_several_containers_each_has_metrics(world: World) -> None:
    latency = Durations(2000.0, {44: 2})
    parts = [Counted(*NAME, invocations=2, errors_5xx=each, model=latency, container=name) for each, name in enumerate("ab")]
    await world.hosting.report(Report("g", (Batch(1, T0 + 5, (Counted(*NAME, invocations=2, model=latency), *parts)),)))

    async def told(metric: str, container: str, namespace: str = "AWS/SageMaker") -> list[tuple[float, float]]:
        dimensions = {"EndpointName": "e", "VariantName": "v", **({"ContainerName": container} if container else {})}
        found = await world.metrics.statistics(
            "1", "us-east-1", namespace, metric, dimensions, start=T0, end=T0 + 600, period=60
        )
        return [(point.statistics.count, point.statistics.sum) for point in found]

    assert await told("Invocations", "") == [(2, 2.0)]
    for name in "ab":
        assert await told("Invocations", name) == [(2, 2.0)]
        assert await told("ContainerLatency", name) == [(2, 2000.0)]
    assert [await told("Invocation5XXErrors", name) for name in "ab"] == [[(2, 0.0)], [(2, 1.0)]]
    for turn in (1, 2):
        usage = [Usage(f"i-1.{n}", *NAME, float(turn * n), 10 * n, 100, 5.0, name) for n, name in enumerate("ab", 1)]
        usage[1] = replace(usage[1], loaded_models=4)
        world.hosting.measure(usage)
        world.now += 10
    await world.metrics.flush()
    memory = [await told("MemoryUtilization", name, "/aws/sagemaker/Endpoints") for name in ("a", "b", "")]
    assert memory == [[(2, 20.0)], [(2, 40.0)], [(2, 60.0)]]
    assert await told("CPUUtilization", "", "/aws/sagemaker/Endpoints") == [(1, 30.0)]
    models = [await told("LoadedModelCount", name, "/aws/sagemaker/Endpoints") for name in ("a", "b", "")]
    assert models == [[], [(2, 8.0)], [(2, 8.0)]]


async def test_models_of_many_have_metrics(world: World) -> None:
    waits = Durations(2 * 1000.0, {36: 2})
    await world.hosting.report(Report("g1", (batch(1, invocations=5, model_hits=3, model_misses=2, model_waits=waits),)))
    (hits,) = await world.told("ModelCacheHit")
    assert (hits.sum, hits.count, hits.average) == (3, 5, 0.6)
    (wait,) = await world.told("ModelLoadingWaitTime")
    assert (wait.count, wait.sum) == (2, 2000)
    place = ("i-1", *NAME, "a.tar.gz", "f" * 32)
    for kind, metric in (
        ("downloaded", "ModelDownloadingTime"),
        ("loaded", "ModelLoadingTime"),
        ("unloaded", "ModelUnloadingTime"),
    ):
        world.hosting.model_event(ModelEvent(kind, *place, 0.25))
        (found,) = await world.told(metric)
        assert (found.count, found.sum) == (1, 250_000)
    world.hosting.model_event(ModelEvent("failed", *place, 1.0))
    usage = Usage("i-1", *NAME, cpu_seconds=0.0, memory_bytes=1, memory_limit=2, disk_percent=1.0, loaded_models=7)
    world.hosting.measure([usage])
    (count,) = await world.told("LoadedModelCount", "/aws/sagemaker/Endpoints")
    assert count.maximum == 7
