"""The work queue, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from slipway.control.reconciler import Reconciler

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


async def nothing() -> Iterable[tuple[str, str]]:
    return ()


def clock() -> float:
    return asyncio.get_running_loop().time()


async def test_wakes_are_one_look_and_a_wake_meanwhile_is_another() -> None:
    looks: list[float] = []

    async def look(kind: str, key: str) -> float | None:
        looks.append(clock())
        await asyncio.sleep(5)
        return None

    queue = Reconciler(look, nothing)
    for _ in range(3):
        queue.wake("endpoint", "a")
    await asyncio.sleep(1)
    queue.wake("endpoint", "a")
    queue.wake("endpoint", "a")
    await asyncio.sleep(30)
    assert len(looks) == 2
    await queue.stop()


async def test_one_key_at_a_time_and_keys_beside_one_another() -> None:
    running: list[str] = []
    most = 0

    async def look(kind: str, key: str) -> float | None:
        nonlocal most
        assert key not in running
        running.append(key)
        most = max(most, len(running))
        queue.wake(kind, key) if clock() < 3 else None
        await asyncio.sleep(1)
        running.remove(key)
        return None

    queue = Reconciler(look, nothing, parallel=2)
    for key in "abc":
        queue.wake("endpoint", key)
    await asyncio.sleep(60)
    assert most == 2
    await queue.stop()


async def test_requeue_after_and_wake_before_it() -> None:
    looks: list[float] = []

    async def look(kind: str, key: str) -> float | None:
        looks.append(round(clock() - begun, 3))
        return 10.0 if len(looks) < 4 else None

    queue = Reconciler(look, nothing)
    begun = clock()
    queue.wake("endpoint", "a")
    await asyncio.sleep(12)
    queue.wake("endpoint", "a")
    await asyncio.sleep(100)
    assert looks == [0, 10, 12, 22]
    await queue.stop()


async def test_failures_back_off_and_a_success_forgets_them() -> None:
    looks: list[float] = []

    async def look(kind: str, key: str) -> float | None:
        looks.append(round(clock() - begun, 3))
        if len(looks) in (5, 7):
            return None
        raise RuntimeError("broken")

    queue = Reconciler(look, nothing, backoff=(1.0, 4.0))
    begun = clock()
    queue.wake("endpoint", "a")
    await asyncio.sleep(50)
    assert looks == [0, 1, 3, 7, 11]
    queue.wake("endpoint", "a")
    await asyncio.sleep(50)
    assert looks[5:] == [50, 51]
    await queue.stop()


async def test_a_resync_finds_what_wakes_missed_and_survives() -> None:
    looks: list[str] = []
    resyncs = 0

    async def look(kind: str, key: str) -> float | None:
        looks.append(key)
        return None

    async def resync() -> Iterable[tuple[str, str]]:
        nonlocal resyncs
        resyncs += 1
        if resyncs == 2:
            raise RuntimeError("store busy")
        return [("endpoint", f"a{resyncs}")]

    queue = Reconciler(look, resync, resync_seconds=30)
    queue.start()
    await asyncio.sleep(70)
    assert looks == ["a1", "a3"]
    await queue.stop()
