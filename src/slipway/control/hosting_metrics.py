"""CloudWatch's metrics of endpoints in service: what gateways counted, zeros where nothing was, and what instances use.

hosting.md 7.1 and 7.3. Real-time endpoints get the invocation metrics here (asynchronous ones get theirs where requests are
settled); instance metrics are of both. `totals` and `loads` are the same counts for Prometheus.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from slipway.backing.metrics import Metrics
from slipway.core.histograms import of_quarters
from slipway.core.models import ModelEvent
from slipway.core.replicas import Usage, instance_of
from slipway.core.routing import Endpoint, Variant
from slipway.core.transform_jobs import host_of
from slipway.core.transforms import LOG_GROUP
from slipway.link.channel import Channel, LinkClosed, LinkError
from slipway.link.counters import COUNTERS, Counted, Report
from slipway.store.db import StoreError

logger = logging.getLogger(__name__)

NAMESPACE = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"
PERIOD = 60
CONCURRENCY_PERIOD = 10
CLOSE_SECONDS = 0.2
"""After a period's end, until zeros are published for what nobody counted in it; alarms look a little later."""
FORGET_SECONDS = 900.0
"""After which the totals of a variant that is not in service any more go."""

_MODEL_METRICS = {"downloaded": "ModelDownloadingTime", "loaded": "ModelLoadingTime", "unloaded": "ModelUnloadingTime"}

Name = tuple[str, str, str, str]
"""Account, region, endpoint, variant."""


@dataclass(slots=True)
class Totals:
    """Of one variant, since this control began; cumulative."""

    invocations: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    model_errors: int = 0
    refused: int = 0
    model_micros: float = 0.0
    model: dict[int, int] = field(default_factory=dict)
    """Count by bucket."""
    overhead_micros: float = 0.0
    overhead: dict[int, int] = field(default_factory=dict)
    heard: float = 0.0

    def add(self, counted: Counted) -> None:
        self.invocations += counted.invocations
        self.errors_4xx += counted.errors_4xx
        self.errors_5xx += counted.errors_5xx
        self.model_errors += counted.model_errors
        self.refused += counted.refused
        self.model_micros += counted.model.total
        self.overhead_micros += counted.overhead.total
        for mine, fresh in ((self.model, counted.model.buckets), (self.overhead, counted.overhead.buckets)):
            for bucket, count in fresh.items():
                mine[bucket] = mine.get(bucket, 0) + count


@dataclass(slots=True)
class _Period:
    """What was told of in one period."""

    invoked: set[Name] = field(default_factory=set)
    seen: set[Name] = field(default_factory=set)


class HostingMetrics:
    """`attach` each channel of the link server; `run` as a task."""

    def __init__(
        self,
        metrics: Metrics,
        routed: Callable[[], Mapping[str, Endpoint]],
        usage: Callable[[], Awaitable[Sequence[Usage]]],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`routed`: endpoints in service, by ARN. `usage`: what replicas use now, from the keeper."""
        self._metrics = metrics
        self._routed = routed
        self._usage = usage
        self._now = now
        self._known: dict[str, int] = {}
        self._periods: dict[float, _Period] = {}
        self._used: dict[str, tuple[float, float]] = {}
        """By replica: when it was measured, and CPU seconds until then."""
        self.totals: dict[Name, Totals] = {}
        self.loads: dict[str, dict[Name, tuple[int, int]]] = {}
        """By gateway: requests in flight, and waiting, of each variant."""

    # What gateways say

    def attach(self, channel: Channel) -> None:
        """Register the handler on a new channel, before it reads."""
        sources: set[str] = set()

        async def report(report: Report) -> int:
            if report.source not in sources:
                sources.add(report.source)
                self.loads.setdefault(report.source, {})
            return await self.report(report)

        def closed() -> None:
            for source in sources:
                self.loads.pop(source, None)

        channel.on(COUNTERS, report, Report)
        channel.on_close(closed)

    async def report(self, report: Report) -> int:
        """Count the batches that were not counted yet; the number of the last one, once it is durable."""
        if report.source not in self._known:
            marked = await self._metrics.marked(report.source)
            self._known.setdefault(report.source, marked)
        last = self._known[report.source]
        for batch in report.batches:
            if batch.number > last:
                last = batch.number
                for counted in batch.counted:
                    self._count(report.source, counted, min(batch.at, self._now()))
        self._known[report.source] = last
        self._metrics.mark(report.source, last)
        await self._metrics.flush()
        return last

    def _count(self, source: str, counted: Counted, at: float) -> None:
        if counted.container:
            self._count_container(counted, at)
            return
        name = counted.key
        self.loads.setdefault(source, {})[name] = (counted.in_flight, counted.waiting)
        totals = self.totals.setdefault(name, Totals())
        totals.add(counted)
        totals.heard = self._now()
        told = _Told(self._metrics, name, at)
        period = self._periods.setdefault(self._metrics.floor(at, PERIOD), _Period())
        period.seen.add(name)
        load = sum(sum(loads.get(name, (0, 0))) for loads in self.loads.values())
        told.add("ConcurrentRequestsPerModel", float(load), resolution=CONCURRENCY_PERIOD)
        count = counted.invocations
        if count > 0:
            period.invoked.add(name)
            told.add("Invocations", 1.0, count)
            told.add("InvocationsPerInstance", 1.0 / self._instances(name), count)
            told.ratio("Invocation4XXErrors", counted.errors_4xx, count)
            told.ratio("Invocation5XXErrors", counted.errors_5xx, count)
            told.ratio("InvocationModelErrors", counted.model_errors, count)
        elif counted.model_errors > 0:  # an answer that broke off in a later second than it began in
            told.add("InvocationModelErrors", 1.0, counted.model_errors)
        told.ratio("ModelCacheHit", counted.model_hits, counted.model_hits + counted.model_misses)
        told.durations("ModelLoadingWaitTime", counted.model_waits.total, counted.model_waits.buckets)
        told.durations("ModelLatency", counted.model.total, counted.model.buckets)
        told.durations("OverheadLatency", counted.overhead.total, counted.overhead.buckets)

    def _count_container(self, counted: Counted, at: float) -> None:
        """Of one of several containers (containers.md 6.3)."""
        told, count = _Told(self._metrics, counted.key, at, container=counted.container), counted.invocations
        if count > 0:
            told.add("Invocations", 1.0, count)
            told.ratio("Invocation4XXErrors", counted.errors_4xx, count)
            told.ratio("Invocation5XXErrors", counted.errors_5xx, count)
            told.ratio("InvocationModelErrors", counted.model_errors, count)
        told.durations("ContainerLatency", counted.model.total, counted.model.buckets)
        told.durations("OverheadLatency", counted.overhead.total, counted.overhead.buckets)

    def _instances(self, name: Name) -> int:
        """Active ones, at least 1."""
        for endpoint in self._routed().values():
            if (endpoint.account, endpoint.region, endpoint.name) == name[:3]:
                return max(next((instances(v) for v in endpoint.variants if v.name == name[3]), 0), 1)
        return 1

    def model_event(self, event: ModelEvent) -> None:
        """What a keeper says of a model."""
        metric = _MODEL_METRICS.get(event.kind)
        if metric is not None and event.why != "gone":
            name = (event.account, event.region, event.endpoint, event.variant)
            _Told(self._metrics, name, self._now()).add(metric, event.seconds * 1e6, unit="Microseconds")

    # Each period

    async def run(self) -> None:
        """Until cancelled: soon after each period, zeros for it, and the instances' metrics."""
        width = PERIOD / self._metrics.time_scale
        while True:
            now = self._now()
            await asyncio.sleep(self._metrics.floor(now - CLOSE_SECONDS, PERIOD) + width + CLOSE_SECONDS - now)
            self.close_period(self._metrics.floor(self._now() - CLOSE_SECONDS - width / 2, PERIOD))
            with contextlib.suppress(LinkClosed, LinkError, TimeoutError, StoreError):
                async with asyncio.timeout(5.0):
                    self.measure(await self._usage())

    def close_period(self, start: float) -> None:
        """Zeros for the real-time endpoints in service that nothing was told of in the period from `start`."""
        period = self._periods.get(start, _Period())
        for name in self._served():
            told = _Told(self._metrics, name, start)
            if name not in period.invoked:
                for metric in ("Invocations", "InvocationsPerInstance"):
                    told.add(metric, 0.0)
                for metric in ("Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors"):
                    told.add(metric, 0.0)
            if name not in period.seen:
                for part in range(PERIOD // CONCURRENCY_PERIOD):
                    at = start + (part + 0.5) * CONCURRENCY_PERIOD / self._metrics.time_scale
                    _Told(self._metrics, name, at).add("ConcurrentRequestsPerModel", 0.0, resolution=CONCURRENCY_PERIOD)
        for old in [known for known in self._periods if known <= start]:
            del self._periods[old]
        served = set(self._served())
        for name in [n for n, t in self.totals.items() if n not in served and t.heard < self._now() - FORGET_SECONDS]:
            del self.totals[name]

    def _served(self) -> Iterator[Name]:
        for endpoint in self._routed().values():
            if endpoint.asynchronous is None:
                for variant in endpoint.variants:
                    yield endpoint.account, endpoint.region, endpoint.name, variant.name

    def measure(self, usage: Sequence[Usage]) -> None:
        """CPU (100 for each core), memory and disk of every instance, and of each of its containers if several, in percent."""
        now = self._now()
        used: dict[str, tuple[float, float]] = {}
        for each in [*usage, *_together(usage)]:
            used[each.id] = (now, each.cpu_seconds)
            name = (each.account, each.region, each.endpoint, each.variant)
            host = host_of(each.endpoint, each.id)
            told = _Told(self._metrics, name, now, INSTANCES, each.container)
            if host is not None:
                told = _TransformTold(self._metrics, name, now, host)
            before = self._used.get(each.id)
            if before is not None and now > before[0]:
                share = max(each.cpu_seconds - before[1], 0.0) / (now - before[0])
                told.add("CPUUtilization", share * 100.0, unit="Percent")
            if each.memory_limit > 0:
                told.add("MemoryUtilization", each.memory_bytes / each.memory_limit * 100.0, unit="Percent")
            if host is None:
                told.add("DiskUtilization", each.disk_percent, unit="Percent")
            if each.loaded_models is not None:
                told.add("LoadedModelCount", float(each.loaded_models))
        self._used = used


class _Told:
    """Metrics of one variant at one time."""

    def __init__(self, metrics: Metrics, name: Name, at: float, namespace: str = NAMESPACE, container: str = "") -> None:
        self._metrics = metrics
        self._place = (name[0], name[1], namespace)
        self._dimensions = {"EndpointName": name[2], "VariantName": name[3]}
        if container:
            self._dimensions["ContainerName"] = container
        self._at = at

    def add(self, metric: str, value: float, count: int = 1, *, unit: str = "None", resolution: int = 60) -> None:
        self._metrics.add(*self._place, metric, self._dimensions, value, unit, count=count, at=self._at, resolution=resolution)

    def ratio(self, metric: str, errors: int, count: int) -> None:
        """1 for each error, 0 for each other request, so that the average is the share."""
        if errors > 0:
            self.add(metric, 1.0, errors)
        if count > errors:
            self.add(metric, 0.0, count - errors)

    def durations(self, metric: str, total: float, buckets: Mapping[int, int]) -> None:
        statistics = of_quarters(total, buckets)
        if statistics.count:
            self._metrics.merge(*self._place, metric, self._dimensions, statistics, "Microseconds", at=self._at)


def _together(usage: Sequence[Usage]) -> list[Usage]:
    """Of each instance with several containers, what they use together."""
    found: dict[str, Usage] = {}
    for each in usage:
        if each.container:
            id = instance_of(each.id)
            before = found.get(id, replace(each, id=id, container="", cpu_seconds=0.0, memory_bytes=0, loaded_models=None))
            cpu, memory = before.cpu_seconds + each.cpu_seconds, before.memory_bytes + each.memory_bytes
            models = [count for count in (before.loaded_models, each.loaded_models) if count is not None]
            loaded = sum(models) if models else None
            found[id] = replace(before, cpu_seconds=cpu, memory_bytes=memory, loaded_models=loaded)
    return list(found.values())


class _TransformTold(_Told):
    """Metrics of one instance of a transform job (containers.md 7.4)."""

    def __init__(self, metrics: Metrics, name: Name, at: float, host: str) -> None:
        super().__init__(metrics, name, at, LOG_GROUP)
        self._dimensions = {"Host": host}


def instances(variant: Variant) -> int:
    """That take requests."""
    return len({replica.instance for replica in variant.replicas})
