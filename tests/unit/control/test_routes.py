"""The published tables: whole, versioned, coalesced; and what is known of the gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from slipway.control.changes import Changes
from slipway.control.routes import Routes
from slipway.core.asynchronous import AsyncOptions
from slipway.core.routing import Endpoint, Key, Replica, Variant
from tests.deadlines import PATIENCE
from tests.unit.control.world import FakeFeed


def endpoint(name: str, *ids: str) -> Endpoint:
    return Endpoint("1", "r", name, (Variant("A", 1.0, tuple(Replica(id, id, "frames", ("unix:/x",)) for id in ids)),))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed()


async def test_nothing_is_published_before_it_is_complete(feed: FakeFeed) -> None:
    routes = Routes(feed, lambda arn: None, version=7)
    routes.put("e", endpoint("e", "i"))
    routes.put("f", endpoint("f", "j"))
    routes.set_keys([Key("AK", "s", "1", "root")])
    await turns()
    assert feed.tables == []
    routes.open()
    await turns()
    (table,) = feed.tables
    assert (table.version, set(table.endpoints), set(table.keys)) == (8, {"1/r/e", "1/r/f"}, {"AK"})
    await routes.stop()


async def test_confirmed_and_drained(feed: FakeFeed) -> None:
    told: list[str] = []
    routes = Routes(feed, told.append)
    routes.open()
    routes.put("e", endpoint("e", "i"))
    assert not routes.confirmed("e")
    feed.acknowledge.set()
    await turns()
    assert routes.confirmed("e")
    assert told == ["e"]
    routes.put("e", endpoint("e", "j"))
    await turns()
    assert routes.held("e") == {"i"}
    feed.drain.set()
    await turns()
    assert routes.held("e") == frozenset()
    assert told[-1] == "e"
    await routes.stop()


async def test_what_an_earlier_control_routed_is_held(feed: FakeFeed) -> None:
    routes = Routes(feed, lambda arn: None)
    routes.adopt("e", ["i", "old"])
    routes.put("e", endpoint("e", "i"))
    assert routes.held("e") == {"i", "old"}
    routes.open()
    await turns()
    assert routes.held("e") == {"old"}
    assert not routes.confirmed("gone")
    feed.acknowledge.set()
    feed.drain.set()
    await turns()
    assert routes.held("e") == frozenset()
    assert routes.confirmed("gone")
    await routes.stop()


async def test_a_gateway_that_hangs_is_not_waited_for_without_end(feed: FakeFeed) -> None:
    routes = Routes(feed, lambda arn: None, acknowledge_seconds=0.01, drain_seconds=0.01)
    routes.open()
    routes.put("e", endpoint("e", "i"))
    await turns()
    routes.put("e", endpoint("e"))
    async with asyncio.timeout(PATIENCE):
        while routes.held("e") or not routes.confirmed("e"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert routes.confirmed("e")
    assert routes.held("e") == frozenset()
    await routes.stop()


class BusyFeed(FakeFeed):
    """Gateways with requests in flight on `busy`."""

    def __init__(self, *busy: str) -> None:
        super().__init__()
        self.busy = set(busy)
        self.changed = asyncio.Event()

    async def drained(self, replica_ids: Iterable[str]) -> None:
        while not self.busy.isdisjoint(replica_ids):
            await self.changed.wait()


async def test_each_replica_drains_for_itself() -> None:
    feed = BusyFeed("busy")
    routes = Routes(feed, lambda arn: None)
    routes.open()
    routes.put("e", endpoint("e", "busy", "idle", "stays"))
    await turns()
    routes.put("e", endpoint("e", "stays"))
    await turns()
    assert routes.held("e") == {"busy"}
    feed.busy.clear()
    feed.changed.set()
    await turns()
    assert routes.held("e") == frozenset()
    await routes.stop()


@pytest.mark.parametrize(("asynchronous", "held"), [(None, frozenset[str]()), (AsyncOptions("s3://b/o"), frozenset({"i"}))])
async def test_an_asynchronous_request_is_waited_for_longer(asynchronous: AsyncOptions | None, held: frozenset[str]) -> None:
    routes = Routes(BusyFeed("i"), lambda arn: None, drain_seconds=0.01, async_drain_seconds=60)
    routes.open()
    routes.put("e", replace(endpoint("e", "i"), asynchronous=asynchronous))
    await turns()
    routes.put("e", replace(endpoint("e"), asynchronous=asynchronous))
    async with asyncio.timeout(PATIENCE):
        while routes.held("e") != held:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert routes.held("e") == held
    await routes.stop()


async def test_equal_entries_make_no_table(feed: FakeFeed) -> None:
    routes = Routes(feed, lambda arn: None)
    routes.open()
    routes.put("e", endpoint("e", "i"))
    await turns()
    routes.put("e", endpoint("e", "i"))
    await turns()
    assert len(feed.tables) == 1
    routes.forget("e")
    await turns()
    assert feed.tables[-1].endpoints == {}
    await routes.stop()


async def test_changes_are_told_to_listeners() -> None:
    changes = Changes()
    told: list[tuple[str, str]] = []
    changes.listen(lambda kind, key: told.append((kind, key)))
    changes.happened("endpoint", "e")
    assert told == [("endpoint", "e")]


async def test_changes_wake_those_who_wait() -> None:
    changes = Changes()
    waiting = asyncio.ensure_future(changes.wait("endpoint", "e", 30))
    other = asyncio.ensure_future(changes.wait("endpoint", "f", 0.01))
    await turns()
    changes.happened("endpoint", "e")
    await asyncio.wait_for(waiting, PATIENCE)
    await asyncio.wait_for(other, PATIENCE)
