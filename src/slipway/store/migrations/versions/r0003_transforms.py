"""Batch transform: the objects of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Word = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "transform_objects",
        sa.Column("id", Serial, nullable=False),
        sa.Column("job", Word, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("bucket", Word, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("state", Word, nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("holder", Word),
        sa.Column("lease_until", sa.Double()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("point", sa.Text()),
        sa.Column("staged", sa.Text()),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("bad", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("client", sa.Boolean(), nullable=False),
        sa.Column("instance", Word, nullable=False),
        sa.Column("started", sa.Double()),
        sa.Column("finished", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_transform_objects"),
    )
    op.create_index("ix_transform_objects_job", "transform_objects", ["job", "state", "id"])
    op.create_index("ix_transform_objects_lease", "transform_objects", ["holder", "lease_until"])
