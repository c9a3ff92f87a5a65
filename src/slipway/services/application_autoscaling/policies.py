"""PutScalingPolicy, DescribeScalingPolicies, DeleteScalingPolicy: target tracking with its two alarms, and step scaling."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from slipway.backing import metrics_queries
from slipway.backing.metrics_queries import BadQuery
from slipway.core.alarms import Alarm
from slipway.core.scaling_metrics import alarm_specs
from slipway.names import arn
from slipway.services import Context
from slipway.services.application_autoscaling import places
from slipway.services.application_autoscaling.policy_rules import STEP, TRACKING, checked_configuration, same_metric
from slipway.store import alarms, scaling
from slipway.store.db import Connection
from slipway.store.scaling import Listing, Place, Policy, Target
from slipway.wire.errors import AwsError, validation_exception

PAGE = 10
CONFIGURATION = {TRACKING: "TargetTrackingScalingPolicyConfiguration", STEP: "StepScalingPolicyConfiguration"}


async def put_scaling_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """An upsert by name. Target tracking makes (or changes) its alarms in the same transaction; step scaling makes none."""
    place, name, now = places.place_of(ctx, request), request["PolicyName"], ctx.world.now()

    def write(connection: Connection) -> tuple[Target, Policy]:
        target = places.registered(connection, place)
        others = [policy for policy in scaling.policies_of(connection, place) if policy.name != name]
        old = scaling.policy(connection, place, name)
        if old is None:
            places.limited(ctx, len(others), places.POLICIES, "scaling policies per scalable target")
        kind = request.get("PolicyType") or (old.kind if old is not None else None)
        if kind is None:
            raise validation_exception("PolicyType is required when a scaling policy is created.")
        config = checked_configuration(kind, request, old.config if old is not None and old.kind == kind else None)
        if kind == TRACKING and any(p.kind == TRACKING and same_metric(p.config, config) for p in others):
            raise validation_exception("Only one TargetTrackingScaling policy for a given metric specification is allowed.")
        new = _policy(ctx, place, name, kind, config, old, now)
        _write_alarms(connection, target, new, old, now)
        scaling.put_policy(connection, new)
        return target, new

    target, policy = await ctx.world.db.write(write)
    ctx.world.wake("scaling", target.endpoint)
    for made in policy.alarms:
        ctx.world.wake("alarms", made["AlarmARN"])
    return {"PolicyARN": policy.arn, "Alarms": policy.alarms}


def _policy(ctx: Context, place: Place, name: str, kind: str, config: dict[str, Any], old: Policy | None, now: float) -> Policy:
    if old is None:
        resource = f"scalingPolicy:{uuid.uuid4()}:resource/sagemaker/{place.resource_id}:policyName/{name}"
        policy_arn, created = arn("autoscaling", ctx.region, ctx.account, resource), now
    else:
        policy_arn, created = old.arn, old.created
    made = []
    if kind == TRACKING:
        made = old.alarms if old is not None and old.alarms else [_alarm(ctx, place, side) for side in ("High", "Low")]
    return Policy(*place, name=name, arn=policy_arn, kind=kind, config=config, alarms=made, created=created)


def _alarm(ctx: Context, place: Place, side: str) -> dict[str, str]:
    name = f"TargetTracking-{place.resource_id}-Alarm{side}-{uuid.uuid4()}"
    return {"AlarmName": name, "AlarmARN": arn("cloudwatch", ctx.region, ctx.account, f"alarm:{name}")}


def _write_alarms(connection: Connection, target: Target, new: Policy, old: Policy | None, now: float) -> None:
    """The alarms as the policy wants them; those of an earlier kind of it go."""
    if new.kind != TRACKING:
        _delete_alarms(connection, old, now)
        return
    endpoint, variant = places.names_of(new.place)
    specs = alarm_specs(new.config, new.arn, endpoint, variant)
    if "Metrics" in specs[0]:
        try:
            metrics_queries.checked(target.account, target.region, specs[0]["Metrics"])
        except BadQuery as error:
            raise validation_exception(str(error)) from None
    for made, spec in zip(new.alarms, specs, strict=True):
        alarms.put(connection, Alarm(target.account, target.region, made["AlarmName"], made["AlarmARN"], spec, now))


def _delete_alarms(connection: Connection, policy: Policy | None, now: float) -> None:
    if policy is None:
        return
    for made in policy.alarms:
        alarms.delete(connection, policy.account, policy.region, made["AlarmName"], now)


async def describe_scaling_policies(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """By creation; a step policy's alarms are those that name it."""
    places.needs_resource(request, "ResourceId")
    limit = places.page_size(request, PAGE)
    if request["ServiceNamespace"] != places.NAMESPACE:
        return {"ScalingPolicies": []}
    listing = Listing(
        ctx.account,
        ctx.region,
        (request["ResourceId"],) if request.get("ResourceId") else (),
        request.get("ScalableDimension"),
        tuple(request.get("PolicyNames") or ()),
        limit,
        request.get("NextToken"),
    )

    def read(connection: Connection) -> tuple[list[dict[str, Any]], str | None]:
        rows, token = scaling.find_policies(connection, listing)
        return [_shown(connection, row) for row in rows], token

    found, more = await places.paged(ctx, read)
    return {"ScalingPolicies": found, **more}


def _shown(connection: Connection, policy: Policy) -> dict[str, Any]:
    acting = [{"AlarmName": a.name, "AlarmARN": a.arn} for a in alarms.by_action(connection, policy.arn)]
    return {
        **places.shown(policy.place),
        "PolicyARN": policy.arn,
        "PolicyName": policy.name,
        "PolicyType": policy.kind,
        CONFIGURATION[policy.kind]: policy.config,
        "Alarms": acting,
        "CreationTime": places.moment(policy.created),
    }


async def delete_scaling_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """With the alarms that were made for it; a user's own stay."""
    place, name, now = places.place_of(ctx, request), request["PolicyName"], ctx.world.now()

    def write(connection: Connection) -> str:
        target, policy = places.live_target(connection, place), scaling.policy(connection, place, name)
        if target is None or policy is None:
            raise AwsError("ObjectNotFoundException", f"No scaling policy found for {places.where(place)}, policy name: {name}")
        _delete_alarms(connection, policy, now)
        scaling.remove_policy(connection, place, name)
        return target.endpoint

    ctx.world.wake("scaling", await ctx.world.db.write(write))
    return {}


async def get_predictive_scaling_forecast(ctx: Context, request: Mapping[str, Any]) -> dict[str, Any]:
    """There are no predictive policies to ask."""
    raise validation_exception("PredictiveScaling is not supported for the service namespace sagemaker.")
