"""What there is to know for scaling an endpoint: targets, policies, alarms, the newest datapoints, the backlog; in one reading.

Shared by control's autoscaler, which acts on it, and by `slipway scaling explain`, which tells of it: both see the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from slipway.backing import metrics_queries
from slipway.backing.metrics import Metrics, Query
from slipway.backing.metrics_queries import BadQuery
from slipway.core.alarms import ALARM, Alarm
from slipway.core.deployments import target as target_of
from slipway.core.endpoints import DELETING, IN_SERVICE
from slipway.core.histograms import Statistics
from slipway.core.metric_math_syntax import MathError
from slipway.core.metric_statistics import BadStatistic, reader
from slipway.core.scaling import DEFAULT_COOLDOWN, Firing, Side, Stepping, Tracking
from slipway.core.scaling_metrics import Watched, is_backlog_per_instance, watched
from slipway.core.scaling_steps import Step
from slipway.core.scaling_turn import OVERRIDDEN, Alarming, Facts, State
from slipway.store import alarms, jobs, resources, scaling, scaling_activities
from slipway.store.db import Connection
from slipway.store.endpoints import Stored, stored
from slipway.store.metrics import metric
from slipway.store.scaling import Action, Policy, Target

STEADY_PERIODS = 3
"""As many as a target tracking policy's high alarm looks at."""
RECENT_PERIODS = 5
"""A datapoint older than so many periods is none."""


@dataclass(frozen=True, slots=True)
class Newest:
    """The datapoint to go by."""

    value: float | None
    until: float = math.inf
    """When its period ended."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A policy with the alarms that act on it, each with the newest datapoint that it has."""

    policy: Policy
    rule: Tracking | Stepping
    alarms: tuple[Alarm, ...]
    values: Mapping[str, Newest]
    """By alarm name."""

    def side(self, alarm: Alarm) -> Side:
        if isinstance(self.rule, Stepping):
            return "step"
        return "high" if alarm.condition.comparison.startswith("Greater") else "low"


@dataclass(frozen=True, slots=True)
class TargetSight:
    target: Target
    policies: tuple[Judged, ...]
    actions: tuple[Action, ...]
    state: State
    facts: Facts


@dataclass(frozen=True, slots=True)
class Sight:
    """One endpoint as the autoscaler sees it."""

    arn: str
    endpoint: Stored | None
    """None: it is gone, or going."""
    targets: tuple[TargetSight, ...]
    orphans: tuple[Target, ...]
    """Targets whose endpoint, or variant, is gone."""
    backlog: int


@dataclass(frozen=True, slots=True)
class Looking:
    """How to look: what is the same for all endpoints."""

    metrics: Metrics
    on_arrival: bool


def look(connection: Connection, looking: Looking, arn: str, now: float) -> Sight:
    """Everything of one endpoint (an ARN), read in the caller's transaction; metrics as far as they were flushed."""
    row = resources.get_by_arn(connection, arn)
    endpoint = stored(row) if row is not None and row.status != DELETING else None
    found = scaling.targets_of(connection, arn)
    if endpoint is None or row is None:
        return Sight(arn, None, (), tuple(found), 0)
    queue = jobs.queue_of(connection, arn, row.created)
    backlog = queue.backlog if queue is not None else 0
    goals = {goal.variant for goal in endpoint.target[1]}
    alive, orphans = [], []
    for target in found:
        if target.incarnation != row.created or target.variant not in goals:
            orphans.append(target)
        else:
            alive.append(_target(connection, looking, endpoint, target, backlog, now))
    return Sight(arn, endpoint, tuple(alive), tuple(orphans), backlog)


def _target(
    connection: Connection, looking: Looking, endpoint: Stored, target: Target, backlog: int, now: float
) -> TargetSight:
    judged = tuple(
        _judged(connection, looking, endpoint, policy, now) for policy in scaling.policies_of(connection, target.place)
    )
    state = msgspec.convert(target.state, State)
    row = endpoint.row
    made, goals = target_of(endpoint.asked, endpoint.wanted, endpoint.reached, row.generation)
    abandoned = row.status == IN_SERVICE and endpoint.reached.abandoned == row.generation
    desired = next(goal.count for goal in goals if goal.variant == target.variant)
    facts = Facts(
        now=now,
        scale=looking.metrics.time_scale,
        status=row.status,
        generation=row.generation,
        desired=desired,
        minimum=target.minimum,
        maximum=target.maximum,
        failure=row.reason if abandoned or row.status != IN_SERVICE else "",
        asynchronous=made.asynchronous is not None,
        suspended_in=target.suspended.get("DynamicScalingInSuspended", False),
        suspended_out=target.suspended.get("DynamicScalingOutSuspended", False),
        tracking=tuple(each.rule for each in judged if isinstance(each.rule, Tracking)),
        alarming=tuple(alarming for each in judged for alarming in _alarming(each)),
        backlog=backlog,
        steady_backlog=0.0 if looking.on_arrival else _steady(connection, looking.metrics, endpoint, now),
        on_arrival=looking.on_arrival,
    )
    return TargetSight(target, judged, tuple(scaling.actions_of(connection, target.place)), state, facts)


def _alarming(judged: Judged) -> list[Alarming]:
    found = []
    for alarm in judged.alarms:
        if alarm.state == ALARM and judged.policy.arn in alarm.actions(ALARM):
            firing = Firing(
                judged.rule,
                judged.side(alarm),
                alarm.name,
                watched(alarm.spec).shown,
                alarm.condition.threshold,
                judged.values[alarm.name].value,
                judged.values[alarm.name].until,
            )
            found.append(Alarming(firing, alarm.transitioned))
    return found


def _judged(connection: Connection, looking: Looking, endpoint: Stored, policy: Policy, now: float) -> Judged:
    acting = tuple(alarms.by_action(connection, policy.arn))
    statistic = policy.config.get("MetricAggregationType", "Average") if policy.kind == "StepScaling" else None
    values = {alarm.name: _newest(connection, looking.metrics, alarm, statistic, now) for alarm in acting}
    return Judged(policy, rule_of(policy.name, policy.kind, policy.config, endpoint.row.name), acting, values)


def rule_of(name: str, kind: str, config: Mapping[str, Any], endpoint: str) -> Tracking | Stepping:
    """A policy's configuration, in AWS's members, as the decisions know it."""
    if kind == "StepScaling":
        return Stepping(
            name,
            config["AdjustmentType"],
            tuple(
                Step(s["ScalingAdjustment"], s.get("MetricIntervalLowerBound"), s.get("MetricIntervalUpperBound"))
                for s in config["StepAdjustments"]
            ),
            float(config.get("Cooldown", DEFAULT_COOLDOWN)),
            config.get("MinAdjustmentMagnitude", 0),
        )
    return Tracking(
        name,
        float(config["TargetValue"]),
        float(config.get("ScaleOutCooldown", DEFAULT_COOLDOWN)),
        float(config.get("ScaleInCooldown", DEFAULT_COOLDOWN)),
        bool(config.get("DisableScaleIn", False)),
        is_backlog_per_instance(config, endpoint),
    )


def _newest(connection: Connection, metrics: Metrics, alarm: Alarm, statistic: str | None, now: float) -> Newest:
    """The value to go by: the newest complete datapoint of the metric, or the one of the alarm's own reason.

    The reason's is taken where it was written after that datapoint was complete (by an evaluation, or SetAlarmState), and
    where there is no other. `statistic`: of a step policy, where it is another than the alarm's.
    """
    width = alarm.condition.period / metrics.time_scale
    told = Newest(_told(alarm), alarm.state_updated)
    seen = watched(alarm.spec)
    if "Metrics" in alarm.spec or seen.name is None:
        return _computed(connection, metrics, alarm, now) or told
    end = metrics.floor(now, alarm.condition.period)
    query = _query(alarm.account, alarm.region, seen, end - RECENT_PERIODS * width, end, alarm.condition.period)
    points = metrics.read(connection, query)
    if not points:
        return told
    wanted = statistic if statistic is not None and not (seen.statistic or "").startswith("p") else seen.statistic
    if told.value is not None and alarm.state_updated >= points[-1].start + width and wanted == seen.statistic:
        return told
    return Newest(statistic_of(points[-1].statistics, wanted or "Average"), points[-1].start + width)


def statistic_of(statistics: Statistics, name: str) -> float | None:
    """`Average`, `Sum`, …, a percentile (`p99`); None for what slipway does not compute."""
    try:
        return reader(name)(statistics)
    except BadStatistic:
        return None


def _computed(connection: Connection, metrics: Metrics, alarm: Alarm, now: float) -> Newest | None:
    """The newest value of an alarm's metric math."""
    try:
        asks = metrics_queries.checked(alarm.account, alarm.region, alarm.spec.get("Metrics") or ())
        wanted = next(ask.id for ask in asks if ask.returned)
        width = alarm.condition.period / metrics.time_scale
        end = metrics.floor(now, alarm.condition.period)
        spans = {ask.period: (end - RECENT_PERIODS * width, end) for ask in asks}
        series = metrics_queries.evaluate(connection, metrics, asks, [wanted], spans)[wanted]
    except (BadQuery, MathError, ArithmeticError, StopIteration):
        return None
    points = series[0].points if len(series) == 1 else {}
    return Newest(points[max(points)], max(points) + width) if points else None


def _query(account: str, region: str, seen: Watched, start: float, end: float, period: int) -> Query:
    wanted = metric(account, region, seen.namespace, seen.name or "", dict(seen.dimensions))
    return Query(wanted, start, end, period, seen.unit)


def _told(alarm: Alarm) -> float | None:
    """The newest datapoint in StateReasonData, which SetAlarmState may have filled with anything."""
    try:
        data = msgspec.json.decode(alarm.reason_data or "null")
    except msgspec.DecodeError:
        return None
    points = data.get("recentDatapoints") if isinstance(data, dict) else None
    last = points[-1] if isinstance(points, list) and points else None
    return float(last) if isinstance(last, int | float) and not isinstance(last, bool) else None


def _steady(connection: Connection, metrics: Metrics, endpoint: Stored, now: float) -> float:
    """The least ApproximateBacklogSize of the last three periods; 0 where one of them has none."""
    row, width = endpoint.row, 60 / metrics.time_scale
    end = metrics.floor(now, 60)
    name = metric(row.account, row.region, "AWS/SageMaker", "ApproximateBacklogSize", {"EndpointName": row.name})
    points = metrics.read(connection, Query(name, end - STEADY_PERIODS * width, end, 60))
    return min(p.statistics.average for p in points) if len(points) >= STEADY_PERIODS else 0.0


def forget(connection: Connection, target: Target, now: float) -> None:
    """Deregister a target: its policies with the alarms made for them, its scheduled actions, and what was in progress."""
    for policy in scaling.policies_of(connection, target.place):
        for alarm in policy.alarms:
            alarms.delete(connection, policy.account, policy.region, alarm["AlarmName"], now)
    state = msgspec.convert(target.state, State)
    if state.following is not None:
        message = "The scalable target was deregistered, or its endpoint deleted, before the change was complete."
        scaling_activities.finish(connection, state.following.activity, OVERRIDDEN, message, now)
    scaling.remove_target(connection, target)


def zone_of(name: str) -> tzinfo | None:
    """A time zone by its IANA name; None for one that this machine does not know."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
