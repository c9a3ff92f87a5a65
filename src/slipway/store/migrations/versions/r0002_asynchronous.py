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
    _requests()
    _metrics()
    _alarms()
    _queues()
    _bucket_notifications()
    _topics()
    _scaling()


def _bucket_notifications() -> None:
    op.add_column("s3_buckets", sa.Column("notifications", sa.Text()))


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
        sa.Column("group", Word),
        sa.Column("source", Word),
        sa.Column("seal", Word),
        sa.Column("attributes", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sqs_messages"),
    )
    op.create_index("ix_sqs_messages_receivable", "sqs_messages", ["queue", "visible", "id"])
    op.create_index("ix_sqs_messages_age", "sqs_messages", ["queue", "sent"])


def _metrics() -> None:
    op.create_table(
        "metric_series",
        sa.Column("id", Serial, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("namespace", Word, nullable=False),
        sa.Column("name", Word, nullable=False),
        sa.Column("dimensions", Word, nullable=False),
        sa.Column("unit", Word, nullable=False),
        sa.Column("last", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_metric_series"),
        sa.UniqueConstraint(
            "account",
            "region",
            "namespace",
            "name",
            "dimensions",
            "unit",
            name="uq_metric_series_account_region_namespace_name",
        ),
    )
    op.create_table(
        "metric_points",
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("count", sa.Double(), nullable=False),
        sa.Column("sum", sa.Double(), nullable=False),
        sa.Column("minimum", sa.Double(), nullable=False),
        sa.Column("maximum", sa.Double(), nullable=False),
        sa.Column("buckets", sa.Text()),
        sa.PrimaryKeyConstraint("series", "step", "start", name="pk_metric_points"),
    )
    op.create_index("ix_metric_points_step", "metric_points", ["step", "start"])
    op.create_table(
        "metric_sources",
        sa.Column("source", Word, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_metric_sources"),
    )


def _scaling() -> None:
    place = ("account", "region", "resource_id", "dimension")
    op.create_table(
        "scalable_targets",
        *(sa.Column(name, Word, nullable=False) for name in (*place, "arn", "endpoint")),
        sa.Column("incarnation", sa.Double(), nullable=False),
        sa.Column("variant", Word, nullable=False),
        sa.Column("minimum", sa.BigInteger(), nullable=False),
        sa.Column("maximum", sa.BigInteger(), nullable=False),
        sa.Column("role", Word, nullable=False),
        sa.Column("suspended", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(*place, name="pk_scalable_targets"),
        sa.UniqueConstraint("arn", name="uq_scalable_targets_arn"),
    )
    op.create_index("ix_scalable_targets_endpoint", "scalable_targets", ["endpoint"])
    op.create_table(
        "scaling_policies",
        *(sa.Column(name, Word, nullable=False) for name in (*place, "name", "arn", "kind")),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("alarms", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(*place, "name", name="pk_scaling_policies"),
        sa.UniqueConstraint("arn", name="uq_scaling_policies_arn"),
    )
    op.create_table(
        "scheduled_actions",
        *(sa.Column(name, Word, nullable=False) for name in (*place, "name", "arn", "schedule", "timezone")),
        sa.Column("start", sa.Double()),
        sa.Column("end", sa.Double()),
        sa.Column("minimum", sa.BigInteger()),
        sa.Column("maximum", sa.BigInteger()),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("due", sa.Double()),
        sa.PrimaryKeyConstraint(*place, "name", name="pk_scheduled_actions"),
        sa.UniqueConstraint("arn", name="uq_scheduled_actions_arn"),
    )
    op.create_table(
        "scaling_activities",
        sa.Column("id", Word, nullable=False),
        *(sa.Column(name, Word, nullable=False) for name in (*place, "kind")),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double()),
        sa.Column("status", Word, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("description", "cause", "message", "reasons", "decision")),
        sa.Column("repeated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scaling_activities"),
    )
    op.create_index(
        "ix_scaling_activities_account_region_resource_id_started",
        "scaling_activities",
        ["account", "region", "resource_id", "started"],
    )


def _requests() -> None:
    op.create_table(
        "async_queues",
        sa.Column("id", Serial, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("endpoint", Word, nullable=False),
        sa.Column("arn", Word, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("running", sa.BigInteger(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("expired", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_async_queues"),
        sa.UniqueConstraint("arn", "created", name="uq_async_queues_arn_created"),
    )
    op.create_table(
        "async_requests",
        sa.Column("id", Serial, nullable=False, autoincrement=False),
        sa.Column("queue", sa.BigInteger(), nullable=False),
        sa.Column("state", Word, nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("timeout", sa.Integer(), nullable=False),
        sa.Column("inference_id", Word, nullable=False),
        sa.Column("input_location", sa.Text()),
        sa.Column("content_type", sa.Text()),
        sa.Column("accept", sa.Text()),
        sa.Column("custom_attributes", sa.Text()),
        sa.Column("output_location", sa.Text(), nullable=False),
        sa.Column("failure_location", sa.Text()),
        sa.Column("token", Word),
        sa.Column("fingerprint", Word),
        sa.Column("replay_of", sa.BigInteger()),
        sa.Column("holder", Word),
        sa.Column("lease_until", sa.Double()),
        sa.Column("claimed", sa.Double()),
        sa.Column("started", sa.Double()),
        sa.Column("finished", sa.Double()),
        sa.Column("variant", Word),
        sa.Column("instance", Word),
        sa.Column("dead", sa.Integer(), nullable=False),
        sa.Column("cause_kind", Word),
        sa.Column("cause", sa.Text()),
        sa.Column("status", sa.Integer()),
        sa.Column("notice", sa.Text()),
        sa.Column("decided", sa.Text()),
        sa.Column("failure", sa.Text()),
        sa.Column("body", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_async_requests"),
    )
    op.create_index("ix_async_requests_queue", "async_requests", ["queue", "state", "ready_at", "id"])
    op.create_index("ix_async_requests_inference", "async_requests", ["inference_id"])
    _partial_index("ix_async_requests_expires", ["queue", "expires"], "state = 'queued'")
    _partial_index("uq_async_requests_token", ["queue", "token"], "token IS NOT NULL", unique=True)
    _partial_index("ix_async_requests_dead", ["queue", "id"], "dead = 1")
    _partial_index("ix_async_requests_failure", ["id"], "failure IS NOT NULL")


def _partial_index(name: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, "async_requests", columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _topics() -> None:
    op.create_table(
        "sns_topics",
        sa.Column("arn", Word, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("name", Word, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("arn", name="pk_sns_topics"),
        sa.UniqueConstraint("account", "region", "name", name="uq_sns_topics_account_region_name"),
    )
    op.create_table(
        "sns_subscriptions",
        sa.Column("arn", Word, nullable=False),
        sa.Column("topic", Word, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("protocol", Word, nullable=False),
        sa.Column("endpoint", Word, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("state", Word, nullable=False),
        sa.Column("authenticated", Word, nullable=False),
        sa.Column("token", Word),
        sa.Column("token_expires", sa.Double()),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("arn", name="pk_sns_subscriptions"),
        sa.UniqueConstraint("topic", "protocol", "endpoint", name="uq_sns_subscriptions_topic_protocol_endpoint"),
    )
    op.create_index("ix_sns_subscriptions_account", "sns_subscriptions", ["account"])
    _outbox()


def _outbox() -> None:
    op.create_table(
        "sns_outbox",
        sa.Column("id", Serial, nullable=False),
        sa.Column("subscription", Word, nullable=False),
        sa.Column("message", Word, nullable=False),
        sa.Column("kind", Word, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sns_outbox"),
    )
    op.create_index("ix_sns_outbox_due", "sns_outbox", ["subscription", "next_at", "id"])
    op.create_index("ix_sns_outbox_message", "sns_outbox", ["message"])
    op.create_table(
        "sns_outcomes",
        sa.Column("message", Word, nullable=False),
        sa.Column("subscription", Word, nullable=False),
        sa.Column("state", Word, nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("message", "subscription", name="pk_sns_outcomes"),
    )
    op.create_index("ix_sns_outcomes_at", "sns_outcomes", ["at"])


def _alarms() -> None:
    op.create_table(
        "alarms",
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("name", Word, nullable=False),
        sa.Column("arn", Word, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("state", Word, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reason_data", sa.Text()),
        sa.Column("state_updated", sa.Double(), nullable=False),
        sa.Column("transitioned", sa.Double(), nullable=False),
        sa.Column("acted", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account", "region", "name", name="pk_alarms"),
        sa.UniqueConstraint("arn", name="uq_alarms_arn"),
    )
    op.create_table(
        "alarm_actions",
        sa.Column("arn", Word, nullable=False),
        sa.Column("action", Word, nullable=False),
        sa.PrimaryKeyConstraint("arn", "action", name="pk_alarm_actions"),
    )
    op.create_index("ix_alarm_actions_action", "alarm_actions", ["action"])
    op.create_table(
        "alarm_history",
        sa.Column("id", Serial, nullable=False),
        sa.Column("account", Word, nullable=False),
        sa.Column("region", Word, nullable=False),
        sa.Column("name", Word, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", Word, nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alarm_history"),
    )
    op.create_index("ix_alarm_history_name", "alarm_history", ["account", "region", "name", "at"])
    op.create_index("ix_alarm_history_at", "alarm_history", ["at"])
