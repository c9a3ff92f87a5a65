"""Leases with fencing tokens: one holder at a time, and a late one cannot write any more.

Control holds the lease `control` while it is active. A lease should last at least three times as long as a restart takes, so
that a restarted holder finds its own. Times are the database's own clock unless `now` is given.
All functions run inside `Db.write`.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Table, select, text, update

from slipway.store.schema import Moment, Number, Word, insert, metadata

leases = Table(
    "leases",
    metadata,
    Column("name", Word, primary_key=True),
    Column("holder", Word, nullable=False),
    Column("token", Number, nullable=False),
    Column("expires", Moment, nullable=False),
)


class LeaseLost(Exception):
    """Another holder took the lease: what the caller knows is out of date, and it must not write."""


def acquire(connection: Connection, name: str, holder: str, duration: float, *, now: float | None = None) -> int | None:
    """The fencing token (each acquisition's is greater than all before); None while another holder's lease runs.

    Its own lease a holder may always take again. `duration`: seconds.
    """
    now = clock(connection) if now is None else now
    connection.execute(insert(connection, leases).values(name=name, holder="", token=0, expires=0.0).on_conflict_do_nothing())
    row = connection.execute(select(leases).where(leases.c.name == name).with_for_update()).one()
    if row.holder != holder and row.expires > now:
        return None
    token: int = row.token + 1
    connection.execute(update(leases).where(leases.c.name == name).values(holder=holder, token=token, expires=now + duration))
    return token


def renew(connection: Connection, name: str, token: int, duration: float, *, now: float | None = None) -> None:
    """Extend a lease that nobody else took meanwhile, even if late. Raises LeaseLost."""
    now = clock(connection) if now is None else now
    where = (leases.c.name == name) & (leases.c.token == token)
    if connection.execute(update(leases).where(where).values(expires=now + duration)).rowcount == 0:
        raise LeaseLost(name)


def release(connection: Connection, name: str, token: int) -> None:
    """Let others have it at once; nothing happens if they have already."""
    where = (leases.c.name == name) & (leases.c.token == token)
    connection.execute(update(leases).where(where).values(holder="", expires=0.0))


def guard(connection: Connection, name: str, token: int) -> None:
    """Raises LeaseLost unless `token` is the newest; in PostgreSQL nobody can take the lease until this transaction ends."""
    statement = select(leases.c.token).where(leases.c.name == name).with_for_update(read=True)
    if connection.execute(statement).scalar_one_or_none() != token:
        raise LeaseLost(name)


def clock(connection: Connection) -> float:
    """The database's clock, epoch seconds."""
    if connection.dialect.name == "postgresql":
        seconds = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    else:
        seconds = connection.execute(text("SELECT (julianday('now') - 2440587.5) * 86400.0")).scalar_one()
    return float(seconds)
