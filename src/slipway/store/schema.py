"""What all table modules share: the metadata, column types that mean the same in SQLite and PostgreSQL, and the upsert.

Conventions: times are epoch seconds (`Moment`), JSON is text (`Json`), text compares byte by byte in both databases (`Word`).
The modules with tables are gathered by `store.migrate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import BigInteger, Connection, Double, Integer, MetaData, Table, Text, TypeDecorator
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Word = Text().with_variant(Text(collation="C"), "postgresql")
"""Text ordered and compared by its UTF-8 bytes, as SQLite does by default and S3's listings need."""

Moment: Double[float] = Double()
"""Epoch seconds."""

Number = BigInteger()

Serial = BigInteger().with_variant(Integer, "sqlite")
"""A primary key that counts up by itself (SQLite does that for INTEGER alone, of 64 bits there)."""


class Json(TypeDecorator[Any]):
    """Any value that msgspec can write as JSON, kept as text; reads back as plain dicts and lists (dataclasses too)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, in the dialect of the connection.

    Prefer it to catching IntegrityError: in PostgreSQL a failed statement spoils the whole transaction.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 35 ms that SQLite does not need

        return postgresql.insert(table)
    return sqlite.insert(table)
