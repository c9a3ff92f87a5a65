"""PutMetricAlarm, DescribeAlarms, DescribeAlarmsForMetric, DeleteAlarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from slipway.backing import metrics_queries
from slipway.backing.metrics_queries import BadQuery
from slipway.core.alarms import ACTIONS, COMPARISONS, Alarm
from slipway.core.metric_statistics import BadStatistic, percentile
from slipway.names import arn
from slipway.services import Context
from slipway.services.cloudwatch.errors import (
    bad_combination,
    bad_value,
    missing,
    page_start,
    page_token,
    refuse,
    validation_error,
)
from slipway.services.cloudwatch.tags import checked_tags
from slipway.store import alarms, resources
from slipway.store.db import Connection
from slipway.wire.errors import AwsError

KIND = "alarms"
"""What `wake` is called with, beside the alarm's ARN."""
ALARMS = 10_000
"""Of one account in one region."""
PAGE = 50
QUERIES = 20
_METRIC_MEMBERS = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Dimensions", "Period", "Unit")
_DAY = 86_400
_WEEK = 604_800


def alarm_arn(region: str, account: str, name: str) -> str:
    return arn("cloudwatch", region, account, f"alarm:{name}")


async def put_metric_alarm(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Creates or replaces; the state of an alarm that is there stays until its next evaluation."""
    refuse("PutMetricAlarm", request)
    spec = {name: value for name, value in request.items() if name not in ("AlarmName", "Tags")}
    _check(ctx, spec)
    tags = checked_tags(request.get("Tags", []))
    name = request["AlarmName"]
    alarm = Alarm(ctx.account, ctx.region, name, alarm_arn(ctx.region, ctx.account, name), spec, ctx.world.now())

    def write(connection: Connection) -> None:
        if alarms.put(connection, alarm):
            if alarms.count(connection, ctx.account, ctx.region) > ALARMS:
                raise AwsError("LimitExceededFault", "The maximum limit of alarms has been reached.")
            if tags:  # of an alarm that is there, AWS leaves the tags as they are
                resources.set_tags(connection, alarm.arn, tags)

    await ctx.world.db.write(write)
    ctx.world.wake(KIND, alarm.arn)
    return {}


def _check(ctx: Context, spec: Mapping[str, Any]) -> None:
    if spec["ComparisonOperator"] not in COMPARISONS:
        raise validation_error(
            f"ComparisonOperator {spec['ComparisonOperator']} is not supported by slipway: anomaly detection"
        )
    if "Threshold" not in spec:
        raise missing("The parameter Threshold is required.")
    if spec.get("DatapointsToAlarm", 1) > spec["EvaluationPeriods"]:
        raise validation_error("DatapointsToAlarm must be less than or equal to EvaluationPeriods")
    if spec.get("TreatMissingData", "missing") not in ("missing", "notBreaching", "breaching", "ignore"):
        raise validation_error(
            f"Value '{spec['TreatMissingData']}' for TreatMissingData is not valid: missing, notBreaching, breaching or ignore"
        )
    if spec.get("EvaluateLowSampleCountPercentile", "evaluate") not in ("evaluate", "ignore"):
        raise validation_error("EvaluateLowSampleCountPercentile must be evaluate or ignore")
    for member in ACTIONS.values():
        for action in spec.get(member, ()):
            if not action.startswith("arn:") or action.count(":") < 5:
                raise validation_error(f"Invalid arn syntax: {action}")
            if action.split(":")[2] not in ("sns", "autoscaling"):
                raise validation_error(f"The action {action} is not supported by slipway: SNS topics and scaling policies are")
    period = _check_math(ctx, spec) if "Metrics" in spec else _check_metric(spec)
    longest, words = (_WEEK, "seven days") if period >= 3600 else (_DAY, "one day")
    if period * spec["EvaluationPeriods"] > longest:
        told = f"(EvaluationPeriods * Period must be <= {longest})"
        raise validation_error(f"Metrics cannot be checked across more than {words} {told}.")


def _check_metric(spec: Mapping[str, Any]) -> int:
    """The period."""
    for member in ("MetricName", "Namespace", "Period"):
        if member not in spec:
            raise missing(f"The parameter {member} is required, unless Metrics is given.")
    if ("Statistic" in spec) == ("ExtendedStatistic" in spec):
        raise bad_combination("Either the parameter Statistic or the parameter ExtendedStatistic must be specified, not both.")
    if "EvaluateLowSampleCountPercentile" in spec and "ExtendedStatistic" not in spec:
        raise bad_combination("EvaluateLowSampleCountPercentile is for alarms with an ExtendedStatistic.")
    if "ExtendedStatistic" in spec:
        try:
            percentile(spec["ExtendedStatistic"])
        except BadStatistic as error:
            raise validation_error(str(error)) from None
    return _checked_period(spec["Period"])


def _checked_period(period: int) -> int:
    if period not in (10, 20, 30) and period % 60:
        raise validation_error("Period must be 10, 20, 30 or a multiple of 60")
    return period


def _check_math(ctx: Context, spec: Mapping[str, Any]) -> int:
    """The longest period."""
    if given := [member for member in _METRIC_MEMBERS if member in spec]:
        raise bad_combination(f"The parameters {given[0]} and Metrics are mutually exclusive and you have specified both.")
    if not 1 <= len(spec["Metrics"]) <= QUERIES:
        raise validation_error(f"Metrics must have from 1 to {QUERIES} members")
    try:
        asks = metrics_queries.checked(ctx.account, ctx.region, spec["Metrics"])
    except BadQuery as error:
        raise validation_error(str(error)) from None
    if sum(ask.returned for ask in asks) != 1:
        raise validation_error("Exactly one of the Metrics must have ReturnData true")
    if not any(ask.metric is not None for ask in asks):
        raise validation_error("At least one of the Metrics must be of a metric")
    return max(_checked_period(ask.period) for ask in asks)


async def describe_alarms(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """By name. Metric alarms only: there are no others here."""
    refuse("DescribeAlarms", request)
    if request.get("AlarmNames") and request.get("AlarmNamePrefix"):
        raise bad_combination("AlarmNames and AlarmNamePrefix are mutually exclusive.")
    types = request.get("AlarmTypes") or ["MetricAlarm"]
    limit = request.get("MaxRecords", PAGE)
    if "MetricAlarm" not in types:
        return {"MetricAlarms": [], "CompositeAlarms": []}
    after = page_start(request.get("NextToken"), str) or ""
    found = await ctx.world.db.read(
        lambda c: alarms.listed(
            c,
            ctx.account,
            ctx.region,
            names=request.get("AlarmNames") or None,
            prefix=request.get("AlarmNamePrefix", ""),
            state=request.get("StateValue"),
            action_prefix=request.get("ActionPrefix", ""),
            after=after,
            limit=limit + 1,
        )
    )
    answer: dict[str, Any] = {"MetricAlarms": [described(alarm) for alarm in found[:limit]], "CompositeAlarms": []}
    if len(found) > limit:
        answer["NextToken"] = page_token(found[limit - 1].name)
    return answer


async def describe_alarms_for_metric(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Alarms on exactly this metric; of metric math, none (as AWS)."""
    if "Statistic" in request and "ExtendedStatistic" in request:
        raise bad_combination("The parameters Statistic and ExtendedStatistic are mutually exclusive.")
    compared = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Unit")
    wanted: dict[str, Any] = {name: request[name] for name in compared if name in request}
    dimensions = _dimensions(request)
    found = await ctx.world.db.read(lambda c: alarms.listed(c, ctx.account, ctx.region, limit=ALARMS + 1))
    same = [
        alarm
        for alarm in found
        if all(alarm.spec.get(name) == value for name, value in wanted.items()) and _dimensions(alarm.spec) == dimensions
    ]
    return {"MetricAlarms": [described(alarm) for alarm in same]}


def _dimensions(spec: Mapping[str, Any]) -> dict[str, str]:
    return {d["Name"]: d["Value"] for d in spec.get("Dimensions") or ()}


async def delete_alarms(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """All of them or none; a single name that is not there is ResourceNotFound, among several it does not matter (as AWS)."""
    names = list(dict.fromkeys(request["AlarmNames"]))
    if not names:
        raise bad_value("AlarmNames must name at least one alarm.")

    def write(connection: Connection) -> list[str]:
        gone = []
        for name in names:
            own = alarm_arn(ctx.region, ctx.account, name)
            if alarms.delete(connection, ctx.account, ctx.region, name, ctx.world.now()):
                resources.remove_tags(connection, own, list(resources.tags_of(connection, own)))
                gone.append(own)
        return gone

    gone = await ctx.world.db.write(write)
    if not gone and len(names) == 1:
        raise AwsError("ResourceNotFound", f"Alarm {names[0]} does not exist")
    for own in gone:
        ctx.world.wake(KIND, own)
    return {}


def described(alarm: Alarm) -> dict[str, Any]:
    """As MetricAlarm."""
    found: dict[str, Any] = {name: value for name, value in alarm.spec.items() if value is not None}
    found.setdefault("ActionsEnabled", True)
    if "MetricName" in found:
        found.setdefault("Dimensions", [])
    for member in ACTIONS.values():
        found.setdefault(member, [])
    return {
        **found,
        "AlarmName": alarm.name,
        "AlarmArn": alarm.arn,
        "AlarmConfigurationUpdatedTimestamp": moment(alarm.updated),
        "StateValue": alarm.state,
        "StateReason": alarm.reason,
        **({"StateReasonData": alarm.reason_data} if alarm.reason_data is not None else {}),
        "StateUpdatedTimestamp": moment(alarm.state_updated),
        "StateTransitionedTimestamp": moment(alarm.transitioned),
    }


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(round(at * 1000) / 1000, UTC)


def with_actions(alarm: Alarm, enabled: bool, now: float) -> Alarm:
    """The alarm with its actions enabled, or disabled."""
    return replace(alarm, spec={**alarm.spec, "ActionsEnabled": enabled}, updated=now)
