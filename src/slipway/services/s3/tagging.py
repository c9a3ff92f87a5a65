"""Object tags."""

from __future__ import annotations

from typing import Any

from slipway.services import Context
from slipway.services.s3.addresses import check_version, location_of
from slipway.services.s3.tagging_rules import check_tags


async def put_object_tagging(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    check_version(request.get("VersionId"))
    tags = check_tags((tag["Key"], tag["Value"]) for tag in request["Tagging"].get("TagSet") or ())
    await ctx.world.objects.set_tags(bucket, key, tags, account=ctx.account)
    return {}


async def get_object_tagging(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    check_version(request.get("VersionId"))
    tags = await ctx.world.objects.tags(bucket, key, account=ctx.account)
    return {"TagSet": [{"Key": name, "Value": value} for name, value in sorted(tags.items())]}


async def delete_object_tagging(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    check_version(request.get("VersionId"))
    await ctx.world.objects.set_tags(bucket, key, {}, account=ctx.account)
    return {}
