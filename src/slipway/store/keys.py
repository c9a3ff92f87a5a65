"""Access keys and session credentials. Secrets are kept as they are: verifying a signature needs them (the file is 0600).

All functions but `mint` run inside `Db.read` or `Db.write`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import fields, replace

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, or_, select

from slipway.core.routing import Key
from slipway.store.schema import Json, Moment, Word, metadata

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", Word, primary_key=True),
    Column("secret", Word, nullable=False),
    Column("account", Word, nullable=False),
    Column("principal", Word, nullable=False),
    Column("token", Word),
    Column("expires", Moment, index=True),
    Column("services", Json, nullable=False),
    Column("created", Moment, nullable=False),
)

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"  # noqa: S105 - an alphabet

Choose = Callable[[str], str]
"""One character of the string, by chance."""


def mint(account: str, principal: str, *, choose: Choose = secrets.choice) -> Key:
    """A fresh long-lived key, not stored yet: 20 characters beginning with AKIA, and a secret of 40."""
    return Key(_letters("AKIA", 16, _BASE32, choose), _letters("", 40, _SECRET, choose), account, principal)


def mint_session(
    account: str, principal: str, expires: float, services: tuple[str, ...] = (), *, choose: Choose = secrets.choice
) -> Key:
    """Fresh session credentials, not stored yet (ASIA…, with a token). `expires`: epoch seconds; no `services` means all."""
    plain = mint(account, principal, choose=choose)
    token = _letters("IQoJ", 252, _SECRET, choose)
    return replace(plain, id="ASIA" + plain.id[4:], token=token, expires=expires, services=services)


def _letters(prefix: str, count: int, alphabet: str, choose: Choose) -> str:
    return prefix + "".join(choose(alphabet) for _ in range(count))


def add(connection: Connection, key: Key, now: float) -> None:
    values = {f.name: getattr(key, f.name) for f in fields(Key)}
    connection.execute(access_keys.insert().values(**values, created=now))


def first(connection: Connection, fresh: Key, now: float) -> Key:
    """The oldest long-lived key of `fresh`'s account and principal; `fresh` itself, stored, where there is none yet."""
    where = access_keys.c.token.is_(None) & (access_keys.c.account == fresh.account)
    where &= access_keys.c.principal == fresh.principal
    for key in _keys(connection, _unexpired(now) & where):
        return key
    add(connection, fresh, now)
    return fresh


CONFIGURED = "user/configured"
"""End of the principal of keys that stand in the settings."""


def configure(connection: Connection, wanted: Collection[Key], now: float) -> None:
    """Make the keys whose principal ends in CONFIGURED be exactly `wanted`: one that left the settings opens nothing."""
    known = {key.id: key for key in _keys(connection, access_keys.c.principal.endswith(f":{CONFIGURED}"))}
    new = {key.id: key for key in wanted}
    for id in known.keys() | new.keys():
        if known.get(id) != new.get(id):
            remove(connection, id)
            if id in new:
                add(connection, new[id], now)


def get(connection: Connection, key_id: str, now: float) -> Key | None:
    """None: unknown or expired."""
    found = live(connection, now, key_id)
    return found[0] if found else None


def live(connection: Connection, now: float, key_id: str | None = None) -> list[Key]:
    """All keys that have not expired, oldest first."""
    where = _unexpired(now)
    if key_id is not None:
        where &= access_keys.c.id == key_id
    return _keys(connection, where)


def remove(connection: Connection, key_id: str) -> bool:
    """Revoke; False if there was no such key."""
    return connection.execute(delete(access_keys).where(access_keys.c.id == key_id)).rowcount == 1


def remove_of(connection: Connection, principals: Collection[str]) -> int:
    """Revoke all keys of these (the credentials of replicas that go); how many there were."""
    if not principals:
        return 0
    return connection.execute(delete(access_keys).where(access_keys.c.principal.in_(principals))).rowcount


def held_by(connection: Connection, principal: str, now: float) -> list[Key]:
    """The keys of a principal that have not expired, oldest first."""
    return _keys(connection, _unexpired(now) & (access_keys.c.principal == principal))


def purge(connection: Connection, now: float) -> int:
    """Forget expired keys; how many there were."""
    return connection.execute(delete(access_keys).where(access_keys.c.expires <= now)).rowcount


def _unexpired(now: float) -> ColumnElement[bool]:
    return or_(access_keys.c.expires.is_(None), access_keys.c.expires > now)


def _keys(connection: Connection, where: ColumnElement[bool]) -> list[Key]:
    statement = (
        select(*(access_keys.c[f.name] for f in fields(Key))).where(where).order_by(access_keys.c.created, access_keys.c.id)
    )
    rows = connection.execute(statement).mappings()
    return [Key(**{**row, "services": tuple(row["services"])}) for row in rows]
