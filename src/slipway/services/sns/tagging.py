"""Tags of topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slipway.services import Context
from slipway.services.sns.addresses import invalid, topic_arn
from slipway.store import resources, topics
from slipway.store.db import Connection
from slipway.wire.errors import AwsError

TAGS = 50
_KEY_LENGTH = 128
_VALUE_LENGTH = 256


async def tag_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = topic_arn(ctx, request["ResourceArn"], "TagResource", "ResourceArn")
    tags = checked_tags(request["Tags"])

    def write(connection: Connection) -> None:
        _existing(connection, arn)
        if len({*resources.tags_of(connection, arn), *tags}) > TAGS:
            raise _too_many()
        resources.set_tags(connection, arn, tags)

    await ctx.world.db.write(write)
    return {}


async def untag_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = topic_arn(ctx, request["ResourceArn"], "UntagResource", "ResourceArn")

    def write(connection: Connection) -> None:
        _existing(connection, arn)
        resources.remove_tags(connection, arn, request["TagKeys"])

    await ctx.world.db.write(write)
    return {}


async def list_tags_for_resource(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = topic_arn(ctx, request["ResourceArn"], "ListTagsForResource", "ResourceArn")

    def read(connection: Connection) -> dict[str, str]:
        _existing(connection, arn)
        return resources.tags_of(connection, arn)

    tags = await ctx.world.db.read(read)
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def checked_tags(given: Sequence[dict[str, str]]) -> dict[str, str]:
    """By key; AwsError for what AWS does not take."""
    tags = {tag["Key"]: tag["Value"] for tag in given}
    if len(tags) < len(given):
        raise invalid("Duplicated keys are not allowed.")
    if len(tags) > TAGS:
        raise _too_many()
    for key, value in tags.items():
        if not 1 <= len(key) <= _KEY_LENGTH or len(value) > _VALUE_LENGTH or key.lower().startswith("aws:"):
            raise invalid("Tags")
    return tags


def _existing(connection: Connection, arn: str) -> None:
    if topics.get(connection, arn) is None:
        raise AwsError("ResourceNotFound", "Resource does not exist", status=404)


def _too_many() -> AwsError:
    return AwsError("TagLimitExceeded", "Could not complete request: tag quota of per resource exceeded", status=400)
