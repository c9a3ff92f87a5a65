"""What gateways counted, on its way to control: once a second, over the link, each count exactly once.

A gateway sends what has been counted since its last batch, numbered, and keeps each batch until control has said that it is
durable. Control writes the number of the last batch of each gateway in the same transaction as the counts, so that a batch that
is sent again, to the same control or to the next one, counts once. A gateway that dies takes its last second along.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from slipway.link.channel import LinkClosed, LinkError
from slipway.link.client import Link

logger = logging.getLogger(__name__)

COUNTERS = "counters"
"""Request, gateway → control: Report → the number of the last batch that is durable."""
KEPT = 900
"""Batches kept while control is away: the oldest go first (a quarter of an hour at one a second)."""
AT_ONCE = 60
"""Batches of one report."""
ANSWER_SECONDS = 30.0
OFFSET = 0.9
"""Where in a period its batch is sent: late, so that what is counted in a period is told in it."""


@dataclass(frozen=True, slots=True)
class Durations:
    total: float = 0.0
    """Microseconds."""
    buckets: Mapping[int, int] = field(default_factory=dict)
    """Count by bucket (`core.histograms.quarter_bounds`)."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one variant: cumulative when read, a difference when sent; `in_flight` and `waiting` are what is now."""

    account: str
    region: str
    endpoint: str
    variant: str
    invocations: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    model_errors: int = 0
    refused: int = 0
    model: Durations = Durations()
    overhead: Durations = Durations()
    in_flight: int = 0
    waiting: int = 0
    container: str = ""
    """Of one of several containers: what is counted of the variant comes beside it."""
    model_hits: int = 0
    model_misses: int = 0
    model_waits: Durations = Durations()
    """Of a multi-model variant: requests whose model was loaded, those whose was not, and how long these waited for it."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.account, self.region, self.endpoint, self.variant

    @property
    def busy(self) -> bool:
        return self.in_flight > 0 or self.waiting > 0


@dataclass(frozen=True, slots=True)
class Batch:
    number: int
    """From 1 on, without gaps but for batches that were dropped."""
    at: float
    """Epoch seconds."""
    counted: tuple[Counted, ...]


@dataclass(frozen=True, slots=True)
class Report:
    source: str
    """The gateway's process, for as long as it lives."""
    batches: tuple[Batch, ...]


def since(before: Counted | None, now: Counted) -> Counted:
    """What was counted between two readings."""
    if before is None:
        return now
    return replace(
        now,
        invocations=now.invocations - before.invocations,
        errors_4xx=now.errors_4xx - before.errors_4xx,
        errors_5xx=now.errors_5xx - before.errors_5xx,
        model_errors=now.model_errors - before.model_errors,
        refused=now.refused - before.refused,
        model=_between(before.model, now.model),
        overhead=_between(before.overhead, now.overhead),
        model_hits=now.model_hits - before.model_hits,
        model_misses=now.model_misses - before.model_misses,
        model_waits=_between(before.model_waits, now.model_waits),
    )


def _between(before: Durations, now: Durations) -> Durations:
    fresh = {bucket: count - before.buckets.get(bucket, 0) for bucket, count in now.buckets.items()}
    return Durations(now.total - before.total, {bucket: count for bucket, count in fresh.items() if count})


class CountersSender:
    """A gateway's end: `read` gives the cumulative counts of every variant, by whatever identifies its counters."""

    def __init__(
        self,
        link_path: str,
        source: str,
        read: Callable[[], Iterable[tuple[object, Counted]]],
        now: Callable[[], float],
        *,
        every: float = 1.0,
    ) -> None:
        """`every`: seconds between two batches."""
        self._source = source
        self._read = read
        self._now = now
        self._every = every
        self._number = 0
        self._last: dict[object, Counted] = {}
        self._unsaid: deque[Batch] = deque()
        self._link = Link(link_path)
        self._tasks: list[asyncio.Task[None]] = []
        self._there = asyncio.Event()

    def start(self) -> None:
        self._link.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._collecting()), loop.create_task(self._sending())]

    async def close(self) -> None:
        """Send what was counted last, if control answers within a moment."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.collect()
        with contextlib.suppress(LinkClosed, LinkError, TimeoutError):
            if self._link.channel is not None:
                async with asyncio.timeout(1.0):
                    await self._send()
        await self._link.close()

    def collect(self) -> None:
        """Make a batch of what was counted since the last one."""
        counted = []
        current: dict[object, Counted] = {}
        for key, reading in self._read():
            before = self._last.get(key)
            current[key] = reading
            fresh = since(before, reading)
            idle = (
                fresh.invocations == 0
                and fresh.model_misses == 0
                and fresh.model_errors == 0
                and fresh.refused == 0
                and not fresh.model.buckets
            )
            # A variant that has come to rest is told once more: control shall know that nothing is in flight.
            if not idle or fresh.busy or (before is not None and before.busy):
                counted.append(fresh)
        self._last = current
        if counted:
            self._number += 1
            self._unsaid.append(Batch(self._number, self._now(), tuple(counted)))
            if len(self._unsaid) > KEPT:
                self._unsaid.popleft()
                logger.warning("counters-dropped", extra={"batches": 1})
            self._there.set()

    async def _collecting(self) -> None:
        while True:
            phase = self._now() / self._every % 1.0
            await asyncio.sleep(((OFFSET - phase) % 1.0 or 1.0) * self._every)
            self.collect()

    async def _sending(self) -> None:
        while True:
            await self._there.wait()
            await self._link.ready()
            try:
                await self._send()
            except (LinkClosed, LinkError, TimeoutError) as error:
                logger.debug("counters-not-sent", extra={"error": repr(error)})
                await asyncio.sleep(self._every)

    async def _send(self) -> None:
        while self._unsaid:
            report = Report(self._source, tuple(self._unsaid)[:AT_ONCE])
            durable: int = await self._link.request(COUNTERS, report, int, timeout=ANSWER_SECONDS)
            while self._unsaid and self._unsaid[0].number <= durable:
                self._unsaid.popleft()
        self._there.clear()
