"""Connections and the one writer, for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Db:
    """The store. `fn` is synchronous and touches only the database."""

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a read transaction."""
        raise NotImplementedError

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` under a savepoint in the writer thread; resolves after COMMIT (and fsync). Its exception undoes it alone."""
        raise NotImplementedError
