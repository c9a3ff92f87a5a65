"""Access keys: minted, first, expiring; on both databases."""

from __future__ import annotations

import re
from dataclasses import replace

from slipway.store import keys
from slipway.store.db import Db

ROOT = "arn:aws:iam::1:root"


def test_keys_look_like_awss() -> None:
    key = keys.mint("1", ROOT)
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", key.id)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", key.secret)
    assert keys.mint("1", ROOT).secret != key.secret
    session = keys.mint_session("1", ROOT, 9.0, ("s3",), choose=lambda alphabet: alphabet[-1])
    assert session.id == "ASIA" + "7" * 16
    assert session.secret == "/" * 40
    assert (session.expires, session.services, session.principal) == (9.0, ("s3",), ROOT)
    assert session.token


async def test_the_first_key_is_made_once(db: Db) -> None:
    one, two = keys.mint("1", ROOT), keys.mint("1", ROOT)
    assert await db.write(lambda c: keys.first(c, one, 1.0)) == one
    assert await db.write(lambda c: keys.first(c, two, 2.0)) == one
    other = keys.mint("2", ROOT)
    assert await db.write(lambda c: keys.first(c, other, 3.0)) == other


async def test_configured_keys_are_exactly_those_of_the_settings(db: Db) -> None:
    principal = f"arn:aws:iam::1:{keys.CONFIGURED}"
    own = await db.write(lambda c: keys.first(c, keys.mint("1", ROOT), 1.0))
    one, two = replace(own, id="one", principal=principal), replace(own, id="two", principal=principal)
    await db.write(lambda c: keys.configure(c, [one, two], 2.0))
    assert await db.read(lambda c: keys.live(c, 3.0)) == [own, one, two]
    changed = replace(two, secret="another", account="2")
    await db.write(lambda c: keys.configure(c, [changed], 4.0))
    assert await db.read(lambda c: keys.live(c, 5.0)) == [own, changed]
    assert await db.write(lambda c: keys.first(c, keys.mint("1", ROOT), 6.0)) == own
    await db.write(lambda c: keys.configure(c, [], 7.0))
    assert await db.read(lambda c: keys.live(c, 8.0)) == [own]


async def test_session_credentials_expire(db: Db) -> None:
    session = keys.mint_session("1", ROOT, 100.0, ("s3", "logs"))
    lasting = keys.mint("1", ROOT)
    await db.write(lambda c: keys.add(c, session, 1.0))
    await db.write(lambda c: keys.add(c, lasting, 2.0))
    assert await db.write(lambda c: keys.first(c, keys.mint("1", ROOT), 3.0)) == lasting
    assert await db.read(lambda c: keys.live(c, 99.0)) == [session, lasting]
    assert await db.read(lambda c: keys.live(c, 100.0)) == [lasting]
    assert await db.read(lambda c: keys.get(c, session.id, 99.0)) == session
    assert await db.read(lambda c: keys.get(c, session.id, 100.0)) is None
    assert await db.write(lambda c: keys.purge(c, 99.0)) == 0
    assert await db.write(lambda c: keys.purge(c, 100.0)) == 1
    assert await db.read(lambda c: keys.live(c, 0.0)) == [lasting]


async def test_keys_are_revoked(db: Db) -> None:
    one = keys.mint("1", ROOT)
    many = [replace(keys.mint_session("1", "arn:role", 9.0), principal="arn:role") for _ in range(3)]
    for key in (one, *many):
        await db.write(lambda c, k=key: keys.add(c, k, 1.0))  # type: ignore[misc]
    assert await db.write(lambda c: keys.remove(c, one.id))
    assert not await db.write(lambda c: keys.remove(c, one.id))
    assert await db.write(lambda c: keys.remove_of(c, ["arn:role", "arn:none"])) == 3
    assert await db.read(lambda c: keys.live(c, 0.0)) == []
