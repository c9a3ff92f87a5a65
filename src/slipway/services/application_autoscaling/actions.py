"""PutScheduledAction, DescribeScheduledActions, DeleteScheduledAction: a range that is set at a time (hosting.md 6.1)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from slipway.backing.scaling import zone_of
from slipway.core.schedules import BadSchedule, next_due, parse
from slipway.names import arn
from slipway.services import Context
from slipway.services.application_autoscaling import places
from slipway.services.application_autoscaling.targets import check_range
from slipway.store import scaling
from slipway.store.db import Connection
from slipway.store.scaling import Action, Listing, Place
from slipway.wire.errors import AwsError, validation_exception

PAGE = 50


async def put_scheduled_action(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """An upsert by name: of an action that is there, what is not given stays."""
    place, name = places.place_of(ctx, request), request["ScheduledActionName"]

    def write(connection: Connection) -> str:
        target = places.registered(connection, place)
        old = scaling.action(connection, place, name)
        if old is None:
            count = len(scaling.actions_of(connection, place))
            places.limited(ctx, count, places.ACTIONS, "scheduled actions per scalable target")
        scaling.put_action(connection, _action(ctx, place, name, request, old))
        return target.endpoint

    ctx.world.wake("scaling", await ctx.world.db.write(write))
    return {}


def _action(ctx: Context, place: Place, name: str, request: Mapping[str, Any], old: Action | None) -> Action:
    schedule = request.get("Schedule") or (old.schedule if old else None)
    if schedule is None:
        raise validation_exception("Schedule is required when a scheduled action is created.")
    given = request.get("ScalableTargetAction")
    if given is None and old is None:
        raise validation_exception("ScalableTargetAction is required when a scheduled action is created.")
    given = {"MinCapacity": old.minimum, "MaxCapacity": old.maximum} if given is None and old else given or {}
    minimum, maximum = given.get("MinCapacity"), given.get("MaxCapacity")
    if minimum is None and maximum is None:
        raise validation_exception("ScalableTargetAction must have a MinCapacity, a MaxCapacity, or both.")
    check_range(minimum, maximum)
    timezone = request.get("Timezone") or (old.timezone if old else "UTC")
    start = _seconds(request.get("StartTime")) if "StartTime" in request else (old.start if old else None)
    end = _seconds(request.get("EndTime")) if "EndTime" in request else (old.end if old else None)
    created = old.created if old else ctx.world.now()
    made = f"scheduledAction:{uuid.uuid4()}:resource/sagemaker/{place.resource_id}:scheduledActionName/{name}"
    return Action(
        *place,
        name=name,
        arn=old.arn if old else arn("autoscaling", ctx.region, ctx.account, made),
        schedule=schedule,
        timezone=timezone,
        start=start,
        end=end,
        minimum=minimum,
        maximum=maximum,
        created=created,
        due=_due(ctx, schedule, timezone, start, end, created),
    )


def _due(ctx: Context, schedule: str, timezone: str, start: float | None, end: float | None, created: float) -> float:
    """When it acts first. Raises ValidationException for a schedule that never does."""
    zone = zone_of(timezone)
    if zone is None:
        raise validation_exception(f"The time zone {timezone!r} is not one that this machine knows: IANA names are taken.")
    if start is not None and end is not None and start >= end:
        raise validation_exception("The end time of a scheduled action must be later than its start time.")
    try:
        parsed = parse(schedule)
    except BadSchedule as error:
        raise validation_exception(f"Invalid schedule expression: {error}") from None
    scale = ctx.world.settings.time_scale
    due = next_due(parsed, zone, max(created, start or 0.0), ctx.world.now(), scale=scale)
    if due is None or (end is not None and due > end):
        raise validation_exception(f"The schedule {schedule} has no time left in the future.")
    return due


def _seconds(value: datetime | float | None) -> float | None:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return value


async def describe_scheduled_actions(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    places.needs_resource(request, "ResourceId")
    limit = places.page_size(request, PAGE)
    if request["ServiceNamespace"] != places.NAMESPACE:
        return {"ScheduledActions": []}
    listing = Listing(
        ctx.account,
        ctx.region,
        (request["ResourceId"],) if request.get("ResourceId") else (),
        request.get("ScalableDimension"),
        tuple(request.get("ScheduledActionNames") or ()),
        limit,
        request.get("NextToken"),
    )
    rows, more = await places.paged(ctx, lambda c: scaling.find_actions(c, listing))
    return {"ScheduledActions": [_shown(row) for row in rows], **more}


def _shown(action: Action) -> dict[str, Any]:
    bounds = {"MinCapacity": action.minimum, "MaxCapacity": action.maximum}
    shown: dict[str, Any] = {
        **places.shown(action.place),
        "ScheduledActionName": action.name,
        "ScheduledActionARN": action.arn,
        "Schedule": action.schedule,
        "Timezone": action.timezone,
        "ScalableTargetAction": {name: value for name, value in bounds.items() if value is not None},
        "CreationTime": places.moment(action.created),
    }
    for name, value in (("StartTime", action.start), ("EndTime", action.end)):
        if value is not None:
            shown[name] = places.moment(value)
    return shown


async def delete_scheduled_action(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    place, name = places.place_of(ctx, request), request["ScheduledActionName"]

    def write(connection: Connection) -> None:
        if places.live_target(connection, place) is None or scaling.action(connection, place, name) is None:
            raise AwsError(
                "ObjectNotFoundException",
                f"No scheduled action found for {places.where(place)}, scheduled action name: {name}",
            )
        scaling.remove_action(connection, place, name)

    await ctx.world.db.write(write)
    return {}
