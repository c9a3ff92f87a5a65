"""`GET /_slipway/scaling` and `/_slipway/scaling/ENDPOINT`: what the autoscaler sees, decided, would do next, and why nothing.

The same reading (`backing.scaling`) and the same decision (`core.scaling`) as the autoscaler's own, at the moment of the call.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from slipway.backing.metrics import Metrics, Query
from slipway.backing.scaling import Judged, Looking, Sight, TargetSight, look, statistic_of
from slipway.core.alarms import ALARM, Alarm
from slipway.core.scaling import Stepping, decide
from slipway.core.scaling_doubts import Readings, of_policy, of_target
from slipway.core.scaling_metrics import watched
from slipway.core.scaling_turn import limits, view_of
from slipway.http.messages import Request, Response
from slipway.names import sagemaker_arn
from slipway.services import World
from slipway.services.authenticate import Caller
from slipway.services.slipway import Auth, OwnRoute, json_response
from slipway.store import scaling, scaling_activities
from slipway.store.db import Connection
from slipway.store.metrics import metric
from slipway.store.scaling_activities import NOT_SCALED, NOTE, SCALED, Activity

HISTORY = 50
"""Activities and notes that an explanation ends with, newest first."""
EVER_SECONDS = 14 * 86_400.0


async def listed(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """The caller's scalable targets in its region, each in a line."""
    if caller is None:
        return json_response(403, {"message": "not signed"})
    await world.metrics.flush()
    now = world.now()

    def read(connection: Connection) -> list[dict[str, Any]]:
        rows, _ = scaling.find_targets(connection, scaling.Listing(caller.account, caller.region, limit=1000))
        sights = {arn: look(connection, _looking(world), arn, now) for arn in dict.fromkeys(row.endpoint for row in rows)}
        return [_line(sight, target) for sight in sights.values() for target in sight.targets]

    return json_response(200, {"targets": await world.db.read(read)})


async def explained(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """Everything of one endpoint's scaling; 404 for an endpoint that is not there."""
    if caller is None:
        return json_response(403, {"message": "not signed"})
    name = match["endpoint"].decode()
    await world.metrics.flush()
    now = world.now()
    arn = sagemaker_arn(caller.region, caller.account, "endpoint", name)

    def read(connection: Connection) -> dict[str, Any] | None:
        sight = look(connection, _looking(world), arn, now)
        return None if sight.endpoint is None else _explanation(connection, world.metrics, sight, now)

    found = await world.db.read(read)
    if found is None:
        return json_response(404, {"code": "NotFound", "message": f"Could not find endpoint {name}."})
    return json_response(200, found)


def _looking(world: World) -> Looking:
    return Looking(world.metrics, world.settings.scale_from_zero == "arrival")


def _line(sight: Sight, target: TargetSight) -> dict[str, Any]:
    minimum, maximum = limits(target.facts)
    return {
        "endpoint": sight.endpoint.row.name if sight.endpoint is not None else "",
        "variant": target.target.variant,
        "status": target.facts.status,
        "capacity": target.facts.desired,
        "minimum": minimum,
        "maximum": maximum,
        "backlog": sight.backlog,
        "policies": [each.policy.name for each in target.policies],
        "next": _next(target)["why"],
    }


def _explanation(connection: Connection, metrics: Metrics, sight: Sight, now: float) -> dict[str, Any]:
    endpoint = sight.endpoint
    if endpoint is None:
        return {}
    doubts = [] if sight.targets else ["no scalable target is registered for it: RegisterScalableTarget begins all scaling"]
    return {
        "endpoint": endpoint.row.name,
        "status": endpoint.row.status,
        "asynchronous": endpoint.target[0].asynchronous is not None,
        "backlog": sight.backlog,
        "time_scale": metrics.time_scale,
        "at": now,
        "doubts": doubts,
        "targets": [_target(connection, metrics, sight, target, now) for target in sight.targets],
    }


def _target(connection: Connection, metrics: Metrics, sight: Sight, seen: TargetSight, now: float) -> dict[str, Any]:
    target, facts, state = seen.target, seen.facts, seen.state
    minimum, maximum = limits(facts)
    suspended = target.suspended.get("ScheduledScalingSuspended", False)
    listing = scaling_activities.Listing(
        target.account, target.region, target.resource_id, target.dimension, (SCALED, NOT_SCALED, NOTE), limit=HISTORY
    )
    return {
        "resource_id": target.resource_id,
        "variant": target.variant,
        "minimum": minimum,
        "maximum": maximum,
        "capacity": facts.desired,
        "suspended": target.suspended,
        "following": None if state.following is None else msgspec.to_builtins(state.following.decision),
        "scale_in_cooldown_left": _left(None if state.scale_in is None else state.scale_in.until(facts.scale), now),
        "failures": state.failures,
        "next": _next(seen),
        "doubts": of_target(facts, len(seen.policies), suspended, len(seen.actions)),
        "policies": [_policy(connection, metrics, sight, seen, each, now) for each in seen.policies],
        "scheduled_actions": [
            {
                "name": action.name,
                "schedule": action.schedule,
                "timezone": action.timezone,
                "minimum": action.minimum,
                "maximum": action.maximum,
                "due": action.due,
            }
            for action in seen.actions
        ],
        "history": [_past(activity) for activity in scaling_activities.find(connection, listing)[0]],
    }


def _next(seen: TargetSight) -> dict[str, Any]:
    """What the autoscaler would decide now, were every alarm due."""
    state, facts = seen.state, seen.facts
    if state.following is not None:
        decision = state.following.decision
        why = f"waits until the endpoint has {decision.desired} instances (it is {facts.status}); asked for: {decision.cause}"
        return {"desired": decision.desired, "why": why}
    if facts.now < state.retry_at:
        why = f"the last change failed ({state.failures} in a row); the next attempt is in {state.retry_at - facts.now:.0f} s"
        return {"desired": facts.desired, "why": why}
    decision = decide(view_of(state, facts, all_alarms=True))
    why = decision.why
    if facts.status != "InService" and decision.scales:
        why = f"{why}; postponed while the endpoint is {facts.status}"
    return {**msgspec.to_builtins(decision), "why": why}


def _policy(
    connection: Connection, metrics: Metrics, sight: Sight, seen: TargetSight, judged: Judged, now: float
) -> dict[str, Any]:
    policy, rule, endpoint = judged.policy, judged.rule, sight.endpoint
    readings = {alarm.name: _readings(connection, metrics, alarm, now) for alarm in judged.alarms}
    window = seen.state.out.get(policy.name)
    variants = [goal.variant for goal in endpoint.target[1]] if endpoint is not None else []
    made = [alarm["AlarmName"] for alarm in policy.alarms]
    name = endpoint.row.name if endpoint is not None else ""
    shown: dict[str, Any] = {"steps": rule.adjustment} if isinstance(rule, Stepping) else {"target": rule.target}
    return {
        "name": policy.name,
        "type": policy.kind,
        **shown,
        "alarms": [_alarm(judged, alarm, readings[alarm.name]) for alarm in judged.alarms],
        "scale_out_cooldown_left": _left(None if window is None else window.until(seen.facts.scale), now),
        "doubts": of_policy(rule, policy.arn, judged.alarms, made, readings, seen.facts, name, variants),
    }


def _alarm(judged: Judged, alarm: Alarm, readings: Readings) -> dict[str, Any]:
    condition = alarm.condition
    return {
        "name": alarm.name,
        "side": judged.side(alarm),
        "state": alarm.state,
        "since": alarm.transitioned,
        "reason": alarm.reason,
        "metric": watched(alarm.spec).shown,
        "comparison": condition.comparison,
        "threshold": condition.threshold,
        "value": judged.values[alarm.name].value,
        "period": condition.period,
        "periods": condition.evaluation_periods,
        "datapoints": list(readings.values),
        "missing": readings.missing,
        "acts": judged.policy.arn in alarm.actions(ALARM),
    }


def _readings(connection: Connection, metrics: Metrics, alarm: Alarm, now: float) -> Readings:
    """The values of the alarm's last evaluation range; of an expression those that it last told of."""
    seen, condition = watched(alarm.spec), alarm.condition
    if seen.name is None:
        return Readings((), ever=True)
    width = condition.period / metrics.time_scale
    end = metrics.floor(now, condition.period)
    start = end - condition.evaluation_periods * width
    name = metric(alarm.account, alarm.region, seen.namespace, seen.name, dict(seen.dimensions))
    points = metrics.read(connection, Query(name, start, end, condition.period, seen.unit))
    values: list[float | None] = [None] * condition.evaluation_periods
    for point in points:
        index = round((point.start - start) / width)
        if 0 <= index < len(values):
            values[index] = statistic_of(point.statistics, seen.statistic or "Average")
    ever = bool(points) or bool(
        metrics.read(connection, Query(name, metrics.floor(now - EVER_SECONDS, 86_400), now, 86_400, seen.unit))
    )
    return Readings(tuple(values), ever)


def _left(until: float | None, now: float) -> float:
    return 0.0 if until is None else max(0.0, until - now)


def _past(activity: Activity) -> dict[str, Any]:
    decision = activity.decision
    return {
        "at": activity.started,
        "until": activity.ended,
        "kind": activity.kind,
        "from": decision.get("capacity"),
        "to": decision.get("desired"),
        "status": activity.status,
        "cause": activity.cause,
        "why": decision.get("why", ""),
        "message": activity.message,
        "code": decision.get("code", ""),
        "repeated": activity.repeated,
    }


ROUTES = (
    OwnRoute("GET", re.compile(rb"/_slipway/scaling"), Auth.SIGNATURE, listed),
    OwnRoute("GET", re.compile(rb"/_slipway/scaling/(?P<endpoint>[a-zA-Z0-9-]{1,63})"), Auth.SIGNATURE, explained),
)
