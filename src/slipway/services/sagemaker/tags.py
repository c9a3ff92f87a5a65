"""AddTags, ListTags, DeleteTags: of models, endpoint configurations and endpoints."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from slipway.services import Context
from slipway.services.sagemaker.entities import KINDS, MAX_TAGS, checked_tags, not_found
from slipway.store import resources
from slipway.store.db import Connection
from slipway.wire.errors import validation_exception

PAGE = 50


async def add_tags(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Overwrites equal keys; answers with all tags of the resource."""
    tags = checked_tags(request["Tags"])

    def write(connection: Connection) -> dict[str, str]:
        arn = _existing(connection, ctx, request["ResourceArn"])
        after = resources.tags_of(connection, arn) | tags
        if len(after) > MAX_TAGS:
            raise validation_exception(f"A resource can have at most {MAX_TAGS} tags: with these it would have {len(after)}.")
        resources.set_tags(connection, arn, tags)
        return after

    return {"Tags": _listed(await ctx.world.db.write(write))}


async def list_tags(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """In the order of the keys; pages of 50."""
    tags = await ctx.world.db.read(lambda c: resources.tags_of(c, _existing(c, ctx, request["ResourceArn"])))
    after = _after(request.get("NextToken"))
    keys = sorted(key for key in tags if after is None or key > after)
    limit = request.get("MaxResults", PAGE)
    answer: dict[str, Any] = {"Tags": _listed({key: tags[key] for key in keys[:limit]})}
    if len(keys) > limit:
        answer["NextToken"] = base64.urlsafe_b64encode(keys[limit - 1].encode()).decode()
    return answer


async def delete_tags(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Keys that are not there do not matter."""

    def write(connection: Connection) -> None:
        resources.remove_tags(connection, _existing(connection, ctx, request["ResourceArn"]), request["TagKeys"])

    await ctx.world.db.write(write)
    return {}


def _existing(connection: Connection, ctx: Context, arn: str) -> str:
    """The resource's own ARN (its name in lower case). One of another account or region is not found."""
    kind = next((k for k in KINDS if arn.lower().startswith(k.arn_of(ctx, ""))), None)
    found = resources.get_by_arn(connection, arn.lower()) if kind else None
    if kind is None or found is None:
        raise not_found(kind, arn) if kind else validation_exception(f'Could not find resource "{arn}".')
    return found.arn


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _after(token: str | None) -> str | None:
    if not token:
        return None
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise validation_exception("Invalid NextToken: it does not belong to this listing.") from error
