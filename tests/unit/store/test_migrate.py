"""Creating and migrating end in the same schema; newer and foreign databases are refused."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, inspect, text

from slipway.store import migrate
from slipway.store.db import Db
from slipway.store.engines import database_url as parse_url
from slipway.store.engines import writing_engine
from slipway.store.schema import metadata


@pytest.fixture
def engine(database_url: str) -> Engine:
    return writing_engine(parse_url(database_url))


def schema(connection: Connection) -> dict[str, Any]:
    """Everything that reflection sees, in an order that does not depend on how it was made."""
    inspector = inspect(connection)
    found: dict[str, Any] = {}
    for table in inspector.get_table_names():
        found[table] = {
            "columns": [{**column, "type": repr(column["type"])} for column in inspector.get_columns(table)],
            "primary key": inspector.get_pk_constraint(table),
            "unique": inspector.get_unique_constraints(table),
            "indexes": [_index(index) for index in inspector.get_indexes(table)],
            "foreign keys": inspector.get_foreign_keys(table),
        }
    return found


def _index(index: Any) -> dict[str, Any]:
    """The condition of a partial index compares by its text."""
    return {**index, "dialect_options": {name: str(value) for name, value in index.get("dialect_options", {}).items()}}


def test_migrating_from_nothing_equals_creating(engine: Engine) -> None:
    with engine.begin() as connection:
        migrate.prepare(connection)
        created = schema(connection)
    with engine.begin() as connection:
        everything = MetaData()
        everything.reflect(connection)
        everything.drop_all(connection)
    with engine.begin() as connection:
        migrate.upgrade(connection)
        assert migrate.stored_revision(connection) == migrate.HEAD
        assert schema(connection) == created
        assert set(metadata.tables) < set(created)
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(migrate.__file__), "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrate.HEAD]
    assert all(len(revision.revision) == 4 for revision in script.walk_revisions())


async def test_a_current_database_is_opened_as_it_is(database_url: str) -> None:
    for _ in range(2):
        db = await Db.open(database_url)
        await db.close()


async def test_a_fresh_database_may_be_opened_several_times_at_once(database_url: str) -> None:
    for db in await asyncio.gather(*(Db.open(database_url) for _ in range(4))):
        await db.close()


async def test_a_newer_database_is_refused(database_url: str, engine: Engine) -> None:
    await (await Db.open(database_url)).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(migrate.SchemaError, match="upgrade slipway"):
        await Db.open(database_url)


async def test_a_database_with_foreign_tables_of_our_names_is_refused(database_url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE resources (id INTEGER)"))
    with pytest.raises(migrate.SchemaError, match="resources"):
        await Db.open(database_url)
