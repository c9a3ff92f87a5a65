"""TagResource, UntagResource, ListTagsForResource: of scalable targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.services import Context
from slipway.store import resources, scaling
from slipway.store.db import Connection
from slipway.wire.errors import AwsError, validation_exception

MAX_TAGS = 50


def checked(tags: Mapping[str, str]) -> dict[str, str]:
    """Raises ValidationException for reserved keys, TooManyTagsException for too many."""
    for key in tags:
        if key.lower().startswith("aws:"):
            raise validation_exception(f'Tag keys that start with "aws:" are reserved for system use: "{key}".')
    if len(tags) > MAX_TAGS:
        raise AwsError("TooManyTagsException", f"A resource can have at most {MAX_TAGS} tags.")
    return dict(tags)


async def tag_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    tags, arn = checked(request["Tags"]), request["ResourceARN"]

    def write(connection: Connection) -> None:
        _check_there(connection, ctx, arn)
        if len(resources.tags_of(connection, arn) | tags) > MAX_TAGS:
            raise AwsError("TooManyTagsException", f"A resource can have at most {MAX_TAGS} tags.", ResourceName=arn)
        resources.set_tags(connection, arn, tags)

    await ctx.world.db.write(write)
    return {}


async def untag_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Keys that are not there do not matter."""

    def write(connection: Connection) -> None:
        _check_there(connection, ctx, request["ResourceARN"])
        resources.remove_tags(connection, request["ResourceARN"], request["TagKeys"])

    await ctx.world.db.write(write)
    return {}


async def list_tags_for_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    def read(connection: Connection) -> dict[str, str]:
        _check_there(connection, ctx, request["ResourceARN"])
        return resources.tags_of(connection, request["ResourceARN"])

    return {"Tags": await ctx.world.db.read(read)}


def _check_there(connection: Connection, ctx: Context, arn: str) -> None:
    target = scaling.target_by_arn(connection, arn)
    if target is None or (target.account, target.region) != (ctx.account, ctx.region):
        raise AwsError("ResourceNotFoundException", f"The resource {arn} could not be found.", ResourceName=arn)
