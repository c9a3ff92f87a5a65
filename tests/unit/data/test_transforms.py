"""A dispatcher's side of batch transform: requests wait for a control that is away, and not for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slipway.core.routing import Endpoint, Replica, RouteTable, Variant, endpoint_key
from slipway.core.transforms import ClaimedObject, Effective, TransformOptions
from slipway.data import transforms
from slipway.data.lanes import DataLimits
from slipway.data.transforms import Transforms
from slipway.data.transforms_calls import Caller
from slipway.data.transforms_places import TransformSlots, TransformVariant
from slipway.link.transforms import Parameters
from tests.deadlines import PATIENCE
from tests.unit.data.workers import workers
from tests.unit.http.serving import until

OPTIONS = TransformOptions("arn:j", "out")
KEY = endpoint_key("1", "r", "transform-job/j")


def table(*addresses: str, options: TransformOptions = OPTIONS) -> RouteTable:
    variant = Variant("instances", 1.0, (Replica("i-1", "i-1", "frames", addresses),))
    return RouteTable(1, {KEY: Endpoint("1", "r", "transform-job/j", (variant,), transform=options)})


async def unused() -> Any:
    """Nothing is staged here."""


async def test_nothing_begins_while_control_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "AWAY_SECONDS", 0.3)
    slots = TransformSlots(DataLimits())
    here = Transforms(slots, "a", unused, lambda: 0.0)
    link = SimpleNamespace(channel=object())
    here.ledger._link = cast("Any", link)
    # No object is claimed here: only requests are looked at.
    monkeypatch.setattr(Transforms, "may_claim", False)
    async with workers(tmp_path, 1) as (worker,):
        here.apply(table(worker.address))
        variant = cast("TransformVariant", slots.endpoints[KEY].by_name["i-1"])
        await until(lambda: bool(variant.lanes))
        caller = Caller([variant], OPTIONS)
        assert (await caller.ask(b"one", 0)).body == b"one"
        link.channel = None
        waiting = asyncio.create_task(caller.ask(b"two", 0))
        await until(lambda: variant.waiting == 1)
        here.look_everywhere()
        assert len(worker.asked) == 1, "it waits"
        link.channel = object()
        here.look_everywhere()
        assert (await waiting).body == b"two"
        link.channel = None
        waiting = asyncio.create_task(caller.ask(b"three", 0))
        async with asyncio.timeout(PATIENCE):
            while not waiting.done():
                here.look_everywhere()
                await asyncio.sleep(0.05)
        assert waiting.result().body == b"three", "control does not come back"
        await here.stop()
        slots.close()


@pytest.mark.parametrize(("asked", "concurrent", "most"), [(0, 2, 0), (1, 1, 1)])
async def test_workers_that_are_not_connected_yet_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int, concurrent: int, most: int
) -> None:
    """What holds for a job is settled once: it must not follow from which worker was first."""
    slots = TransformSlots(DataLimits())
    here = Transforms(slots, "a", unused, lambda: 0.0)
    here.ledger._link = cast("Any", SimpleNamespace(channel=object()))
    told: list[Effective] = []
    claims: list[int] = []

    async def parameters(found: Parameters) -> None:
        told.append(found.found)

    async def claim(job: str, count: int) -> tuple[ClaimedObject, ...]:
        claims.append(count)
        return ()

    monkeypatch.setattr(here.ledger, "parameters", parameters)
    monkeypatch.setattr(here.ledger, "claim", claim)
    async with workers(tmp_path, 1) as (worker,):
        here.apply(table(worker.address, f"unix:{tmp_path}/late.sock", options=replace(OPTIONS, concurrent=asked)))
        await until(lambda: bool(claims))
        variant = cast("TransformVariant", slots.endpoints[KEY].by_name["i-1"])
        assert len(variant.lanes) == 1
        assert [found.concurrent for found in told] == [concurrent]
        assert variant.most == most
        await here.stop()
        slots.close()


@pytest.mark.parametrize(
    ("payload", "sizes", "beside"),
    [
        (6, [100, 200], transforms.BESIDE_SMALL),
        (6, [0, 0], transforms.BESIDE),
        (6, [100_000, 100], transforms.BESIDE),
        (6, [7 << 20, 20 << 20], transforms.BESIDE_LARGE),
        (6, [7 << 20, 100_000], transforms.BESIDE),
        (0, [7 << 20], transforms.BESIDE),
    ],
)
def test_how_far_ahead_objects_are_claimed(payload: int, sizes: list[int], beside: int) -> None:
    job = transforms.Job(OPTIONS)
    job.found = Effective(1, payload, "MultiRecord")
    feed = transforms.InstanceFeed(job, (), cast("Any", None))
    assert feed._beside_of(sizes) == beside
