"""Buckets: made, found, listed, deleted. There is one namespace of names for all accounts, as on AWS."""

from __future__ import annotations

from typing import Any

from slipway.backing.objects_errors import s3_error
from slipway.services import Context
from slipway.services.s3.addresses import bucket_of, check_bucket_name, owner
from slipway.services.s3.listing import decode_token, encode_token
from slipway.wire.errors import AwsError

FIRST_REGION = "us-east-1"
"""Whose buckets have no location constraint, and where creating one's own bucket again succeeds."""


async def create_bucket(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket = request["Bucket"]
    check_bucket_name(bucket)
    if request.get("ObjectLockEnabledForBucket"):
        raise s3_error("NotImplemented", "Object Lock is not implemented.")
    region = _region(ctx, (request.get("CreateBucketConfiguration") or {}).get("LocationConstraint"))
    try:
        await ctx.world.objects.create_bucket(bucket, account=ctx.account, region=region)
    except AwsError as error:
        if error.code != "BucketAlreadyOwnedByYou" or region != FIRST_REGION:
            raise
    return {"Location": f"/{bucket}"}


def _region(ctx: Context, constraint: str | None) -> str:
    """Where the bucket goes; only the first region's endpoint may name another region (AWS's rule)."""
    if constraint == "EU":
        constraint = "eu-west-1"
    if ctx.region == FIRST_REGION:
        if constraint == FIRST_REGION:
            raise s3_error("InvalidLocationConstraint", LocationConstraint=constraint)
        return constraint or FIRST_REGION
    if constraint != ctx.region:
        named = f"The {constraint or 'unspecified'} location constraint is incompatible"
        raise s3_error(
            "IllegalLocationConstraintException", f"{named} for the region specific endpoint this request was sent to."
        )
    return constraint


async def head_bucket(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    info = await ctx.world.objects.bucket(bucket_of(ctx, request), account=ctx.account)
    return {"BucketRegion": info.region, "AccessPointAlias": False}


async def delete_bucket(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    await ctx.world.objects.delete_bucket(bucket_of(ctx, request), account=ctx.account)
    return {}


async def list_buckets(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    prefix = request.get("Prefix") or ""
    after = decode_token(request["ContinuationToken"]) if request.get("ContinuationToken") else ""
    most = request.get("MaxBuckets") or 10_000
    region = request.get("BucketRegion")
    found = [
        bucket
        for bucket in await ctx.world.objects.buckets(ctx.account)
        if bucket.name.startswith(prefix) and bucket.name > after and region in (None, bucket.region)
    ]
    answer: dict[str, Any] = {"Buckets": [_listed(bucket) for bucket in found[:most]], "Owner": owner(ctx.account)}
    if prefix:
        answer["Prefix"] = prefix
    if len(found) > most:
        answer["ContinuationToken"] = encode_token(found[most - 1].name)
    return answer


def _listed(bucket: Any) -> dict[str, Any]:
    return {"Name": bucket.name, "CreationDate": bucket.created, "BucketRegion": bucket.region}


async def get_bucket_location(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    info = await ctx.world.objects.bucket(bucket_of(ctx, request), account=ctx.account)
    return {} if info.region == FIRST_REGION else {"LocationConstraint": info.region}


async def get_bucket_versioning(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Empty: versioning was never enabled."""
    await ctx.world.objects.bucket(bucket_of(ctx, request), account=ctx.account)
    return {}


async def put_bucket_versioning(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    await ctx.world.objects.bucket(bucket_of(ctx, request), account=ctx.account)
    raise s3_error("NotImplemented", "Versioning of buckets is not implemented: an object has one version.")
