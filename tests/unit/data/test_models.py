"""Requests for one model of many: who is asked to load it, how long they wait, and what they hear when it cannot be had."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.core.models import FAILED, INVALID, LATE, LOADED, MISSING, ModelAnswer, ModelAsk, ModelMoved, Models
from slipway.core.rendezvous import ranking
from slipway.core.routing import RouteTable, Variant
from slipway.data.invoke import GONE, NO_CAPACITY, OVERLOADED
from slipway.data.lanes import DataLimits
from slipway.data.models import CROWD, NOT_READY, TARGET_MODEL, ModelSlots, Refused
from slipway.data.several import GatewaySlots
from tests.deadlines import PATIENCE
from tests.unit.data.test_slots import Asking, Gate, only
from tests.unit.data.workers import Asked, Told, Worker, replica, table, variant, workers
from tests.unit.http.serving import until

MODELS = Models("s3://bucket/many/")
Reply = Callable[[ModelAsk], Awaitable[ModelAnswer]]


class Control:
    """A loader: what it was asked, and `reply` to say."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[tuple[str, str]] = []
        self.gone: list[tuple[str, str]] = []

    async def ask(self, ask: ModelAsk) -> ModelAnswer:
        assert ask.models.prefix == MODELS.prefix
        self.asked.append((ask.replica, ask.target))
        return await self.reply(ask)

    def done(self, replica: str, hash: str) -> None:
        self.gone.append((replica, hash))


def placed(*found: Worker, version: str = "v1") -> Reply:
    """Loaded at once: the n-th worker is replica rn's."""

    async def reply(ask: ModelAsk) -> ModelAnswer:
        return ModelAnswer(LOADED, f"{ask.target}-{version}", found[int(ask.replica[1:])].address, "frames")

    return reply


def many(*found: Worker, models: Models = MODELS) -> Variant:
    return replace(variant(*(replica(f"r{n}", worker) for n, worker in enumerate(found))), models=models)


@contextlib.asynccontextmanager
async def house(control: Control, made: Variant, **limits: float) -> AsyncIterator[tuple[GatewaySlots, ModelSlots]]:
    slots = GatewaySlots(DataLimits(**limits), loader=control)  # type: ignore[arg-type]
    slots.start()
    try:
        slots.apply(table(1, made))
        found = only(slots)
        assert isinstance(found, ModelSlots)
        yield slots, found
    finally:
        slots.close()
        await asyncio.sleep(0)


def begin(slots: ModelSlots, target: str = "a", body: bytes = b"x") -> Asking:
    call = Asking(body, [(b"content-type", b"text/plain"), (TARGET_MODEL, target.encode())])
    slots.submit(call)
    return call


async def ask(slots: ModelSlots, target: str = "a", body: bytes = b"x") -> tuple[int, bytes] | str:
    return await asyncio.wait_for(begin(slots, target, body).outcome, PATIENCE)


async def test_a_miss_is_loaded_once_for_all_who_wait_and_then_hit(tmp_path: Path) -> None:
    loading = asyncio.Event()
    async with workers(tmp_path) as (worker,):

        async def slowly(asked: ModelAsk) -> ModelAnswer:
            await loading.wait()
            return await placed(worker)(asked)

        control = Control(slowly)
        async with house(control, many(worker)) as (_, slots):
            calls = [begin(slots, body=b"%d" % number) for number in range(3)]
            await asyncio.sleep(0)
            loading.set()
            assert [await call.outcome for call in calls] == [(200, b"0"), (200, b"1"), (200, b"2")]
            assert control.asked == [("r0", "a")]
            assert await ask(slots, body=b"again") == (200, b"again")
            assert control.asked == [("r0", "a")]
            assert (slots.counters.model_misses, slots.counters.model_hits) == (3, 1)


async def test_who_waits_too_long_hears_not_ready_and_the_load_goes_on(tmp_path: Path) -> None:
    loading = asyncio.Event()
    async with workers(tmp_path) as (worker,):

        async def slowly(asked: ModelAsk) -> ModelAnswer:
            await loading.wait()
            return await placed(worker)(asked)

        control = Control(slowly)
        async with house(control, many(worker), model_seconds=0.5) as (_, slots):
            assert await ask(slots) == NOT_READY
            assert await ask(slots) == NOT_READY
            loading.set()
            await asyncio.sleep(0.01)
            assert await ask(slots) == (200, b"x")
            assert control.asked == [("r0", "a")]


@pytest.mark.parametrize("state", [MISSING, INVALID, FAILED])
async def test_what_cannot_be_loaded_is_told_to_all_who_wait_and_asked_for_anew(tmp_path: Path, state: str) -> None:
    async def refuse(asked: ModelAsk) -> ModelAnswer:
        if asked.target == "good":
            return await placed(worker)(asked)
        await asyncio.sleep(0)
        return ModelAnswer(state, message="no such luck", status=507)

    async with workers(tmp_path) as (worker,):
        control = Control(refuse)
        async with house(control, many(worker)) as (_, slots):
            calls = [begin(slots, "bad"), begin(slots, "bad"), begin(slots, "good")]
            outcomes = [await asyncio.wait_for(call.outcome, PATIENCE) for call in calls]
            for why in outcomes[:2]:
                assert isinstance(why, Refused)
                assert (str(why), why.answer.message, why.answer.status) == (state, "no such luck", 507)
            assert outcomes[2] == (200, b"x")
            assert isinstance(await ask(slots, "bad"), Refused)
            assert control.asked.count(("r0", "bad")) == 2
            assert slots.in_flight == slots.waiting == 0


async def test_a_replica_that_goes_while_it_loads_is_followed_by_another(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (one, two):
        best = ranking("a", ["r0", "r1"])[0]
        left = {"r0": two, "r1": one}[best]

        async def never_there(asked: ModelAsk) -> ModelAnswer:
            if asked.replica == best:
                await asyncio.Event().wait()
            return await placed(one, two)(asked)

        control = Control(never_there)
        async with house(control, many(one, two)) as (slots, found):
            call = begin(found)
            await until(lambda: control.asked == [(best, "a")])
            whole = many(one, two)
            slots.apply(table(2, replace(whole, replicas=tuple(each for each in whole.replicas if each.id != best))))
            assert await asyncio.wait_for(call.outcome, PATIENCE) == (200, b"x")
            assert control.asked[1:] == [({"r0": "r1", "r1": "r0"}[best], "a")]
            assert len(left.asked) == 1


async def test_control_that_is_away_is_asked_again(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,):

        async def away(asked: ModelAsk) -> ModelAnswer:
            return await placed(worker)(asked) if len(control.asked) > 3 else ModelAnswer(LATE)

        control = Control(away)
        async with house(control, many(worker)) as (_, slots):
            assert await ask(slots) == (200, b"x")
            assert len(control.asked) == 4


async def test_control_that_stays_away_costs_the_wait_alone_and_loaded_models_go_on(tmp_path: Path) -> None:
    async with workers(tmp_path) as (worker,):

        async def away(asked: ModelAsk) -> ModelAnswer:
            return await placed(worker)(asked) if asked.target == "loaded" else ModelAnswer(LATE)

        control = Control(away)
        async with house(control, many(worker), model_seconds=1.0) as (_, slots):
            assert await ask(slots, "loaded") == (200, b"x")
            waiting = begin(slots, "other")
            assert await ask(slots, "loaded") == (200, b"x")
            assert await asyncio.wait_for(waiting.outcome, PATIENCE) == NOT_READY
            asked = len(control.asked)
            assert asked < 10, "there are pauses"
            await asyncio.sleep(0.6)  # nobody waits: nobody is asked (longest pause: 0.5 s)
            assert len(control.asked) <= asked + 1


async def test_without_an_instance_it_is_no_capacity(tmp_path: Path) -> None:
    control = Control(placed())
    async with house(control, many(), capacity_seconds=0.5, model_seconds=60) as (slots, found):
        assert await ask(found) == NO_CAPACITY
        async with workers(tmp_path) as (worker,):
            call = begin(found)
            control.reply = placed(worker)
            slots.apply(table(2, many(worker)))
            assert await asyncio.wait_for(call.outcome, PATIENCE) == (200, b"x")


async def test_requests_go_to_the_instance_that_has_it_until_a_crowd_waits(tmp_path: Path) -> None:
    gate = Gate()
    async with workers(tmp_path, 2, gate) as (one, two):
        control = Control(placed(one, two))
        async with house(control, many(one, two)) as (_, slots):
            best, other = ranking("a", ["r0", "r1"])
            calls = [begin(slots)]
            await until(lambda: len(one.asked) + len(two.asked) == 1)
            assert control.asked == [(best, "a")]
            calls += [begin(slots) for _ in range(CROWD + 4)]
            await until(lambda: len(control.asked) > 1)
            assert control.asked == [(best, "a"), (other, "a")]
            gate.open.set()
            assert {await asyncio.wait_for(call.outcome, PATIENCE) for call in calls} == {(200, b"x")}
            assert one.asked
            assert two.asked


async def test_a_newer_version_takes_its_place(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (old, new):
        control = Control(placed(old))
        async with house(control, many(old)) as (gateway, slots):
            assert await ask(slots) == (200, b"x")
            gateway.model_moved(ModelMoved("r0", "a", ModelAnswer(LOADED, "a-v2", new.address, "frames")))
            gateway.model_moved(ModelMoved("r0", "nobody-asked", ModelAnswer(LOADED, "n", new.address, "frames")))
            assert await ask(slots, body=b"newer") == (200, b"newer")
            assert [each.body for each in new.asked] == [b"newer"]
            assert control.asked == [("r0", "a")]


async def test_a_model_whose_process_ends_is_asked_for_again(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (first, second):
        control = Control(placed(first))
        async with house(control, many(first)) as (_, slots):
            assert await ask(slots) == (200, b"x")
            control.reply = placed(second)
            await first.kill()
            await until(lambda: not slots._targets or not next(iter(slots._targets.values())).lanes)
            assert await ask(slots) == (200, b"x")
            assert control.asked == [("r0", "a")] * 2


async def test_too_many_that_wait_and_an_endpoint_that_goes(tmp_path: Path) -> None:
    async def never(asked: ModelAsk) -> ModelAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    async with workers(tmp_path) as (worker,), house(Control(never), many(worker), waiting=2) as (gateway, slots):
        calls = [begin(slots, target) for target in ("a", "b", "c")]
        assert await calls[2].outcome == OVERLOADED
        gateway.apply(RouteTable(2, {}))
        assert [await call.outcome for call in calls[:2]] == [GONE, GONE]
        assert await ask(slots) == GONE


async def test_without_a_cache_the_model_is_let_go_when_nobody_waits(tmp_path: Path) -> None:
    async def slowly(asked: Asked) -> Told:
        await asyncio.sleep(0.01)
        return Told(body=asked.body)

    async with workers(tmp_path, 1, slowly) as (worker,):
        control = Control(placed(worker))
        async with house(control, many(worker, models=replace(MODELS, cached=False))) as (_, slots):
            calls = [begin(slots), begin(slots)]
            assert [await call.outcome for call in calls] == [(200, b"x")] * 2
            await until(lambda: control.gone == [("r0", "a-v1")])
            assert await ask(slots) == (200, b"x")
            assert len(control.asked) == 2
