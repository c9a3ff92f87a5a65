"""Amazon CloudWatch: metrics and alarms over `backing.metrics` and `store.alarms`; the operations that are served."""

from __future__ import annotations

from slipway.services.cloudwatch.alarm_states import (
    describe_alarm_history,
    disable_alarm_actions,
    enable_alarm_actions,
    set_alarm_state,
)
from slipway.services.cloudwatch.alarms import delete_alarms, describe_alarms, describe_alarms_for_metric, put_metric_alarm
from slipway.services.cloudwatch.metrics import list_metrics, put_metric_data
from slipway.services.cloudwatch.statistics import get_metric_data, get_metric_statistics
from slipway.services.cloudwatch.tags import list_tags_for_resource, tag_resource, untag_resource

__all__ = [
    "delete_alarms",
    "describe_alarm_history",
    "describe_alarms",
    "describe_alarms_for_metric",
    "disable_alarm_actions",
    "enable_alarm_actions",
    "get_metric_data",
    "get_metric_statistics",
    "list_metrics",
    "list_tags_for_resource",
    "put_metric_alarm",
    "put_metric_data",
    "set_alarm_state",
    "tag_resource",
    "untag_resource",
]
