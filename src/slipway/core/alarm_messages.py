"""What an alarm tells a topic: subject and JSON, as CloudWatch writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from slipway.core.alarms import Alarm, timestamp

SUBJECT_LENGTH: Final = 100

REGIONS: Final = {
    "af-south-1": "Africa (Cape Town)",
    "ap-east-1": "Asia Pacific (Hong Kong)",
    "ap-northeast-1": "Asia Pacific (Tokyo)",
    "ap-northeast-2": "Asia Pacific (Seoul)",
    "ap-northeast-3": "Asia Pacific (Osaka)",
    "ap-south-1": "Asia Pacific (Mumbai)",
    "ap-southeast-1": "Asia Pacific (Singapore)",
    "ap-southeast-2": "Asia Pacific (Sydney)",
    "ca-central-1": "Canada (Central)",
    "eu-central-1": "EU (Frankfurt)",
    "eu-north-1": "EU (Stockholm)",
    "eu-south-1": "EU (Milan)",
    "eu-west-1": "EU (Ireland)",
    "eu-west-2": "EU (London)",
    "eu-west-3": "EU (Paris)",
    "me-south-1": "Middle East (Bahrain)",
    "sa-east-1": "South America (Sao Paulo)",
    "us-east-1": "US East (N. Virginia)",
    "us-east-2": "US East (Ohio)",
    "us-west-1": "US West (N. California)",
    "us-west-2": "US West (Oregon)",
}
"""Names that CloudWatch's messages have for regions; another is named by its code."""


def subject(alarm: Alarm) -> str:
    """`ALARM: "name" in US East (N. Virginia)`, as long as a subject may be."""
    return f'{alarm.state}: "{alarm.name}" in {REGIONS.get(alarm.region, alarm.region)}'[:SUBJECT_LENGTH]


def message(alarm: Alarm, old_state: str) -> str:
    """`alarm` as it is after the transition from `old_state`."""
    spec = alarm.spec
    return json.dumps(
        {
            "AlarmName": alarm.name,
            "AlarmDescription": spec.get("AlarmDescription"),
            "AWSAccountId": alarm.account,
            "AlarmConfigurationUpdatedTimestamp": timestamp(alarm.updated),
            "NewStateValue": alarm.state,
            "NewStateReason": alarm.reason,
            "StateChangeTime": timestamp(alarm.transitioned),
            "Region": REGIONS.get(alarm.region, alarm.region),
            "AlarmArn": alarm.arn,
            "OldStateValue": old_state,
            "OKActions": spec.get("OKActions", []),
            "AlarmActions": spec.get("AlarmActions", []),
            "InsufficientDataActions": spec.get("InsufficientDataActions", []),
            "Trigger": _trigger(spec),
        },
        separators=(",", ":"),
    )


def _trigger(spec: Mapping[str, Any]) -> dict[str, Any]:
    shared = {
        "Period": spec.get("Period", 60),
        "EvaluationPeriods": spec["EvaluationPeriods"],
        "DatapointsToAlarm": spec.get("DatapointsToAlarm", spec["EvaluationPeriods"]),
        "ComparisonOperator": spec["ComparisonOperator"],
        "Threshold": spec["Threshold"],
        "TreatMissingData": spec.get("TreatMissingData", "missing"),
        "EvaluateLowSampleCountPercentile": spec.get("EvaluateLowSampleCountPercentile", ""),
    }
    if "Metrics" in spec:
        return {**shared, "Metrics": spec["Metrics"]}
    told = ("Statistic", spec["Statistic"].upper()) if "Statistic" in spec else ("ExtendedStatistic", spec["ExtendedStatistic"])
    return {
        "MetricName": spec["MetricName"],
        "Namespace": spec["Namespace"],
        "StatisticType": told[0],
        told[0]: told[1],
        "Unit": spec.get("Unit"),
        "Dimensions": [{"value": d["Value"], "name": d["Name"]} for d in spec.get("Dimensions") or ()],
        **shared,
    }
