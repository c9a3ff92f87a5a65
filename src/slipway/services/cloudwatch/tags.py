"""TagResource, UntagResource, ListTagsForResource: of alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.services import Context
from slipway.services.cloudwatch.errors import bad_value
from slipway.store import alarms, resources
from slipway.store.db import Connection
from slipway.wire.errors import AwsError

TAGS = 50


def checked_tags(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    tags = {tag["Key"]: tag["Value"] for tag in given}
    if len(tags) > TAGS:
        raise bad_value(f"A resource can have at most {TAGS} tags.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise bad_value("Tag keys that begin with aws: are reserved.")
    return tags


async def tag_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    tags = checked_tags(request["Tags"])

    def write(connection: Connection) -> None:
        arn = _existing(connection, ctx, request["ResourceARN"])
        if len(resources.tags_of(connection, arn) | tags) > TAGS:
            raise bad_value(f"A resource can have at most {TAGS} tags.")
        if tags:
            resources.set_tags(connection, arn, tags)

    await ctx.world.db.write(write)
    return {}


async def untag_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    def write(connection: Connection) -> None:
        resources.remove_tags(connection, _existing(connection, ctx, request["ResourceARN"]), request["TagKeys"])

    await ctx.world.db.write(write)
    return {}


async def list_tags_for_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    tags = await ctx.world.db.read(lambda c: resources.tags_of(c, _existing(c, ctx, request["ResourceARN"])))
    return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}


def _existing(connection: Connection, ctx: Context, arn: str) -> str:
    """The alarm's ARN; one of another account or region is not found."""
    alarm = alarms.by_arn(connection, arn)
    if alarm is None or (alarm.account, alarm.region) != (ctx.account, ctx.region):
        raise AwsError("ResourceNotFoundException", f"Could not find resource {arn}")
    return arn
