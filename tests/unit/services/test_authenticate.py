"""Keys are read once, and again when somebody said that they changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from slipway.services.authenticate import KEPT, KEPT_SECONDS, Caller, Keys
from slipway.store import keys
from slipway.store.db import Connection, Db


@pytest.fixture
async def db(tmp_path: Path) -> Db:
    return await Db.open(str(tmp_path / "db"))


async def test_keys_are_found_forgotten_and_revoked(db: Db) -> None:
    moment = [1000.0]
    found = Keys(db, lambda: moment[0])
    key = keys.mint_session("111122223333", "arn", 2000.0, ("s3",))
    assert await found.find(key.id) is None
    await db.write(lambda c: keys.add(c, key, 0.0))
    assert await found.find(key.id) == key
    await db.write(lambda c: keys.remove(c, key.id))
    assert await found.find(key.id) == key
    moment[0] += KEPT_SECONDS
    assert await found.find(key.id) is None
    await db.write(lambda c: keys.add(c, key, 0.0))
    assert await found.find(key.id) == key
    await db.write(lambda c: keys.remove(c, key.id))
    found.forget()
    assert await found.find(key.id) is None
    await db.close()


async def test_an_expired_key_is_found_so_that_it_can_be_called_expired(db: Db) -> None:
    key = keys.mint_session("111122223333", "arn", 5.0)
    await db.write(lambda c: keys.add(c, key, 0.0))
    assert await Keys(db, lambda: 1000.0).find(key.id) == key
    await db.close()


async def test_a_key_revoked_while_it_was_read_is_not_kept(db: Db) -> None:
    key = keys.mint("111122223333", "arn")
    await db.write(lambda c: keys.add(c, key, 0.0))
    found = Keys(db, lambda: 0.0)
    reading = asyncio.create_task(found.find(key.id))
    await asyncio.sleep(0)
    found.forget()
    assert await reading == key
    await db.write(lambda c: keys.remove(c, key.id))
    assert await found.find(key.id) is None
    await db.close()


async def test_what_is_kept_is_bounded(db: Db) -> None:
    many = [keys.mint("111122223333", "arn") for _ in range(KEPT + 5)]

    def store(connection: Connection) -> None:
        for key in many:
            keys.add(connection, key, 0.0)

    await db.write(store)
    found = Keys(db, lambda: 0.0)
    for key in many:
        assert await found.find(key.id) == key
    assert len(found._kept) == KEPT
    await db.close()


def test_a_limited_key_may_call_what_it_names() -> None:
    assert Caller("1", "r", "arn").may_call("sagemaker")
    assert Caller("1", "r", "arn", services=("s3", "logs")).may_call("s3")
    assert not Caller("1", "r", "arn", services=("s3", "logs")).may_call("sagemaker")
