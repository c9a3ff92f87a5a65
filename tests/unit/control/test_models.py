"""Pins in control: who loads them when an instance comes, and that they go with the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from slipway.control.models import ModelDesk, Surroundings
from slipway.control.specs import ObjectHead
from slipway.core.models import (
    FAILED,
    LOADED,
    MISSING,
    ModelAnswer,
    ModelLoad,
    ModelMoved,
    ModelPin,
    Models,
    ModelSeen,
    ModelsSeen,
    ModelUnload,
)
from slipway.core.rendezvous import ranking
from slipway.core.routing import Endpoint, Replica, Variant
from slipway.link.channel import LinkClosed

ARN = "arn:aws:sagemaker:us-east-1:1:endpoint/many"


class Found(NamedTuple):
    size: int
    etag: str


class Keeper:
    """Replicas with what they have loaded, and pins of all."""

    def __init__(self, has: Mapping[str, set[str]], pinned: tuple[str, ...]) -> None:
        self.has = {id: set(targets) for id, targets in has.items()}
        self.pinned = pinned
        self.fails = False
        self.loaded: list[tuple[str, str]] = []
        self.told: list[object] = []
        self.away = False

    async def load_model(self, order: ModelLoad, timeout: float) -> ModelAnswer:
        self.loaded.append((order.replica, order.target))
        if self.fails:
            return ModelAnswer(FAILED, order.hash, message="no")
        self.has[order.replica].add(order.target)
        return ModelAnswer(LOADED, order.hash)

    async def unload_model(self, order: ModelUnload) -> None:
        self.told.append(order)

    async def pin_model(self, order: ModelPin) -> bool:
        self.told.append(order)
        changed = (order.target in self.pinned) is not order.pinned
        others = tuple(target for target in self.pinned if target != order.target)
        self.pinned = (*others, order.target) if order.pinned else others
        return changed

    async def keep_pins(self, owners: tuple[str, ...]) -> None:
        self.told.append(owners)

    async def drop_pins(self, owner: str) -> None:
        if self.away:
            raise LinkClosed("away")
        self.told.append(owner)

    async def models(self, replica: str) -> ModelsSeen | None:
        if replica not in self.has:
            return None
        rows = tuple(ModelSeen(target, "", "e", LOADED, 1, 1, 0.0, False, False) for target in sorted(self.has[replica]))
        return ModelsSeen(replica, 0, 0, True, rows, (), self.pinned)


class World:
    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.endpoints: dict[str, Endpoint] = {}
        self.store = asyncio.Event()
        self.store.set()
        self.desk = ModelDesk(Surroundings(keeper, self._head, lambda *_: "https://signed", lambda: self.endpoints, self._tell))

    async def route(self, *replicas: str) -> None:
        found = tuple(Replica(id, id, "frames", ()) for id in replicas)
        variant = Variant("v", 1.0, found, models=Models("s3://bucket/many/"))
        self.endpoints[ARN] = Endpoint("1", "us-east-1", "many", (variant,))
        self.desk.routed(ARN)
        await self.settled()

    async def settled(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def _head(self, bucket: str, key: str, *, account: str | None) -> ObjectHead | None:
        await self.store.wait()
        return Found(10, '"e"') if key != "many/nobody" else None

    async def _tell(self, moved: ModelMoved) -> None:
        raise AssertionError(moved)


async def test_the_first_in_its_order_loads_what_is_pinned_and_once() -> None:
    keeper = Keeper({"i-1": set(), "i-2": set()}, ("a", "b"))
    world = World(keeper)
    await world.route("i-1", "i-2")
    wanted = [(ranking(target, ["i-1", "i-2"])[0], target) for target in ("a", "b")]
    assert keeper.loaded == wanted
    await world.route("i-1", "i-2")
    assert keeper.loaded == wanted


async def test_one_that_comes_gets_what_all_others_have() -> None:
    keeper = Keeper({"i-1": {"a", "other"}, "i-2": {"a"}, "i-3": set()}, ("a",))
    world = World(keeper)
    await world.route("i-1", "i-2")
    assert keeper.loaded == []
    await world.route("i-1", "i-2", "i-3")
    assert keeper.loaded == [("i-3", "a")]


async def test_pins_go_with_the_endpoint_and_a_keeper_that_was_away_hears_of_those_that_are() -> None:
    keeper = Keeper({}, ())
    world = World(keeper)
    keeper.away = True
    world.desk.forget(ARN)
    await world.settled()
    keeper.away = False
    world.desk.adopted(iter(["one", "two"]))
    world.desk.forget(ARN)
    await world.settled()
    assert keeper.told == [("one", "two"), ARN]
    await world.desk.close()


async def test_what_is_unpinned_while_an_instance_loads_it_is_not_pinned_again() -> None:
    keeper = Keeper({"i-1": set()}, ("a",))
    world = World(keeper)
    world.store.clear()
    await world.route("i-1")  # it is to have what is pinned, and the store is asked for it
    assert await world.desk.unpin(ARN, "a") is True
    world.store.set()
    await world.settled()
    assert keeper.loaded == [("i-1", "a")]
    assert keeper.pinned == ()


async def test_an_unpin_is_heard_while_no_instance_is_there() -> None:
    keeper = Keeper({}, ("a",))
    world = World(keeper)
    await world.route()
    assert await world.desk.unpin(ARN, "a") is True
    assert await world.desk.unpin(ARN, "a") is False
    assert keeper.pinned == ()
    assert await world.desk.unpin(ARN + "-other", "a") is None
    assert await world.desk.preload(ARN, "a", pin=True) == []


async def test_what_cannot_be_loaded_is_not_pinned() -> None:
    keeper = Keeper({"i-1": {"was"}}, ("was",))
    world = World(keeper)
    await world.route("i-1")
    keeper.fails = True
    for target, state in (("a", FAILED), ("nobody", MISSING), ("was", FAILED)):
        answers = await world.desk.preload(ARN, target, pin=True)
        assert answers is not None
        assert [answer.state for answer in answers] == [state]
    assert list(keeper.pinned) == ["was"]
    keeper.fails = False
    assert await world.desk.preload(ARN, "a", pin=True)
    assert list(keeper.pinned) == ["was", "a"]


async def test_a_pin_that_comes_after_its_endpoint_went_is_none() -> None:
    keeper = Keeper({"i-1": set()}, ())
    world = World(keeper)
    await world.route("i-1")
    world.store.clear()
    pinning = asyncio.create_task(world.desk.preload(ARN, "a", pin=True))
    await world.settled()
    del world.endpoints[ARN]
    world.desk.forget(ARN)
    await world.settled()
    world.store.set()
    await pinning
    assert keeper.pinned == ()
    await world.desk.close()
