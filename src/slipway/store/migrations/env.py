"""Alembic's entry: runs migrations on the connection, and in the transaction, that `store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from slipway.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True, render_as_batch=True
)
context.run_migrations()
