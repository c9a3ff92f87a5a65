"""What follows the commit that ended asynchronous requests: metrics of each (hosting.md 7.4), and lines in the data log.

Metrics are in memory, log lines are written by a thread: nothing here can fail a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from slipway.backing.logs import AlreadyExists, Logs, NoGroup, NoStream
from slipway.backing.metrics import Metrics
from slipway.core.async_notices import data_log_line
from slipway.core.asynchronous import EXPIRED, FAILED, SUCCEEDED, Spent
from slipway.core.histograms import Statistics
from slipway.names import endpoint_log_group
from slipway.store.jobs import Place
from slipway.store.jobs_settle import Settled

logger = logging.getLogger(__name__)

NAMESPACE = "AWS/SageMaker"
COUNT = "Count"
NONE = "None"
MICROSECONDS = "Microseconds"
MILLISECONDS = "Milliseconds"

COUNTS = (
    ("InvocationsProcessed", COUNT),
    ("InvocationsProcesssed", COUNT),  # as AWS's guide spells it since 2021: nobody knows which one is published
    ("InvocationFailures", COUNT),
    ("ExpiredRequests", COUNT),
    ("RequestDownloadFailures", COUNT),
    ("ResponseUploadFailures", COUNT),
    ("NotificationFailures", COUNT),
    ("Invocation4XXErrors", NONE),
    ("Invocation5XXErrors", NONE),
)
"""Metrics whose zeros are published in each period."""
_UNITS = dict(COUNTS)
_PROCESSED = ("model-error", "timeout", "no-answer", "too-large", "upload")
"""Causes of requests that a container had."""
_FAILURES = ("model-error", "timeout", "no-answer", "too-large")

FLUSH_SECONDS = 0.2
WAITING_LINES = 50_000
"""Log lines that wait for the thread; more are dropped, and counted."""

_Stream = tuple[str, str, str, str]


class Ends:
    """Of one control. `variant_of`: the variant that an endpoint has, where a request never came to one."""

    def __init__(
        self, metrics: Metrics, logs: Logs, variant_of: Callable[[Place], str], *, flush_seconds: float = FLUSH_SECONDS
    ) -> None:
        self._metrics = metrics
        self._logs = logs
        self._variant_of = variant_of
        self._flush_seconds = flush_seconds
        self._lines: dict[_Stream, list[tuple[int, str]]] = {}
        self._waiting = 0
        self._dropped = 0
        self._writing: asyncio.Task[None] | None = None

    def tell(self, settled: Sequence[Settled]) -> None:
        """Count them, and have the lines of those that failed written soon."""
        groups: dict[tuple[Place, str], list[Settled]] = defaultdict(list)
        for each in settled:
            groups[each.place, self._variant(each)].append(each)
            if each.state in (FAILED, EXPIRED):
                self._log(each)
        for (place, variant), of in groups.items():
            self._count(place, variant, of)

    async def close(self) -> None:
        """Write the lines that wait."""
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        await self._write()

    def _variant(self, settled: Settled) -> str:
        outcome = settled.outcome
        return (outcome.variant if outcome is not None else "") or settled.job.variant or self._variant_of(settled.place)

    def _count(self, place: Place, variant: str, settled: Sequence[Settled]) -> None:
        found: dict[tuple[str, str], Statistics] = defaultdict(Statistics)
        for each in settled:
            for name, unit, value in measures(each):
                found[name, unit].add(value)
        dimensions = {"EndpointName": place.endpoint, "VariantName": variant}
        for (name, unit), statistics in found.items():
            self._metrics.merge(place.account, place.region, NAMESPACE, name, dimensions, statistics, unit)
        self._count_containers(place, dimensions, settled)

    def _count_containers(self, place: Place, dimensions: Mapping[str, str], settled: Sequence[Settled]) -> None:
        """Of each container of a pipeline (containers.md 6.3)."""
        found: dict[tuple[str, str, str], Statistics] = defaultdict(Statistics)
        for each in settled:
            for spent in each.outcome.containers if each.outcome is not None else ():
                for name, unit, value in container_measures(spent):
                    found[spent.container, name, unit].add(value)
        for (container, name, unit), statistics in found.items():
            own = {**dimensions, "ContainerName": container}
            self._metrics.merge(place.account, place.region, NAMESPACE, name, own, statistics, unit)

    def _log(self, settled: Settled) -> None:
        if self._waiting >= WAITING_LINES:
            self._dropped += 1
            return
        place, outcome = settled.place, settled.outcome
        instance = (outcome.instance if outcome is not None else "") or settled.job.instance
        parts = (self._variant(settled), instance, "data-log")
        stream = (
            place.account,
            place.region,
            endpoint_log_group(place.endpoint),
            "/".join(part for part in parts if part),
        )
        line = data_log_line(settled.finished, settled.job.inference_id, settled.cause)
        self._lines.setdefault(stream, []).append((int(settled.finished * 1000), line))
        self._waiting += 1
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        while self._lines:
            await asyncio.sleep(self._flush_seconds)
            await self._write()

    async def _write(self) -> None:
        lines, self._lines, self._waiting = self._lines, {}, 0
        if self._dropped:
            logger.warning("data-log-lines-dropped", extra={"lines": self._dropped})
            self._dropped = 0
        for stream, events in lines.items():
            try:
                await asyncio.to_thread(self._append, stream, events)
            except (OSError, NoGroup, NoStream) as error:
                logger.warning("data-log-not-written", extra={"group": stream[2], "error": str(error)})

    def _append(self, stream: _Stream, events: Sequence[tuple[int, str]]) -> None:
        account, region, group, name = stream
        try:
            self._logs.append(account, region, group, name, events)
        except (NoGroup, NoStream):
            with contextlib.suppress(AlreadyExists):
                self._logs.create_group(account, region, group)
            with contextlib.suppress(AlreadyExists):
                self._logs.create_stream(account, region, group, name)
            self._logs.append(account, region, group, name, events)


def measures(settled: Settled) -> Iterable[tuple[str, str, float]]:
    """Name, unit and value of each metric of one request."""
    job, outcome, kind = settled.job, settled.outcome, settled.cause_kind
    if settled.notified is False:
        yield "NotificationFailures", COUNT, 1.0
    if settled.state == EXPIRED:
        yield "ExpiredRequests", COUNT, 1.0
        return
    if settled.state == SUCCEEDED or (settled.state == FAILED and kind in _PROCESSED):
        yield "InvocationsProcessed", COUNT, 1.0
        yield "InvocationsProcesssed", COUNT, 1.0
        status = outcome.status if outcome is not None else 0
        yield "Invocation4XXErrors", NONE, float(400 <= status < 500)
        yield "Invocation5XXErrors", NONE, float(500 <= status < 600)
        yield "TotalProcessingTime", MILLISECONDS, (settled.finished - job.received) * 1e3
    if settled.state == FAILED:
        if kind in _FAILURES:
            yield "InvocationFailures", COUNT, 1.0
        elif kind == "download":
            yield "RequestDownloadFailures", COUNT, 1.0
        elif kind == "upload":
            yield "ResponseUploadFailures", COUNT, 1.0
    if outcome is None:
        return
    started = outcome.started if outcome.started is not None else job.started
    if started is not None:
        yield "TimeInBacklog", MILLISECONDS, max(0.0, started - job.received) * 1e3
    for name, seconds in (
        ("RequestDownloadLatency", outcome.download_seconds),
        ("ModelLatency", outcome.model_seconds),
        ("ResponseUploadLatency", outcome.upload_seconds),
    ):
        if seconds is not None:
            yield name, MICROSECONDS, seconds * 1e6


def container_measures(spent: Spent) -> Iterable[tuple[str, str, float]]:
    """The same of one container of a pipeline that had a request."""
    yield "Invocations", NONE, 1.0
    yield "Invocation4XXErrors", NONE, float(400 <= spent.status < 500)
    yield "Invocation5XXErrors", NONE, float(500 <= spent.status < 600)
    yield "InvocationModelErrors", NONE, float(not 200 <= spent.status < 300)
    yield "ContainerLatency", MICROSECONDS, spent.seconds * 1e6
    yield "OverheadLatency", MICROSECONDS, spent.waited * 1e6


def zeros(metrics: Metrics, account: str, region: str, endpoint: str, variant: str, at: float) -> None:
    """Nothing happened is a value too: alarms tell it from missing data."""
    dimensions = {"EndpointName": endpoint, "VariantName": variant}
    for name, unit in COUNTS:
        metrics.add(account, region, NAMESPACE, name, dimensions, 0.0, unit, at=at)
