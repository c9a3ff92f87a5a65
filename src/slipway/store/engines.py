"""SQLAlchemy engines for the two databases: what a transaction is, and what "durable" is, in each."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

BUSY_MILLISECONDS = 10_000
"""How long SQLite waits for a lock of another process (a backup, a shell)."""


class StoreError(Exception):
    """The store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or cannot write (connection lost, disk full, locked); the call may be tried again.

    If the connection broke during COMMIT, PostgreSQL alone knows whether the write happened.
    """


class StoreFull(StoreUnavailable):
    """The database's disk is full; what was acknowledged is there."""


class BadValue(StoreError):
    """A value that the database cannot hold; another try will not help.

    An integer of more than 64 bits; in PostgreSQL, text with a null character.
    """


def database_url(url_or_path: str) -> URL:
    """`postgresql://…` (any spelling; psycopg 3 is the driver), `sqlite:///path`, or the path of an SQLite file."""
    if "://" not in url_or_path:
        return URL.create("sqlite", database=url_or_path)
    url = make_url(url_or_path)
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise ValueError(f"no database {url.drivername!r}: use postgresql://… or the path of an SQLite file")
    return url


def writing_engine(url: URL) -> Engine:
    """For the one writer thread: BEGIN takes SQLite's write lock at once, COMMIT returns after fsync."""
    if url.get_backend_name() == "sqlite":
        _prepare_file(url)
        return _sqlite(
            url,
            begin="BEGIN IMMEDIATE",
            # checkpoints four times as far apart as usual (16 MB) write less: many commits change the same pages
            pragmas=("synchronous=FULL", "wal_autocheckpoint=4000", "foreign_keys=ON", "journal_size_limit=67108864"),
        )
    return _postgresql(url)


def reading_engine(url: URL, *, existing: bool = False) -> Engine:
    """For reader threads: a transaction sees one snapshot and cannot write. `existing`: a missing SQLite file is not made."""
    if url.get_backend_name() == "sqlite":
        if existing:
            url = URL.create("sqlite", database=f"file:{quote(url.database or '')}", query={"mode": "rw", "uri": "true"})
        return _sqlite(url, begin="BEGIN", pragmas=("query_only=ON",))
    return _postgresql(url, isolation_level="REPEATABLE READ", postgresql_readonly=True)


def ask_version(url_or_path: str) -> str:
    """`PostgreSQL 16.4`: what answers there, for `slipway doctor`. Nothing is made or changed. StoreUnavailable."""
    engine = reading_engine(database_url(url_or_path))
    try:
        with engine.connect() as connection:
            numbers = connection.dialect.server_version_info or ()
    except DBAPIError as error:
        raise StoreUnavailable(" ".join(str(error.orig).split())) from None
    finally:
        engine.dispose()
    name = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[engine.dialect.name]
    return f"{name} {'.'.join(map(str, numbers))}"


def _prepare_file(url: URL) -> None:
    """The file holds secrets: only its owner may read it (SQLite gives its -wal and -shm the same mode)."""
    path = url.database
    if not path or path == ":memory:":
        raise ValueError("the SQLite database must be a file: it is opened by several threads")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _sqlite(url: URL, *, begin: str, pragmas: tuple[str, ...]) -> Engine:
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own implicit BEGIN would come too late for DDL and reads
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise StoreUnavailable(f"SQLite cannot keep a write-ahead log beside {url.database}: use a local file system")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgresql(url: URL, **options: Any) -> Engine:
    arguments = {"connect_timeout": 10, "application_name": "slipway"}
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments, execution_options=options)
