"""GetObject and HeadObject: conditions, ranges, parts, and the headers of the answer."""

from __future__ import annotations

from typing import Any

from slipway.backing.objects import ObjectInfo, Span
from slipway.backing.objects_errors import s3_error
from slipway.services import Context
from slipway.services.s3.addresses import check_version, location_of
from slipway.services.s3.conditions import not_modified, span_of_part, span_of_range, unmodified
from slipway.services.s3.headers import checksum_members, described, quoted, refuse_unserved

_OVERRIDES = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
    "ResponseExpires": "Expires",
}


async def head_object(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    _check(request)
    info = await ctx.world.objects.find(bucket, key, account=ctx.account)
    if unmodified(request, info):
        return not_modified(info)
    return _answer(request, info)[0]


async def get_object(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    _check(request)
    reading = await ctx.world.objects.open(bucket, key, account=ctx.account)
    answered = False
    try:
        if unmodified(request, reading.info):
            return {**not_modified(reading.info), "Body": b""}
        answer, span = _answer(request, reading.info)
        if reading.data is not None:
            answer["Body"] = reading.data[span.start : span.start + span.length]
        else:
            answer["Body"] = reading.read(span)
            answered = True
        return answer
    finally:
        if not answered:
            reading.close()


def _check(request: dict[str, Any]) -> None:
    refuse_unserved(request)
    check_version(request.get("VersionId"))
    if "Range" in request and "PartNumber" in request:
        raise s3_error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")


def _answer(request: dict[str, Any], info: ObjectInfo) -> tuple[dict[str, Any], Span]:
    """Everything but the body, and which bytes that is."""
    answer: dict[str, Any] = {
        **described(info),
        "AcceptRanges": "bytes",
        "LastModified": info.modified,
        "ETag": quoted(info.etag),
    }
    for name, member in _OVERRIDES.items():
        if name in request:
            answer[member] = request[name]
    if "PartNumber" in request:
        span: Span | None = span_of_part(request["PartNumber"], info)
        if info.parts:
            answer["PartsCount"] = len(info.parts)
    else:
        span = span_of_range(request.get("Range"), info.size)
    if span is None:
        span = Span(0, info.size)
    else:
        answer["ResponseMetadata"] = {"HTTPStatusCode": 206}
        if span.length:
            answer["ContentRange"] = f"bytes {span.start}-{span.start + span.length - 1}/{info.size}"
    if request.get("ChecksumMode") == "ENABLED" and span.length == info.size:
        # Never for a part of the object: clients hold the checksum against the bytes they get.
        answer |= checksum_members(info)
    answer["ContentLength"] = span.length
    return answer, span
