"""Bring a database to the schema of this version: create it whole, migrate it, or refuse it.

Creating is `metadata.create_all` and takes milliseconds; Alembic is loaded only for a database that an older version made.
A test proves that both ways end in the same schema.
"""

from __future__ import annotations

import os

from sqlalchemy import Connection, inspect, text

from slipway.store import (
    alarms,
    jobs,
    keys,
    leases,
    metrics,
    objects,
    queues,
    resources,
    scaling,
    scaling_activities,
    topics,
    topics_outbox,
    transforms,
    uploads,
)
from slipway.store.engines import StoreError
from slipway.store.schema import metadata

HEAD = "0003"
"""The newest revision in `migrations/versions`; revisions are numbers of four digits, so that they compare as text."""

TABLES = (
    resources.resources,
    resources.tags,
    resources.replicas,
    keys.access_keys,
    leases.leases,
    jobs.queues,
    jobs.requests,
    objects.buckets,
    objects.objects,
    uploads.uploads,
    uploads.parts,
    metrics.series,
    metrics.points,
    metrics.sources,
    alarms.alarms,
    alarms.actions,
    alarms.history,
    queues.queues,
    queues.messages,
    topics.topics,
    topics.subscriptions,
    topics_outbox.outbox,
    topics_outbox.outcomes,
    scaling.targets,
    scaling.policies,
    scaling.actions,
    scaling_activities.activities,
    transforms.objects,
)
"""Named here so that whoever has `metadata` from this module has all of it."""

_VERSION_COLUMN = "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"

_LOCK = 0x736C6970
"""Two processes that open a fresh PostgreSQL database at once take turns (an advisory lock of this number)."""


class SchemaError(StoreError):
    """The database belongs to a newer version, or to something else."""


def prepare(connection: Connection) -> None:
    """Make the schema current, inside the connection's transaction; SchemaError if that cannot be."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    stored = stored_revision(connection)
    if stored == HEAD:
        return
    if stored is None:
        _create(connection)
    elif stored > HEAD:
        raise SchemaError(
            f"the database was written by a newer slipway (schema {stored}, this version knows up to {HEAD}): upgrade slipway"
        )
    else:
        upgrade(connection)


def stored_revision(connection: Connection) -> str | None:
    """None: no schema yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run Alembic's migrations up to `revision` on this connection, in its transaction."""
    from alembic import command  # noqa: PLC0415 - 100 ms that a current database does not need
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _create(connection: Connection) -> None:
    foreign = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
    if foreign:
        raise SchemaError(
            f"the database holds tables that slipway did not make ({', '.join(foreign)}): give it a database of its own"
        )
    metadata.create_all(connection, checkfirst=False)
    connection.execute(text(f"CREATE TABLE alembic_version ({_VERSION_COLUMN})"))
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})
