"""Which metric a policy or an alarm looks at, the alarms that target tracking makes, and the metrics that endpoints publish.

hosting.md 6.2, 6.3, 7.1, 7.4. Configurations and alarms are mappings with AWS's members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BACKLOG_PER_INSTANCE = "ApproximateBacklogSizePerInstance"
NAMESPACE = "AWS/SageMaker"

LOW_FACTOR = 0.9
HIGH_PERIODS, LOW_PERIODS = 3, 15
PERIOD = 60

PREDEFINED: Mapping[str, tuple[str, str, int]] = {
    "SageMakerVariantInvocationsPerInstance": ("InvocationsPerInstance", "Sum", 60),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": ("ConcurrentRequestsPerModel", "Maximum", 10),
}
"""Of a variant's instance count: metric, statistic, period in seconds."""

_QUEUE = ("ApproximateBacklogSize", BACKLOG_PER_INSTANCE, "ApproximateAgeOfOldestRequest", "HasBacklogWithoutCapacity")
_ASYNC = (
    "RequestDownloadFailures",
    "ResponseUploadFailures",
    "NotificationFailures",
    "ExpiredRequests",
    "InvocationFailures",
    "InvocationsProcessed",
    "InvocationsProcesssed",
    "RequestDownloadLatency",
    "ResponseUploadLatency",
    "TimeInBacklog",
    "TotalProcessingTime",
)
_BOTH = ("Invocation4XXErrors", "Invocation5XXErrors", "ModelLatency")
_REAL_TIME = (
    "Invocations",
    "InvocationsPerInstance",
    "InvocationModelErrors",
    "OverheadLatency",
    "ConcurrentRequestsPerModel",
    "FirstChunkLatency",
    "MidStreamErrors",
)


@dataclass(frozen=True, slots=True)
class Watched:
    """What an alarm evaluates."""

    shown: str
    """For a person: the metric's name, or the expression."""
    namespace: str = ""
    name: str | None = None
    """None: metric math."""
    dimensions: tuple[tuple[str, str], ...] = ()
    statistic: str | None = None
    unit: str | None = None


def watched(spec: Mapping[str, Any]) -> Watched:
    """Of an alarm (PutMetricAlarm's members)."""
    if "MetricName" in spec:
        dimensions = tuple((d["Name"], d["Value"]) for d in spec.get("Dimensions") or ())
        statistic = spec.get("Statistic") or spec.get("ExtendedStatistic")
        return Watched(spec["MetricName"], spec["Namespace"], spec["MetricName"], dimensions, statistic, spec.get("Unit"))
    queries = spec.get("Metrics") or ()
    shown = next((q for q in queries if q.get("ReturnData", True)), None)
    if shown is None:
        return Watched("?")
    if "MetricStat" in shown:
        stat = shown["MetricStat"]
        metric = stat["Metric"]
        dimensions = tuple((d["Name"], d["Value"]) for d in metric.get("Dimensions") or ())
        name, namespace = metric.get("MetricName"), metric.get("Namespace", "")
        return Watched(name or "?", namespace, name, dimensions, stat.get("Stat"), stat.get("Unit"))
    return Watched(str(shown.get("Label") or shown.get("Expression") or "?"))


def used(spec: Mapping[str, Any]) -> list[Watched]:
    """All metrics that an alarm is of: several, where it is an expression."""
    if "MetricName" in spec:
        return [watched(spec)]
    return [watched({"Metrics": [query]}) for query in spec.get("Metrics") or () if "MetricStat" in query]


def is_backlog_per_instance(config: Mapping[str, Any], endpoint: str) -> bool:
    """Whether a target tracking configuration is on that metric of this very endpoint."""
    spec = config.get("CustomizedMetricSpecification") or {}
    dimensions = [(d["Name"], d["Value"]) for d in spec.get("Dimensions") or ()]
    named = (spec.get("Namespace"), spec.get("MetricName"))
    return named == (NAMESPACE, BACKLOG_PER_INSTANCE) and dimensions == [("EndpointName", endpoint)]


def alarm_specs(
    config: Mapping[str, Any], policy_arn: str, endpoint: str, variant: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The high and the low alarm of a target tracking policy (hosting.md 6.3), as PutMetricAlarm would be given them."""
    target = float(config["TargetValue"])
    metric, period = _metric(config, endpoint, variant)
    common = {
        "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy_arn}.",
        "ActionsEnabled": True,
        "AlarmActions": [policy_arn],
        "TreatMissingData": "missing",
    }
    high = {
        **common,
        **_with_period(metric, period),
        "EvaluationPeriods": HIGH_PERIODS,
        "DatapointsToAlarm": HIGH_PERIODS,
        "Threshold": target,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    low = {
        **common,
        **_with_period(metric, PERIOD),
        "EvaluationPeriods": LOW_PERIODS,
        "DatapointsToAlarm": LOW_PERIODS,
        "Threshold": round(target * LOW_FACTOR, 12),
        "ComparisonOperator": "LessThanThreshold",
    }
    return high, low


def _metric(config: Mapping[str, Any], endpoint: str, variant: str) -> tuple[dict[str, Any], int]:
    if "PredefinedMetricSpecification" in config:
        name, statistic, period = PREDEFINED[config["PredefinedMetricSpecification"]["PredefinedMetricType"]]
        dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
        return {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": dimensions, "Statistic": statistic}, period
    spec = config["CustomizedMetricSpecification"]
    if "Metrics" in spec:
        return {"Metrics": [dict(query) for query in spec["Metrics"]]}, PERIOD
    found = {"Namespace": spec["Namespace"], "MetricName": spec["MetricName"], "Statistic": spec["Statistic"]}
    found["Dimensions"] = [dict(d) for d in spec.get("Dimensions") or ()]
    return found | ({"Unit": spec["Unit"]} if spec.get("Unit") else {}), PERIOD


def _with_period(metric: Mapping[str, Any], period: int) -> dict[str, Any]:
    """The period where PutMetricAlarm has it: beside a metric, within each of several."""
    if "Metrics" not in metric:
        return {**metric, "Period": period}
    queries = []
    for query in metric["Metrics"]:
        stat = query.get("MetricStat")
        queries.append({**query, "MetricStat": {**stat, "Period": period}} if stat else dict(query))
    return {"Metrics": queries}


def doubt(seen: Watched, endpoint: str, variants: Sequence[str], asynchronous: bool) -> str | None:
    """Why this metric can never say anything of this endpoint, judged by its name and dimensions; None: it may."""
    if seen.namespace != NAMESPACE or seen.name is None:
        # AWS keeps no other namespace apart from this one by its case alone; nobody publishes there.
        misspelt = seen.name is not None and seen.namespace.casefold() == NAMESPACE.casefold()
        return f"its namespace is {seen.namespace!r}, SageMaker publishes in {NAMESPACE!r}" if misspelt else None
    known = dict(seen.dimensions)
    if (other := known.get("EndpointName", endpoint)) != endpoint:
        return f"its dimension EndpointName is {other!r}, this endpoint is {endpoint!r}"
    if "VariantName" in known and known["VariantName"] not in variants:
        return f"its dimension VariantName is {known['VariantName']!r}, this endpoint has {', '.join(sorted(variants))}"
    published = {**dict.fromkeys(_QUEUE, ("EndpointName",)), **dict.fromkeys(_ASYNC, ("EndpointName", "VariantName"))}
    if not asynchronous:
        published = dict.fromkeys(_REAL_TIME, ("EndpointName", "VariantName"))
    published |= dict.fromkeys(_BOTH, ("EndpointName", "VariantName"))
    if seen.name not in published:
        kind = "an asynchronous" if asynchronous else "a real-time"
        return f"{kind} endpoint does not publish {seen.name}"
    if set(known) != set(published[seen.name]):
        wanted, has = " and ".join(published[seen.name]), " and ".join(sorted(known)) or "none"
        return f"{seen.name} is published with the dimensions {wanted}, it asks for {has}"
    return None
