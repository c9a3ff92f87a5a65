"""DescribeScalingActivities: what was scaled, and with IncludeNotScaledActivities what was not, newest first."""

from __future__ import annotations

from typing import Any

from slipway.services import Context
from slipway.services.application_autoscaling import places
from slipway.store import scaling_activities
from slipway.store.scaling_activities import KEPT_SECONDS, NOT_SCALED, SCALED, Activity, Listing

PAGE = 50


async def describe_scaling_activities(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Of the last six weeks, of deregistered targets too."""
    places.needs_resource(request, "ResourceId")
    limit = places.page_size(request, PAGE)
    if request["ServiceNamespace"] != places.NAMESPACE:
        return {"ScalingActivities": []}
    listing = Listing(
        ctx.account,
        ctx.region,
        request.get("ResourceId"),
        request.get("ScalableDimension"),
        (SCALED, NOT_SCALED) if request.get("IncludeNotScaledActivities") else (SCALED,),
        ctx.world.now() - KEPT_SECONDS,
        limit,
        request.get("NextToken"),
    )
    rows, more = await places.paged(ctx, lambda c: scaling_activities.find(c, listing))
    return {"ScalingActivities": [shown(row) for row in rows], **more}


def shown(activity: Activity) -> dict[str, Any]:
    """As AWS shows it; Details tells what the decision went by."""
    found: dict[str, Any] = {
        "ActivityId": activity.id,
        "ServiceNamespace": places.NAMESPACE,
        "ResourceId": activity.resource_id,
        "ScalableDimension": activity.dimension,
        "Description": activity.description,
        "Cause": activity.cause,
        "StartTime": places.moment(activity.started),
        "StatusCode": activity.status,
    }
    if activity.ended is not None:
        found["EndTime"] = places.moment(activity.ended)
    if activity.message:
        found["StatusMessage"] = activity.message
    if why := activity.decision.get("why"):
        found["Details"] = why
    if activity.reasons:
        found["NotScaledReasons"] = activity.reasons
    return found
