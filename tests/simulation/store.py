"""The database of a run: SQLite in memory, one transaction at a time, and calls of a process that die with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event

from slipway.store import migrate
from slipway.store.announcements import Announcements, Watch, announced
from slipway.store.db import Db, StoreError, StoreUnavailable
from slipway.wire.errors import AwsError
from tests.simulation.loops import Agenda, Process
from tests.simulation.network import Steps

T = TypeVar("T")

READ, WRITE = 0.001, 0.004
"""Seconds that a reading, and a commit, take at most."""


class Disk:
    """The one connection of this Python process, and what is on it. SQLAlchemy's compiled statements outlive a run."""

    def __init__(self) -> None:
        self.engine = _engine()
        self.connection = self.engine.connect()
        self.raw: sqlite3.Connection = self.connection.connection.driver_connection  # type: ignore[assignment]
        with self.connection.begin():
            migrate.prepare(self.connection)
        self.empty = self.raw.serialize()

    def load(self, image: bytes) -> None:
        self.raw.deserialize(image)


def _engine() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"isolation_level": None})

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


class SimDb(Db):
    """One process' way to the disk: what it has asked for and not got is gone with it."""

    def __init__(
        self, disk: Disk, process: Process, world: Process, chance: Random, steps: Steps, committed: Callable[[str], None]
    ) -> None:
        self.dialect = "sqlite"
        self._disk = disk
        self._process = process
        self._world = world
        self._chance = chance
        self._steps = steps
        self._committed = committed
        self._announcements = Announcements()
        self._turn = 0.0
        self.failing = False
        """Every commit fails, as on a full disk."""

    @property
    def _agenda(self) -> Agenda:
        return self._world.loop.agenda

    async def close(self) -> None: ...

    async def read(self, fn: Callable[[Connection], T]) -> T:
        answer = self._process.loop.create_future()
        later = self._chance.random() * READ
        self._world.loop.call_later(later, self._perform, self._read, fn, answer)
        value: T = await answer
        return value

    async def write(self, fn: Callable[[Connection], T]) -> T:
        answer = self._process.loop.create_future()
        self._turn = max(self._turn, self._agenda.now + self._chance.random() * WRITE)
        self._world.loop.call_at(self._turn, self._perform, self._write, fn, answer)
        value: T = await answer
        return value

    def watch(self, topic: str) -> Watch:
        return Watch(self._announcements, topic)

    def _perform(self, how: Callable[[Any], tuple[bool, Any]], fn: Any, answer: Any) -> None:
        if self._process.dead or answer.done():
            return
        try:
            lives, value = how(fn)
        except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
            self._world.loop.call_later(0.0, _answer, answer, None, error)
            if not isinstance(error, StoreError | AwsError):
                self._agenda.problems.append(f"{name_of(fn)}: {error!r}")
            return
        if lives:
            self._world.loop.call_later(self._chance.random() * READ, _answer, answer, value, None)

    def _read(self, fn: Callable[[Connection], Any]) -> tuple[bool, Any]:
        with self._disk.connection.begin():
            return True, fn(self._disk.connection)

    def _write(self, fn: Callable[[Connection], Any]) -> tuple[bool, Any]:
        name = name_of(fn)
        if self._steps.step(f"before {name}", self._process):
            return False, None
        if self.failing:
            raise StoreUnavailable("the disk is full")
        before = self._disk.raw.total_changes
        with self._disk.connection.begin():
            value = fn(self._disk.connection)
        told = announced(self._disk.connection)
        if self._disk.raw.total_changes != before:
            self._committed(name)
        if self._steps.step(f"after {name}", self._process):
            return False, None
        self._announcements.tell(told)
        return True, value


def _answer(future: Any, value: Any, error: BaseException | None) -> None:
    if future.done() or future.get_loop().process.dead:
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def name_of(fn: Any) -> str:
    """Which code writes, e.g. `Asynchronous._commit`."""
    name = getattr(fn, "__qualname__", None) or getattr(getattr(fn, "func", None), "__qualname__", "write")
    return str(name).partition(".<locals>")[0]
