"""Tasks that end with their owner."""

from __future__ import annotations

import asyncio
import gc

import pytest

from slipway.background import Background


async def test_what_runs_is_held_and_ends_with_its_owner() -> None:
    background = Background()
    ended: list[str] = []

    async def wait(name: str) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(name)
        return name

    async def quick() -> str:
        return "done"

    background.spawn(wait("one"))
    two = background.spawn(wait("two"))
    assert await background.spawn(quick()) == "done"
    gc.collect()
    assert ended == [], "nothing but the owner holds it"
    await background.close()
    assert sorted(ended) == ["one", "two"]
    assert two.cancelled()


async def test_a_failure_is_its_task_s_own() -> None:
    background = Background()

    async def fail() -> None:
        raise ValueError("its own")

    task = background.spawn(fail())
    with pytest.raises(ValueError, match="its own"):
        await task
    failing = background.spawn(fail())
    await background.close()
    assert failing.done()
