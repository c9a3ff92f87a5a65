"""Settlements reach control in batches, once each where it answers, and again where nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from slipway.data import settlements
from slipway.data.settlements import BATCH, BATCH_BYTES, Settlements, Verdict
from slipway.link.channel import Channel, LinkClosed, LinkError
from tests.deadlines import PATIENCE
from tests.unit.http.serving import until


@dataclass(frozen=True)
class Done:
    id: int
    weight: int = 1


class Control:
    """A link, and who answers at its other end."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.void: set[int] = set()
        self.fails: list[Exception] = []
        self.on_failure: Callable[[], object] = lambda: None
        self.open = asyncio.Event()
        self.open.set()

    @property
    def channel(self) -> Channel | None:
        return cast("Channel", self)

    async def ready(self, timeout: float | None = None) -> Channel:
        await self.open.wait()
        return cast("Channel", self)

    async def request(self, kind: str, words: tuple[Done, ...], type: Any, *, timeout: float) -> tuple[bool, ...]:
        assert kind == "settle"
        self.batches.append([word.id for word in words])
        await asyncio.sleep(0)
        if self.fails:
            self.on_failure()
            raise self.fails.pop(0)
        return tuple(word.id not in self.void for word in words)


@asynccontextmanager
async def saying(control: Control) -> AsyncIterator[Settlements[Done]]:
    found: Settlements[Done] = Settlements("settle", lambda word: word.weight)
    running = asyncio.create_task(found.run(control))
    yield found
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def all_of(found: Settlements[Done], *words: Done) -> list[Verdict]:
    return await asyncio.wait_for(asyncio.gather(*(found.say(word) for word in words)), PATIENCE)


async def test_what_has_finished_meanwhile_is_one_batch() -> None:
    control = Control()
    control.void.add(2)
    async with saying(control) as found:
        verdicts = await all_of(found, *(Done(number) for number in range(BATCH + 50)))
    assert [len(batch) for batch in control.batches] == [BATCH, 50]
    assert [number for batch in control.batches for number in batch] == list(range(BATCH + 50)), "in order"
    assert verdicts[1:3] == [Verdict(good=True, sure=True), Verdict(good=False, sure=True)]


async def test_a_batch_is_bounded_by_what_its_words_carry() -> None:
    control = Control()
    half = BATCH_BYTES // 2
    async with saying(control) as found:
        await all_of(found, Done(1, half), Done(2, half), Done(3, half), Done(4))
        assert found.weight == 0
    assert control.batches == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "failure", [LinkClosed("gone"), LinkError("store", "full"), TimeoutError()], ids=lambda e: type(e).__name__
)
async def test_what_nobody_may_have_heard_is_said_again(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    """In its order, before what came later; and its verdict may come from its first time."""
    monkeypatch.setattr(settlements, "PAUSE", 0.01)
    control = Control()
    control.fails.append(failure)
    control.void.add(2)
    async with saying(control) as found:
        later: list[asyncio.Task[Verdict]] = []
        control.on_failure = lambda: later.append(asyncio.create_task(found.say(Done(3))))
        assert await all_of(found, Done(1), Done(2)) == [Verdict(good=True, sure=False), Verdict(good=False, sure=False)]
        assert await later[0] == Verdict(good=True, sure=True)
    assert control.batches == [[1, 2], [1, 2, 3]]


async def test_settlements_wait_for_a_control_that_is_away() -> None:
    control = Control()
    control.open.clear()
    async with saying(control) as found:
        told = asyncio.gather(found.say(Done(1, 10)), found.say(Done(2, 20)))
        await until(lambda: found.unsent == 2)
        assert found.weight == 30
        assert found.under_way(1)
        control.open.set()
        assert all(verdict.good for verdict in await told)
        assert (found.unsent, found.weight, found.under_way(1)) == (0, 0, False)
    assert control.batches == [[1, 2]]


async def test_the_patient_wait_for_others_and_nobody_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlements, "GATHER_SECONDS", 3600.0)
    control = Control()
    async with saying(control) as found:
        patient = asyncio.gather(*(found.say(Done(number), patient=True) for number in range(3)))
        await until(lambda: found.unsent == 3)
        await asyncio.sleep(0.02)
        assert control.batches == []
        assert await all_of(found, Done(9))
        assert len(await patient) == 3
        assert control.batches == [[0, 1, 2, 9]]
        assert await asyncio.wait_for(asyncio.gather(*(found.say(Done(n), patient=True) for n in range(BATCH))), PATIENCE)
        heavy = found.say(Done(1, BATCH_BYTES), patient=True)
        assert await asyncio.wait_for(heavy, PATIENCE), "enough for a message"


async def test_patience_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlements, "GATHER_SECONDS", 0.02)
    control = Control()
    async with saying(control) as found:
        told = asyncio.gather(found.say(Done(1), patient=True), found.say(Done(2), patient=True))
        assert len(await asyncio.wait_for(told, PATIENCE)) == 2
    assert control.batches == [[1, 2]]


async def test_who_gave_up_waiting_disturbs_nobody() -> None:
    control = Control()
    control.open.clear()
    async with saying(control) as found:
        leaving, staying = (asyncio.create_task(found.say(Done(number))) for number in (1, 2))
        await until(lambda: found.unsent == 2)
        leaving.cancel()
        control.open.set()
        assert (await staying).good
        assert found.weight == 0
    assert control.batches == [[1, 2]]
