"""Asynchronous inference, queues and topics, metrics and alarms, scaling."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Word = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """One function for each area, called here in order."""
    _queues()


def _queues() -> None:
    op.create_table(
        "sqs_queues",
        sa.Column("arn", Word, nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("name", Word, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("modified", sa.Double(), nullable=False),
        sa.Column("purged", sa.Double()),
        sa.PrimaryKeyConstraint("arn", name="pk_sqs_queues"),
        sa.UniqueConstraint("account", "region", "name", name="uq_sqs_queues_account_region_name"),
    )
    op.create_table(
        "sqs_messages",
        sa.Column("id", Serial, nullable=False),
        sa.Column("queue", sa.BigInteger(), nullable=False),
        sa.Column("uid", Word, nullable=False),
        sa.Column("visible", sa.Double(), nullable=False),
        sa.Column("sent", sa.Double(), nullable=False),
        sa.Column("receives", sa.Integer(), nullable=False),
        sa.Column("first_received", sa.Double()),
        sa.Column("receipt", Word),
        sa.Column("sender", Word, nullable=False),
        sa.Column("trace", sa.Text()),
        sa.Column("source", Word),
        sa.Column("attributes", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sqs_messages"),
    )
    op.create_index("ix_sqs_messages_receivable", "sqs_messages", ["queue", "visible", "id"])
    op.create_index("ix_sqs_messages_age", "sqs_messages", ["queue", "sent"])
