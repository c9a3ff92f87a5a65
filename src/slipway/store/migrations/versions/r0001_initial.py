"""Everything that the first version keeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Word = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    _resources()
    _access()
    _objects()
    _uploads()


def _resources() -> None:
    op.create_table(
        "resources",
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("kind", Word, nullable=False),
        sa.Column("key", Word, nullable=False),
        sa.Column("name", Word, nullable=False),
        sa.Column("arn", Word, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("status", Word, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("desired", sa.Text(), nullable=False),
        sa.Column("observed", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("observed_generation", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("modified", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account", "region", "kind", "key", name="pk_resources"),
        sa.UniqueConstraint("arn", name="uq_resources_arn"),
    )
    op.create_table(
        "tags",
        sa.Column("arn", Word, nullable=False),
        sa.Column("key", Word, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("arn", "key", name="pk_tags"),
    )
    op.create_table(
        "replicas",
        sa.Column("id", Word, nullable=False),
        sa.Column("owner", Word, nullable=False),
        sa.Column("variant", Word, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )
    op.create_index("ix_replicas_owner", "replicas", ["owner"])


def _access() -> None:
    op.create_table(
        "access_keys",
        sa.Column("id", Word, nullable=False),
        sa.Column("secret", Word, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("principal", Word, nullable=False),
        sa.Column("token", Word),
        sa.Column("expires", sa.Double()),
        sa.Column("services", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_keys"),
    )
    op.create_index("ix_access_keys_expires", "access_keys", ["expires"])
    op.create_table(
        "leases",
        sa.Column("name", Word, nullable=False),
        sa.Column("holder", Word, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _objects() -> None:
    op.create_table(
        "s3_buckets",
        sa.Column("name", Word, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_s3_buckets"),
    )
    op.create_table(
        "s3_objects",
        sa.Column("bucket", Word, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("etag", Word, nullable=False),
        sa.Column("modified", sa.Double(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("segments", sa.Text()),
        sa.Column("data", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("bucket", "key", name="pk_s3_objects"),
    )


def _uploads() -> None:
    op.create_table(
        "s3_uploads",
        sa.Column("id", Word, nullable=False),
        sa.Column("bucket", Word, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_s3_uploads"),
    )
    op.create_index("ix_s3_uploads_by_key", "s3_uploads", ["bucket", "key", "id"])
    op.create_table(
        "s3_parts",
        sa.Column("upload", Word, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("etag", Word, nullable=False),
        sa.Column("modified", sa.Double(), nullable=False),
        sa.Column("checksums", sa.Text(), nullable=False),
        sa.Column("segments", sa.Text()),
        sa.PrimaryKeyConstraint("upload", "number", name="pk_s3_parts"),
    )
