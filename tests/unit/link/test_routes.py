"""The route feed, over a real link on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.routing import Endpoint, Key, Replica, RouteTable, Variant
from slipway.link import channel, routes
from slipway.link.routes import RouteFeed, RouteSubscriber, apply_changes, difference
from tests.deadlines import PATIENCE
from tests.unit.http.serving import until

KEY = Key("AKID", "secret", "1", "arn:aws:iam::1:root")


def endpoint(name: str, *replicas: str) -> Endpoint:
    found = tuple(Replica(ident, ident, "frames", (f"unix:/{ident}",)) for ident in replicas)
    return Endpoint("1", "r", name, (Variant("AllTraffic", 1.0, found),))


def table(version: int, **replicas: str) -> RouteTable:
    endpoints = {f"1/r/{name}": endpoint(name, *value.split()) for name, value in replicas.items()}
    return RouteTable(version, endpoints, {"AKID": KEY})


tables = st.builds(
    RouteTable,
    st.integers(1, 9),
    st.dictionaries(st.sampled_from("abc"), st.builds(endpoint, st.sampled_from("xy"), st.sampled_from("rs"))),
    st.dictionaries(st.sampled_from("kl"), st.sampled_from([KEY, Key("B", "other", "2", "p")])),
)


@given(tables, tables)
def test_changes_turn_one_table_into_the_other(old: RouteTable, new: RouteTable) -> None:
    assert apply_changes(old, difference(old, new)) == new


@dataclass
class Gateway:
    subscriber: RouteSubscriber
    taken: list[RouteTable] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


@dataclass
class Setup:
    path: str
    folder: Path
    feed: RouteFeed
    alive: set[int]
    server: channel.Server | None = None
    gateways: list[Gateway] = field(default_factory=list)

    async def control(self, feed: RouteFeed | None = None) -> None:
        """Start (or restart) control's end."""
        if self.server is not None:
            await self.server.close()
            await self.feed.close()
        if feed is not None:
            self.feed = feed
        self.server = await channel.serve(self.path, lambda one: self.feed.attach(one))

    def gateway(self, name: str = "g") -> Gateway:
        taken: list[RouteTable] = []
        busy: list[str] = []
        subscriber = RouteSubscriber(self.path, str(self.folder / f"{name}.json"), taken.append, lambda: busy)
        self.gateways.append(Gateway(subscriber, taken, busy))
        return self.gateways[-1]


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    alive = {os.getpid()}
    found = Setup(str(tmp_path / "link.sock"), tmp_path, RouteFeed(alive=alive.__contains__), alive)
    await found.control()
    yield found
    for gateway in found.gateways:
        await gateway.subscriber.close()
    assert found.server is not None
    await found.server.close()
    await found.feed.close()


async def pending(work: asyncio.Task[None]) -> bool:
    done, _ = await asyncio.wait({work}, timeout=0.15)
    return not done


async def test_snapshot_then_changes_then_acknowledged(setup: Setup) -> None:
    setup.feed.publish(table(1, a="r1"))
    gateway = setup.gateway()
    gateway.subscriber.start()
    await until(lambda: [found.version for found in gateway.taken] == [1])
    await asyncio.wait_for(setup.feed.acknowledged(1), PATIENCE)
    setup.feed.publish(table(2, a="r1", b="r2"))
    await asyncio.wait_for(setup.feed.acknowledged(2), PATIENCE)
    setup.feed.publish(table(3, b="r3"))
    await asyncio.wait_for(setup.feed.acknowledged(3), PATIENCE)
    assert gateway.taken == [table(1, a="r1"), table(2, a="r1", b="r2"), table(3, b="r3")]


async def test_a_dispatcher_keeps_no_file(setup: Setup) -> None:
    taken: list[RouteTable] = []
    subscriber = RouteSubscriber(setup.path, None, taken.append, lambda: ())
    assert not subscriber.load()
    setup.feed.publish(table(1, a="r1"))
    subscriber.start()
    await asyncio.wait_for(setup.feed.acknowledged(1), PATIENCE)
    await until(lambda: taken == [table(1, a="r1")])
    await subscriber.close()
    assert list(setup.folder.glob("*.json*")) == []


async def test_a_gateway_that_came_before_the_first_table(setup: Setup) -> None:
    gateway = setup.gateway()
    gateway.subscriber.start()
    await asyncio.sleep(0.05)
    setup.feed.publish(table(7, a="r1"))
    await asyncio.wait_for(setup.feed.acknowledged(7), PATIENCE)
    await until(lambda: gateway.taken == [table(7, a="r1")])


async def test_drained_waits_for_busy_replicas(setup: Setup) -> None:
    setup.feed.publish(table(1, a="r1"))
    gateway = setup.gateway()
    gateway.subscriber.start()
    await until(lambda: bool(gateway.taken))
    gateway.busy.append("r1")
    setup.feed.publish(table(2, a="r2"))
    draining = asyncio.create_task(setup.feed.drained(["r1"]))
    assert await pending(draining)
    gateway.busy.clear()
    gateway.subscriber.busy_changed()
    await asyncio.wait_for(draining, PATIENCE)


async def test_a_new_control_hears_the_dispatchers_before_it_takes_anything_for_drained(setup: Setup) -> None:
    await setup.control(RouteFeed(alive=setup.alive.__contains__, dispatchers=1))
    setup.feed.publish(table(1, a="r2"))
    await asyncio.wait_for(setup.feed.acknowledged(1), PATIENCE)
    draining = asyncio.create_task(setup.feed.drained(["r1"]))
    assert await pending(draining)
    dispatcher = setup.gateway()
    dispatcher.busy.append("r1")
    dispatcher.subscriber.start()
    await until(lambda: bool(dispatcher.taken))
    assert await pending(draining)
    dispatcher.busy.clear()
    dispatcher.subscriber.busy_changed()
    await asyncio.wait_for(draining, PATIENCE)


async def test_a_dispatcher_that_never_comes_is_not_waited_for_without_end(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_ABSENT", 0.01)
    await setup.control(RouteFeed(alive=setup.alive.__contains__, dispatchers=1))
    setup.feed.publish(table(1))
    await asyncio.wait_for(setup.feed.drained(["r1"]), PATIENCE)


async def test_a_broken_link_counts_until_its_process_is_gone(setup: Setup) -> None:
    setup.feed.publish(table(1, a="r1"))
    gateway = setup.gateway()
    gateway.subscriber.start()
    await asyncio.wait_for(setup.feed.acknowledged(1), PATIENCE)
    await until(lambda: bool(gateway.taken))
    await gateway.subscriber.close()
    setup.feed.publish(table(2))
    waiting = asyncio.create_task(setup.feed.acknowledged(2))
    assert await pending(waiting)
    setup.alive.clear()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_expected_gateways_are_waited_for(setup: Setup) -> None:
    await setup.control(RouteFeed(expected=1, alive=setup.alive.__contains__))
    setup.feed.publish(table(1))
    waiting = asyncio.create_task(setup.feed.acknowledged(1))
    assert await pending(waiting)
    setup.gateway().subscriber.start()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_control_restarts(setup: Setup) -> None:
    setup.feed.publish(table(1, a="r1"))
    gateway = setup.gateway()
    gateway.subscriber.start()
    await until(lambda: bool(gateway.taken))
    await setup.control(RouteFeed(alive=setup.alive.__contains__))
    await asyncio.sleep(0.1)
    assert gateway.subscriber.table == table(1, a="r1")
    setup.feed.publish(table(5, b="r2"))
    await until(lambda: gateway.subscriber.table == table(5, b="r2"))
    await asyncio.wait_for(setup.feed.acknowledged(5), PATIENCE)


async def test_the_clock_was_set_back_before_control_restarted(setup: Setup) -> None:
    setup.feed.publish(table(900, a="r1"))
    gateway = setup.gateway()
    gateway.subscriber.start()
    await until(lambda: bool(gateway.taken))
    await setup.control(RouteFeed(expected=1, alive=setup.alive.__contains__))
    waiting = asyncio.create_task(setup.feed.acknowledged(5))
    assert await pending(waiting), "what it says of the old control's tables is no acknowledgement of this one's"
    setup.feed.publish(table(5, b="r2"))
    await until(lambda: gateway.subscriber.table == table(5, b="r2"))
    await asyncio.wait_for(waiting, PATIENCE)
    setup.feed.publish(table(6, b="r3"))
    await asyncio.wait_for(setup.feed.acknowledged(6), PATIENCE)
    assert gateway.taken[-1] == table(6, b="r3")


async def test_a_table_that_cannot_be_taken_is_not_acknowledged(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    taken: list[RouteTable] = []

    def take(found: RouteTable) -> None:
        if "1/r/bad" in found.endpoints:
            raise ValueError("no such table can be")
        taken.append(found)

    subscriber = RouteSubscriber(setup.path, str(setup.folder / "g.json"), take, lambda: ())
    setup.gateways.append(Gateway(subscriber, taken))
    subscriber.start()
    setup.feed.publish(table(1, a="r1"))
    await until(lambda: bool(taken))
    setup.feed.publish(table(2, bad="r2"))
    await until(lambda: "link-notification-failed" in caplog.text)
    subscriber.busy_changed()
    waiting = asyncio.create_task(setup.feed.acknowledged(2))
    assert await pending(waiting)
    setup.feed.publish(table(3, a="r3"))
    await asyncio.wait_for(waiting, PATIENCE)
    assert taken[-1] == table(3, a="r3")


async def test_the_last_table_is_kept_on_disk_privately(setup: Setup) -> None:
    setup.feed.publish(table(3, a="r1"))
    gateway = setup.gateway("same")
    assert not gateway.subscriber.load()
    gateway.subscriber.start()
    file = setup.folder / "same.json"
    await until(file.exists)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = setup.gateway("same")
    assert again.subscriber.load()
    assert again.taken == [table(3, a="r1")]
    file.write_bytes(b"{broken")
    assert not setup.gateway("same").subscriber.load()


async def test_many_tables_at_once_arrive_as_few(setup: Setup) -> None:
    setup.feed.publish(table(1))
    gateway = setup.gateway()
    gateway.subscriber.start()
    await until(lambda: bool(gateway.taken))
    for version in range(2, 200):
        setup.feed.publish(table(version, a=f"r{version}"))
    await asyncio.wait_for(setup.feed.acknowledged(199), PATIENCE)
    assert gateway.subscriber.table == table(199, a="r199")
    assert len(gateway.taken) < 10
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
