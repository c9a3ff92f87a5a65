"""What Prometheus is told: the counts that CloudWatch's metrics are of, as cumulative counters, and the load of now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from slipway.control.hosting_metrics import HostingMetrics, Name, Totals, instances
from slipway.core.exposition import Family, Labels, render
from slipway.core.routing import Endpoint
from slipway.store import jobs_queries
from slipway.store.db import Db
from slipway.store.jobs_queries import Backlog


class Exposition:
    """`text` at each scrape."""

    def __init__(
        self,
        db: Db,
        hosting: HostingMetrics,
        routed: Callable[[], Mapping[str, Endpoint]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._db = db
        self._hosting = hosting
        self._routed = routed

    async def text(self) -> str:
        backlogs = await self._db.read(jobs_queries.backlogs)
        return render([*self._counted(), *self._present(), *_queues(backlogs, self._clock())])

    def _counted(self) -> list[Family]:
        totals = sorted(self._hosting.totals.items())
        families = [
            _counters("invocations", "Requests that were sent to a container.", totals, lambda t: t.invocations),
            _counters("model_4xx", "Requests that the model answered with 4xx.", totals, lambda t: t.errors_4xx),
            _counters("model_5xx", "Requests that the model answered with 5xx.", totals, lambda t: t.errors_5xx),
            _counters("model_errors", "Requests without a 2xx from the model.", totals, lambda t: t.model_errors),
            _counters("refused", "Requests that no container had room for.", totals, lambda t: t.refused),
        ]
        model = Family("slipway_model_latency_seconds", "histogram", "From handing over to the last byte of the answer.")
        overhead = Family("slipway_overhead_latency_seconds", "histogram", "The rest of a request's time.")
        for name, each in totals:
            model.durations(_labels(name), each.model_micros, each.model)
            overhead.durations(_labels(name), each.overhead_micros, each.overhead)
        return [*families, model, overhead]

    def _present(self) -> list[Family]:
        there = Family("slipway_instances", "gauge", "Instances that take requests.")
        flying = Family("slipway_in_flight", "gauge", "Requests that are with a container.")
        waiting = Family("slipway_waiting", "gauge", "Requests that wait for a container.")
        for endpoint in self._routed().values():
            for variant in endpoint.variants:
                name = (endpoint.account, endpoint.region, endpoint.name, variant.name)
                labels = _labels(name)
                loads = [load.get(name, (0, 0)) for load in self._hosting.loads.values()]
                there.add(labels, instances(variant))
                flying.add(labels, sum(load[0] for load in loads))
                waiting.add(labels, sum(load[1] for load in loads))
        return [there, flying, waiting]


def _queues(backlogs: Sequence[Backlog], now: float) -> list[Family]:
    waiting = Family("slipway_async_backlog", "gauge", "Asynchronous requests that wait or run.")
    oldest = Family("slipway_async_oldest_seconds", "gauge", "Age of the oldest asynchronous request that has not ended.")
    ended = Family("slipway_async_ended_total", "counter", "Asynchronous requests by the way they ended.")
    for each in backlogs:
        queue, place = each.queue, each.queue.place
        labels = {"account": place.account, "region": place.region, "endpoint": place.endpoint}
        waiting.add(labels, queue.backlog)
        oldest.add(labels, 0.0 if each.oldest is None else max(0.0, now - each.oldest))
        ends = {"succeeded": queue.succeeded, "failed": queue.failed, "expired": queue.expired, "cancelled": queue.cancelled}
        for state, count in ends.items():
            ended.add({**labels, "state": state}, count)
    return [waiting, oldest, ended]


def _counters(name: str, words: str, totals: list[tuple[Name, Totals]], value: Callable[[Totals], int]) -> Family:
    family = Family(f"slipway_{name}_total", "counter", words)
    for key, each in totals:
        family.add(_labels(key), value(each))
    return family


def _labels(name: Name) -> Labels:
    return {"account": name[0], "region": name[1], "endpoint": name[2], "variant": name[3]}
