"""Leases: one holder, tokens that only grow, and late holders that find out; on both databases."""

from __future__ import annotations

import asyncio
import time

import pytest

from slipway.store import leases
from slipway.store.db import Db
from slipway.store.leases import LeaseLost


async def acquire(db: Db, holder: str, now: float | None = None) -> int | None:
    return await db.write(lambda c: leases.acquire(c, "control", holder, 10.0, now=now))


async def test_one_holder_at_a_time(db: Db) -> None:
    assert await acquire(db, "a", 100.0) == 1
    assert await acquire(db, "b", 109.9) is None
    assert await acquire(db, "a", 105.0) == 2, "a restarted holder finds its own"
    assert await acquire(db, "b", 114.9) is None
    assert await acquire(db, "b", 115.0) == 3
    assert await db.write(lambda c: leases.acquire(c, "another", "a", 10.0, now=0.0)) == 1


async def test_renewing(db: Db) -> None:
    token = await acquire(db, "a", 100.0)
    assert token == 1
    await db.write(lambda c: leases.renew(c, "control", 1, 10.0, now=109.0))
    assert await acquire(db, "b", 118.0) is None
    await db.write(lambda c: leases.renew(c, "control", 1, 10.0, now=200.0))
    assert await acquire(db, "b", 209.0) is None
    assert await acquire(db, "b", 210.0) == 2
    with pytest.raises(LeaseLost):
        await db.write(lambda c: leases.renew(c, "control", 1, 10.0, now=300.0))


async def test_a_late_holder_cannot_write(db: Db) -> None:
    await acquire(db, "a", 100.0)
    await db.write(lambda c: leases.guard(c, "control", 1))
    await acquire(db, "b", 200.0)
    for token in (0, 1, 3):
        with pytest.raises(LeaseLost):
            await db.write(lambda c, t=token: leases.guard(c, "control", t))  # type: ignore[misc]
    with pytest.raises(LeaseLost):
        await db.write(lambda c: leases.guard(c, "unknown", 1))


async def test_releasing(db: Db) -> None:
    await acquire(db, "a", 100.0)
    await db.write(lambda c: leases.release(c, "control", 7))
    assert await acquire(db, "b", 101.0) is None
    await db.write(lambda c: leases.release(c, "control", 1))
    assert await acquire(db, "b", 101.0) == 2


async def test_the_databases_own_clock(db: Db) -> None:
    before = time.time()
    found = await db.read(leases.clock)
    assert before - 2 < found < time.time() + 2
    assert await acquire(db, "a") == 1
    assert await acquire(db, "b") is None


async def test_two_processes_race_for_it(database_url: str) -> None:
    stores = [await Db.open(database_url), await Db.open(database_url)]
    tokens = await asyncio.gather(*(acquire(db, f"holder-{n}", 1.0) for n, db in enumerate(stores)))
    assert sorted(tokens, key=str) == [1, None]
    for db in stores:
        await db.close()
