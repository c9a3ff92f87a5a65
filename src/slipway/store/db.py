"""Connections and the one writer, for SQLite and PostgreSQL.

All writes run in one thread, in the order they arrived, and whatever has arrived commits together: one fsync for as many
calls as waited for the previous one. There is no window to tune: an idle store commits a single call at once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, InternalError, OperationalError

from slipway.store import migrate
from slipway.store.announcements import Announcements, Watch, announced
from slipway.store.engines import (
    BadValue,
    StoreError,
    StoreFull,
    StoreUnavailable,
    database_url,
    reading_engine,
    writing_engine,
)

__all__ = ["BadValue", "Connection", "Db", "StoreBusy", "StoreClosed", "StoreError", "StoreFull", "StoreUnavailable"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

GROUP = 1000
"""Calls that share one commit at most, so that the first of them does not wait without bound."""

_SOUND = (0, 2)
"""libpq's transaction states "idle" (nothing executed yet) and "in transaction"; others are "active", "failed", "unknown"."""


class StoreBusy(StoreError):
    """Too many calls are waiting already: refuse now rather than answer late."""


class StoreClosed(StoreError):
    """The store is closed."""


class _Call(NamedTuple):
    fn: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class _Outcome(NamedTuple):
    call: _Call
    value: Any
    error: BaseException | None


class _Calls:
    """A bounded queue from event loops to threads."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._waiting: deque[_Call] = deque()
        self._arrived = threading.Condition()
        self._closed = False

    def put(self, call: _Call) -> None:
        with self._arrived:
            if self._closed:
                raise StoreClosed("the store is closed")
            if len(self._waiting) >= self._bound:
                raise StoreBusy(f"{self._bound} calls are waiting for the database already")
            self._waiting.append(call)
            self._arrived.notify()

    def take(self, most: int) -> list[_Call]:
        """Whatever waits, at least one call; empty once closed and drained."""
        with self._arrived:
            while not self._waiting and not self._closed:
                self._arrived.wait()
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def close(self) -> None:
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()


class Db:
    """The store. `fn` is synchronous, touches only the database, and never commits or rolls back by itself.

    Calls may come from any number of event loops. A caller that is cancelled while it waits leaves its call undone or done
    whole, never in part.
    """

    def __init__(self, writing: Engine | None, reading: Engine, *, readers: int, waiting: int, group: int = GROUP) -> None:
        """Use `open`, or `open_reading`: the schema must be there before anything else is asked for."""
        self.dialect: str = reading.dialect.name
        """`sqlite` or `postgresql`."""
        self._writes = _Calls(waiting)
        self._reads = _Calls(waiting)
        self._announcements = Announcements()
        tell = self._announcements.tell
        self._threads: list[threading.Thread] = []
        if writing is None:
            self._writes.close()
        else:
            args = (writing, self._writes, group, tell)
            self._threads.append(threading.Thread(target=_serve, args=args, name="store-writer", daemon=True))
        self._threads += [
            threading.Thread(target=_serve, args=(reading, self._reads, 1, tell), name=f"store-reader-{n}", daemon=True)
            for n in range(readers)
        ]
        for thread in self._threads:
            thread.start()

    @classmethod
    async def open(cls, url_or_path: str, *, readers: int = 4, waiting: int = 10_000, group: int = GROUP) -> Self:
        """Open the database (`postgresql://…` or the path of an SQLite file), making or migrating its schema.

        `waiting`: calls of either kind that may wait before StoreBusy; `group`: calls that share one commit at most. Raises
        SchemaError, StoreUnavailable.
        """
        url = database_url(url_or_path)
        db = cls(writing_engine(url), reading_engine(url), readers=readers, waiting=waiting, group=group)
        try:
            # By the writer, whose connection stays: the last one to close an SQLite file takes its log down.
            await db._call(db._writes, migrate.prepare)
        except BaseException:
            await db.close()
            raise
        return db

    @classmethod
    def open_reading(cls, url_or_path: str, *, readers: int = 2, waiting: int = 10_000) -> Self:
        """For a process beside the one that writes: nothing is made or changed, `write` raises StoreClosed.

        Connects with the first call, which raises StoreUnavailable where there is no database.
        """
        return cls(None, reading_engine(database_url(url_or_path), existing=True), readers=readers, waiting=waiting)

    async def close(self) -> None:
        """Finish what was accepted, refuse what comes later. Safe to repeat."""
        self._writes.close()
        self._reads.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a read transaction: all that it reads is of one moment, at or after the call."""
        return await self._call(self._reads, fn)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` under a savepoint in the writer thread; resolves after COMMIT (and fsync). Its exception undoes it alone.

        Raises what `fn` raises, StoreBusy, StoreClosed, and StoreUnavailable when the commit failed or the connection broke.
        """
        return await self._call(self._writes, fn)

    def watch(self, topic: str) -> Watch:
        """A context manager whose `wait` ends when a committed `write` has announced the topic (`store.announcements`)."""
        return Watch(self._announcements, topic)

    async def _call(self, calls: _Calls, fn: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        call = _Call(fn, loop, loop.create_future())
        calls.put(call)
        result: T = await call.future
        return result


def _serve(engine: Engine, calls: _Calls, most: int, tell: Callable[[Collection[str]], None]) -> None:
    """A thread's life: take what has arrived, run it in one transaction, answer. Connects when there is something to do."""
    connection: Connection | None = None
    while group := calls.take(most):
        try:
            connection = connection or engine.connect()
            outcomes = _run(connection, group)
            tell(announced(connection))
        except BaseException as error:  # noqa: BLE001 - the thread must survive, and every waiting caller hear of it
            logger.warning("store-transaction-failed", extra={"calls": len(group), "error": _reason(error)})
            outcomes = [_Outcome(call, None, _unavailable(error)) for call in group]
            _drop(connection)
            connection = None
        _answer(outcomes)
    if connection is not None:
        connection.close()


def _run(connection: Connection, group: Sequence[_Call]) -> list[_Outcome]:
    """All calls of a group in one transaction, each under its own savepoint. Raises if the transaction as a whole failed."""
    group = [call for call in group if not call.future.cancelled()]
    alone = len(group) == 1
    outcomes: list[_Outcome] = []
    with connection.begin() as transaction:
        # Savepoints go straight to the driver: SQLAlchemy's own take longer than a small statement does.
        driver: Any = connection.connection.driver_connection
        for call in group:
            if not alone:
                driver.execute("SAVEPOINT slipway_call")
            outcome = _perform(connection, call)
            if not transaction.is_active:
                raise StoreError("a call ended the transaction that it shares")
            if not _intact(driver):
                if isinstance(driver, sqlite3.Connection):
                    raise outcome.error or StoreUnavailable("database: the transaction was given up")
                if outcome.error is None:
                    outcome = _Outcome(call, None, StoreUnavailable("database: a call went on after a statement had failed"))
            if alone and outcome.error is not None:
                transaction.rollback()
            elif not alone:
                if outcome.error is not None:
                    driver.execute("ROLLBACK TO SAVEPOINT slipway_call")
                driver.execute("RELEASE SAVEPOINT slipway_call")
            outcomes.append(outcome)
    return outcomes


def _intact(driver: Any) -> bool:
    """Whether COMMIT would keep what was done: a full disk ends SQLite's transaction, any error spoils PostgreSQL's.

    Neither says so at COMMIT, so a call that swallowed the error would be acknowledged for nothing. In PostgreSQL going back
    to the savepoint mends it; in SQLite the whole group is lost.
    """
    if isinstance(driver, sqlite3.Connection):
        return driver.in_transaction
    return bool(driver.info.transaction_status in _SOUND)


def _perform(connection: Connection, call: _Call) -> _Outcome:
    try:
        return _Outcome(call, call.fn(connection), None)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        if isinstance(error, DataError):
            return _Outcome(call, None, BadValue(_reason(error)))
        unavailable = isinstance(error, OperationalError | InternalError)
        return _Outcome(call, None, _unavailable(error) if unavailable else error)
    except OverflowError as error:  # what SQLite's driver says of an integer of more than 64 bits
        return _Outcome(call, None, BadValue(f"database: {error}"))
    except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
        return _Outcome(call, None, error)


def _drop(connection: Connection | None) -> None:
    """Give the connection up, whatever state it is in: the next call opens another."""
    if connection is not None:
        try:
            connection.invalidate()
            connection.close()
        except Exception as error:  # noqa: BLE001 - it is broken already
            logger.debug("store-connection-close-failed", extra={"error": _reason(error)})


def _unavailable(error: BaseException) -> StoreError:
    if isinstance(error, StoreError):
        return error
    wrapped = (StoreFull if _full(error) else StoreUnavailable)(_reason(error))
    wrapped.__cause__ = error
    return wrapped


def _full(error: BaseException) -> bool:
    original = getattr(error, "orig", None) or error
    return getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(original, "sqlstate", None) == "53100"


def _reason(error: BaseException) -> str:
    """The driver's message alone, in one line: SQLAlchemy's holds the statement and its parameters, which may be secret."""
    original = getattr(error, "orig", None) or error
    return f"database: {' '.join(str(original).split()) or type(original).__name__}"


def _answer(outcomes: Sequence[_Outcome]) -> None:
    """Wake the callers: each event loop is entered once for all of its calls."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.call.loop, []).append(outcome)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("store-loop-closed", extra={"calls": len(mine)})


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for call, value, error in outcomes:
        if call.future.done():
            continue
        if error is None:
            call.future.set_result(value)
        elif isinstance(error, StopIteration):  # a future refuses to carry it
            call.future.set_exception(RuntimeError("the call raised StopIteration"))
        else:
            call.future.set_exception(error)
