"""Asynchronous inference, queues and topics, metrics and alarms, scaling."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One function for each area, called here in order."""
