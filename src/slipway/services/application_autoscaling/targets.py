"""RegisterScalableTarget, DescribeScalableTargets, DeregisterScalableTarget.

The API takes a MinCapacity of 0 for every variant, as AWS's does; that a real-time variant keeps one instance all the same is
the autoscaler's (`core.scaling_turn.limits`), and `slipway scaling explain` says so.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from slipway.backing.scaling import forget
from slipway.core.endpoints import DELETING
from slipway.names import arn, partition
from slipway.services import Context
from slipway.services.application_autoscaling import places
from slipway.services.application_autoscaling.tags import checked
from slipway.store import resources, scaling
from slipway.store.db import Connection
from slipway.store.endpoints import stored
from slipway.store.resources import Resource
from slipway.store.scaling import Listing, Place, Target
from slipway.wire.errors import validation_exception

PAGE = 50
SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


async def register_scalable_target(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """An upsert: what is not given stays. The autoscaler is woken, and moves a capacity outside the range into it."""
    place = places.place_of(ctx, request)
    tags = checked(request.get("Tags") or {})
    now = ctx.world.now()

    def write(connection: Connection) -> Target:
        row = _endpoint(connection, place)
        old = scaling.target(connection, place)
        if old is not None and old.incarnation != row.created:
            forget(connection, old, now)
            old = None
        if old is None:
            places.limited(ctx, scaling.count_targets(connection, ctx.account, ctx.region), places.TARGETS, "scalable targets")
            old = _new(ctx, place, row, now)
            minimum, maximum = request.get("MinCapacity"), request.get("MaxCapacity")
            if minimum is None or maximum is None:
                raise validation_exception("MinCapacity and MaxCapacity are required to register a scalable target.")
            resources.set_tags(connection, old.arn, tags)
        elif tags:
            raise validation_exception("Tags are for new scalable targets: use TagResource to tag one that is registered.")
        new = replace(
            old,
            minimum=request.get("MinCapacity", old.minimum),
            maximum=request.get("MaxCapacity", old.maximum),
            suspended=old.suspended | (request.get("SuspendedState") or {}),
        )
        check_range(new.minimum, new.maximum)
        scaling.put_target(connection, new)
        return new

    target = await ctx.world.db.write(write)
    ctx.world.wake("scaling", target.endpoint)
    return {"ScalableTargetARN": target.arn}


def check_range(minimum: int | None, maximum: int | None) -> None:
    for value, name in ((minimum, "Minimum"), (maximum, "Maximum")):
        if value is not None and not 0 <= value <= 2**31 - 1:
            raise validation_exception(f"{name} capacity must be greater than or equal to 0")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise validation_exception("Maximum capacity cannot be less than minimum capacity")


def _endpoint(connection: Connection, place: Place) -> Resource:
    """The endpoint's row; its name, and the variant's, must be those of the resource id, letter by letter."""
    endpoint, variant = places.names_of(place)
    row = resources.get_by_arn(connection, places.endpoint_arn(place))
    if row is None or row.status == DELETING:
        raise validation_exception(f"SageMaker endpoint doesn't exist: {place.resource_id}")
    if row.name != endpoint:
        raise validation_exception(f"SageMaker endpoint doesn't exist: {place.resource_id} (its name is written {row.name})")
    if variant not in {goal.variant for goal in stored(row).target[1]}:
        raise validation_exception(f"SageMaker variant doesn't exist: {place.resource_id}")
    return row


def _new(ctx: Context, place: Place, row: Resource, now: float) -> Target:
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    path = f"role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/{name}"
    return Target(
        *place,
        arn=arn("application-autoscaling", ctx.region, ctx.account, f"scalable-target/{secrets.token_hex(17)}"),
        endpoint=row.arn,
        incarnation=row.created,
        variant=places.names_of(place)[1],
        minimum=0,
        maximum=0,
        role=f"arn:{partition(ctx.region)}:iam::{ctx.account}:{path}",
        suspended=dict.fromkeys(SUSPENDED, False),
        created=now,
    )


async def describe_scalable_targets(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    places.needs_resource(request, "ResourceIds")
    limit = places.page_size(request, PAGE)
    if request["ServiceNamespace"] != places.NAMESPACE:
        return {"ScalableTargets": []}
    listing = Listing(
        ctx.account,
        ctx.region,
        tuple(request.get("ResourceIds") or ()),
        request.get("ScalableDimension"),
        limit=limit,
        token=request.get("NextToken"),
    )
    rows, more = await places.paged(ctx, lambda c: scaling.find_targets(c, listing))
    return {"ScalableTargets": [_shown(row) for row in rows], **more}


def _shown(target: Target) -> dict[str, Any]:
    return {
        **places.shown(target.place),
        "MinCapacity": target.minimum,
        "MaxCapacity": target.maximum,
        "RoleARN": target.role,
        "CreationTime": places.moment(target.created),
        "SuspendedState": {name: target.suspended.get(name, False) for name in SUSPENDED},
        "ScalableTargetARN": target.arn,
    }


async def deregister_scalable_target(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Its policies, their alarms and its scheduled actions go with it; the capacity stays as it is."""
    place, now = places.place_of(ctx, request), ctx.world.now()
    await ctx.world.db.write(lambda c: forget(c, places.registered(c, place, "found"), now))
    return {}
