"""Counters on their way to control: each count once, whatever breaks and whoever starts again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.link.channel import Channel, LinkError, Server, serve
from slipway.link.counters import COUNTERS, KEPT, Counted, CountersSender, Durations, Report, since
from tests.deadlines import PATIENCE


def counted(n: int = 0, **more: object) -> Counted:
    base = Counted("1", "r", "e", "v", invocations=n, model=Durations(n * 10.0, {5: n} if n else {}))
    return Counted(**{**{name: getattr(base, name) for name in Counted.__slots__}, **more})


class Gateway:
    """What a gateway counts."""

    def __init__(self) -> None:
        self.n = 0
        self.in_flight = 0

    def read(self) -> Iterator[tuple[object, Counted]]:
        yield "v", counted(self.n, in_flight=self.in_flight)


class Control:
    """Counts batches it has not counted, as `control.hosting_metrics` does; `durable` outlives it."""

    def __init__(self, path: str, durable: dict[str, int], totals: dict[str, int]) -> None:
        self.path = path
        self.durable = durable
        self.totals = totals
        self.reports: list[Report] = []
        self.fails = False
        self.heard = asyncio.Event()
        self.server: Server | None = None

    async def start(self) -> None:
        self.server = await serve(self.path, self._attach)

    def _attach(self, channel: Channel) -> None:
        channel.on(COUNTERS, self._report, Report)

    async def _report(self, report: Report) -> int:
        self.reports.append(report)
        self.heard.set()
        if self.fails:
            raise LinkError("away", "the store is")
        for batch in report.batches:
            if batch.number > self.durable.get(report.source, 0):
                self.durable[report.source] = batch.number
                for each in batch.counted:
                    self.totals["invocations"] = self.totals.get("invocations", 0) + each.invocations
                    self.totals["micros"] = self.totals.get("micros", 0) + int(each.model.total)
        return self.durable.get(report.source, 0)

    async def close(self) -> None:
        if self.server is not None:
            await self.server.close()


async def until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for is another task's doing
            await asyncio.sleep(0.005)


def test_differences() -> None:
    first = counted(3, errors_4xx=1, model=Durations(30.0, {1: 1, 5: 2}))
    second = counted(8, errors_4xx=1, model=Durations(90.0, {1: 1, 5: 6, 7: 1}), in_flight=2)
    fresh = since(first, second)
    assert (fresh.invocations, fresh.errors_4xx, fresh.in_flight) == (5, 0, 2)
    assert fresh.model == Durations(60.0, {5: 4, 7: 1})
    assert since(None, first) == first


async def test_every_count_arrives_once_through_lost_answers_and_new_controls(tmp_path: Path) -> None:
    chance = random.Random(3)
    durable: dict[str, int] = {}
    totals: dict[str, int] = {}
    path = str(tmp_path / "link.sock")
    gateway = Gateway()
    control = Control(path, durable, totals)
    await control.start()
    sender = CountersSender(path, "1.a", gateway.read, lambda: asyncio.get_running_loop().time(), every=0.01)
    sender.start()
    for _ in range(15):
        gateway.n += chance.randrange(20)
        control.fails = chance.random() < 0.3
        await asyncio.sleep(chance.random() * 0.03)
        if chance.random() < 0.5:  # killed at any moment: after the commit, before the answer
            await control.close()
            control = Control(path, durable, totals)
            await control.start()
    control.fails = False
    await until(lambda: totals.get("invocations") == gateway.n)
    await sender.close()
    assert totals == {"invocations": gateway.n, "micros": gateway.n * 10}
    await control.close()


async def test_an_idle_gateway_says_nothing_and_one_at_rest_says_so_once(tmp_path: Path) -> None:
    path = str(tmp_path / "link.sock")
    control = Control(path, {}, {})
    await control.start()
    gateway = Gateway()
    sender = CountersSender(path, "1.a", gateway.read, lambda: 0.0, every=60.0)
    sender.start()
    for in_flight, batches in ((0, 0), (2, 1), (2, 2), (0, 3), (0, 3)):
        gateway.in_flight = in_flight
        sender.collect()
        await until(lambda: sum(len(report.batches) for report in control.reports) == batches)  # noqa: B023
    assert [report.batches[0].counted[0].in_flight for report in control.reports] == [2, 2, 0]
    await sender.close()
    await control.close()


async def test_the_last_counts_are_sent_at_the_end(tmp_path: Path) -> None:
    path = str(tmp_path / "link.sock")
    totals: dict[str, int] = {}
    control = Control(path, {}, totals)
    await control.start()
    gateway = Gateway()
    sender = CountersSender(path, "1.a", gateway.read, lambda: 0.0, every=60.0)
    sender.start()
    gateway.n = 1
    sender.collect()
    await control.heard.wait()
    gateway.n = 7
    await sender.close()
    assert totals["invocations"] == 7
    await control.close()


async def test_what_is_kept_while_control_is_away_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "link.sock")
    gateway = Gateway()
    sender = CountersSender(path, "1.a", gateway.read, lambda: 0.0, every=60.0)
    sender.start()
    for _ in range(KEPT + 5):
        gateway.n += 1
        sender.collect()
    totals: dict[str, int] = {}
    control = Control(path, {}, totals)
    await control.start()
    await until(lambda: totals.get("invocations") == KEPT)
    assert caplog.messages.count("counters-dropped") == 5
    await sender.close()
    await control.close()
