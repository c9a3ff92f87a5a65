"""Who claims is known by name, told with all others, and missed once its process is gone; a broken link says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from slipway.control import dispatchers
from slipway.control.dispatchers import LONGEST_NAME, Dispatchers
from slipway.link.channel import Channel, LinkClosed, LinkError, Peer
from tests.unit.http.serving import until


class Wire:
    """A channel, from control's side."""

    def __init__(self, pid: int) -> None:
        self.peer = Peer(pid, 0)
        self.heard: list[tuple[str, Any]] = []
        self.closed: list[Callable[[], None]] = []
        self.broken = False

    def on_close(self, callback: Callable[[], None]) -> None:
        self.closed.append(callback)

    async def notify(self, kind: str, payload: Any) -> None:
        if self.broken:
            raise LinkClosed("gone")
        self.heard.append((kind, payload))

    def close(self) -> None:
        for callback in self.closed:
            callback()

    def __call__(self) -> Channel:
        return cast("Channel", self)


class World:
    def __init__(self, lease_seconds: float = 15.0) -> None:
        self.now = 100.0
        self.dead: set[int] = set()
        self.gone: list[tuple[str, float]] = []
        self.asked: list[int] = []
        self.dispatchers = Dispatchers(self._gone, lease_seconds=lease_seconds, now=lambda: self.now, alive=self._alive)

    def _alive(self, pid: int) -> bool:
        self.asked.append(pid)
        return pid not in self.dead

    async def _gone(self, holder: str, since: float) -> None:
        self.gone.append((holder, since))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(dispatchers, "LOOK_SECONDS", 0.001)
    found = World()
    yield found
    await found.dispatchers.close()


async def test_all_that_were_heard_of_are_told(world: World) -> None:
    one, two, silent = Wire(1), Wire(2), Wire(3)
    assert world.dispatchers.heard(one(), "1.a")
    assert not world.dispatchers.heard(one(), "1.a"), "only its first word is the first"
    assert world.dispatchers.heard(two(), "2.b")
    two.broken = True
    world.dispatchers.tell("wake", ("key",))
    await until(lambda: bool(one.heard))
    assert one.heard == [("wake", ("key",))]
    assert two.heard == silent.heard == []
    assert len(one.closed) == 1
    assert world.dispatchers.connected("1.a")
    assert not world.dispatchers.connected("3.c")


async def test_what_the_dead_held_is_free_once_their_process_is_gone(world: World) -> None:
    wire = Wire(7)
    world.dispatchers.heard(wire(), "7.a")
    world.now += 50
    world.dispatchers.heard(wire(), "7.a")
    wire.close()
    assert not world.dispatchers.connected("7.a")
    await until(lambda: len(world.asked) > 3)
    assert world.gone == [], "its process lives"
    world.dead.add(7)
    await until(lambda: bool(world.gone))
    assert world.gone == [("7.a", 100.0)], "and since when it could tell what it had"
    world.dispatchers.tell("wake", ())
    assert wire.heard == []


async def test_who_comes_back_on_another_link_has_lost_nothing(world: World) -> None:
    first, again = Wire(7), Wire(7)
    world.dispatchers.heard(first(), "7.a")
    first.close()
    await until(lambda: bool(world.asked))
    assert world.dispatchers.heard(again(), "7.a")
    world.dead.add(7)
    await asyncio.sleep(0.02)
    assert world.gone == []
    assert world.dispatchers.connected("7.a")


async def test_a_link_that_closes_late_takes_nothing_from_the_one_after_it(world: World) -> None:
    first, again = Wire(7), Wire(7)
    world.dispatchers.heard(first(), "7.a")
    world.dispatchers.heard(again(), "7.a")
    world.dead.add(7)
    first.close()
    await asyncio.sleep(0.01)
    assert (world.gone, world.asked) == ([], [])
    assert world.dispatchers.connected("7.a")


async def test_where_nobody_can_tell_the_leases_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatchers, "LOOK_SECONDS", 0.001)
    world = World(lease_seconds=0.003)
    for pid in (0, 8):
        wire = Wire(pid)
        world.dispatchers.heard(wire(), f"{pid}.a")
        wire.close()
    await until(lambda: len(world.asked) == 3)
    await asyncio.sleep(0.02)
    assert world.asked == [8, 8, 8], "for a lease's time; and who is on another machine is not looked for"
    assert world.gone == []


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_NAME + 1)])
async def test_a_dispatcher_needs_a_name(world: World, name: str) -> None:
    wire = Wire(1)
    with pytest.raises(LinkError):
        world.dispatchers.heard(wire(), name)
    world.dispatchers.tell("wake", ())
    await asyncio.sleep(0)
    assert wire.heard == []
