"""PutObject, CopyObject, DeleteObject and DeleteObjects."""

from __future__ import annotations

import asyncio
from typing import Any

from slipway.backing.objects import MAX_OBJECT, Attributes, Condition, ObjectInfo, Span, Write
from slipway.backing.objects_errors import s3_error
from slipway.core.s3_events import COPY
from slipway.names import S3Location
from slipway.services import Context
from slipway.services.s3.addresses import bucket_of, check_key, check_version, location_of, origin_of
from slipway.services.s3.copying import source_of
from slipway.services.s3.headers import (
    attributes_of,
    checksum_members,
    condition_of,
    encryption_members,
    quoted,
    refuse_unserved,
    unquoted,
    write_of,
)
from slipway.wire.errors import AwsError

MAX_DELETES = 1000
"""Keys of one DeleteObjects."""


async def put_object(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    refuse_unserved(request)
    info = await ctx.world.objects.put(
        bucket,
        key,
        request.get("Body", b""),
        attributes=attributes_of(request),
        write=write_of(request),
        condition=condition_of(request),
        account=ctx.account,
        origin=origin_of(ctx),
    )
    return {"ETag": quoted(info.etag), **checksum_members(info), **encryption_members(info)}


async def copy_object(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    target = location_of(ctx, request)
    refuse_unserved(request)
    condition = condition_of(request)
    async with source_of(ctx, request) as reading:
        attributes = _copied_attributes(request, reading.info, S3Location(reading.info.bucket, reading.info.key), target)
        if reading.info.size > MAX_OBJECT:
            raise s3_error(
                "InvalidRequest",
                f"The specified copy source is larger than the maximum allowable size for a copy source: {MAX_OBJECT}",
            )
        algorithm = request.get("ChecksumAlgorithm")
        info = await ctx.world.objects.put(
            *target,
            reading.read(Span(0, reading.info.size)),
            attributes=attributes,
            write=Write(reading.info.size, compute=(algorithm,) if algorithm else tuple(reading.info.checksums)),
            condition=condition,
            account=ctx.account,
            origin=origin_of(ctx, COPY),
        )
    result = {"ETag": quoted(info.etag), "LastModified": info.modified, **checksum_members(info)}
    return {"CopyObjectResult": result, **encryption_members(info)}


def _copied_attributes(request: dict[str, Any], info: ObjectInfo, source: S3Location, target: S3Location) -> Attributes:
    """What the copy gets: its source's, or what the request says, by the two directives. InvalidRequest."""
    given = attributes_of(request)
    replaces = request.get("MetadataDirective") == "REPLACE"
    changes = replaces or any(
        name in request for name in ("StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption", "SSEKMSKeyId")
    )
    if source == target and not changes:
        raise s3_error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's"
            " metadata, storage class, website redirect location or encryption attributes.",
        )
    headers = dict(given.headers)
    if not replaces:
        own = ("StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption", "SSEKMSKeyId")  # never copied
        headers = {name: value for name, value in info.attributes.headers.items() if name not in own}
        headers |= {name: given.headers[name] for name in own if name in given.headers}
    return Attributes(
        headers,
        given.metadata if replaces else info.attributes.metadata,
        given.tags if request.get("TaggingDirective") == "REPLACE" else info.attributes.tags,
    )


async def delete_object(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    check_version(request.get("VersionId"))
    if "IfMatchSize" in request or "IfMatchLastModifiedTime" in request:
        raise s3_error("NotImplemented", "x-amz-if-match-size and x-amz-if-match-last-modified-time are for directory buckets.")
    condition = Condition(unquoted(request.get("IfMatch")))
    await ctx.world.objects.delete(bucket, key, condition=condition, account=ctx.account, origin=origin_of(ctx))
    return {}


async def delete_objects(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Each key on its own: one that cannot be deleted is reported and stops nothing."""
    bucket = bucket_of(ctx, request)
    wanted = request["Delete"].get("Objects") or []
    if not 1 <= len(wanted) <= MAX_DELETES:
        raise s3_error("MalformedXML")
    await ctx.world.objects.bucket(bucket, account=ctx.account)
    outcomes = await asyncio.gather(*(_delete_one(ctx, bucket, item) for item in wanted))
    failed = [outcome for outcome in outcomes if "Code" in outcome]
    done = [] if request["Delete"].get("Quiet") else [outcome for outcome in outcomes if "Code" not in outcome]
    return {"Deleted": done, "Errors": failed}


async def _delete_one(ctx: Context, bucket: str, item: dict[str, Any]) -> dict[str, Any]:
    key = item["Key"]
    try:
        check_key(key)
        check_version(item.get("VersionId"))
        condition = Condition(unquoted(item.get("ETag")))
        await ctx.world.objects.delete(bucket, key, condition=condition, account=ctx.account, origin=origin_of(ctx))
    except AwsError as error:
        return {"Key": key, "Code": error.code, "Message": error.message}
    return {"Key": key}
