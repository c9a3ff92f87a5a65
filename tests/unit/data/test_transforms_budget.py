"""What requests of an instance may hold in memory."""

from __future__ import annotations

import asyncio

from slipway.data.transforms_budget import LARGE, budget_for

MB = 1 << 20


async def test_one_more_than_are_at_the_container() -> None:
    budget = budget_for(6 * MB, 2)
    assert [budget.take_now(6 * MB) for _ in range(4)] == [True, True, True, False]
    assert budget.turn is None, "these are small"


async def test_of_large_ones_no_more_than_are_at_the_container() -> None:
    budget = budget_for(100 * MB, 1)
    assert not budget.crowded()
    assert budget.take_now(99 * MB)
    assert budget.crowded(), "none is put together meanwhile"
    assert budget.take_now(LARGE)
    budget.give_back(99 * MB)
    assert not budget.crowded()


async def test_a_large_one_waits_for_room() -> None:
    budget = budget_for(100 * MB, 1)
    assert budget.take_now(100 * MB)
    taking = asyncio.create_task(budget.take(100 * MB))
    await asyncio.sleep(0)
    assert not taking.done()
    budget.give_back(100 * MB)
    await taking
