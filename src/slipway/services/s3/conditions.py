"""Conditional reads and ranges: pure decisions over an object's state."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from slipway.backing.objects import ObjectInfo, Span
from slipway.backing.objects_errors import precondition_failed, s3_error
from slipway.services.s3.headers import quoted

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def unmodified(request: Mapping[str, Any], info: ObjectInfo, prefix: str = "") -> str | None:
    """The header that makes a read needless (304), by S3's rules; None: read on. PreconditionFailed (412).

    A match of If-Match outweighs If-Unmodified-Since, a mismatch of If-None-Match outweighs If-Modified-Since.
    `prefix` is `CopySource` for the source of a copy.
    """
    match, none_match = request.get(f"{prefix}IfMatch"), request.get(f"{prefix}IfNoneMatch")
    before, since = request.get(f"{prefix}IfUnmodifiedSince"), request.get(f"{prefix}IfModifiedSince")
    header = "x-amz-copy-source-" if prefix else ""
    if match is not None:
        if not _names(match, info.etag):
            raise precondition_failed(f"{header}If-Match")
    elif before is not None and math.floor(info.modified) > _seconds(before):
        raise precondition_failed(f"{header}If-Unmodified-Since")
    if none_match is not None:
        return f"{header}If-None-Match" if _names(none_match, info.etag) else None
    if since is not None and math.floor(info.modified) <= _seconds(since):
        return f"{header}If-Modified-Since"
    return None


def _names(header: str, etag: str) -> bool:
    tags = [word.strip().removeprefix("W/").strip('"') for word in header.split(",")]
    return "*" in tags or etag in tags


def _seconds(moment: datetime | float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


def span_of_range(text: str | None, size: int) -> Span | None:
    """The bytes that a Range header asks for; None when there is none that S3 would honour. InvalidRange."""
    match = _RANGE.fullmatch(text.replace(" ", "")) if text else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        span = Span(size - length, length)
    else:
        start = int(match[1])
        end = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < start:
            return None
        span = Span(start, end - start + 1)
    if span.length <= 0:
        raise s3_error("InvalidRange", RangeRequested=text, ActualObjectSize=size)
    return span


def span_of_part(number: int, info: ObjectInfo) -> Span:
    """The bytes of a part of a multipart object; part 1 of any other is all of it. InvalidPartNumber."""
    sizes = info.parts or (info.size,)
    if not 1 <= number <= len(sizes):
        raise s3_error("InvalidPartNumber", ActualPartCount=len(sizes), PartNumberRequested=number)
    return Span(sum(sizes[: number - 1]), sizes[number - 1])


def span_of_copy(text: str | None, size: int) -> Span:
    """The bytes that UploadPartCopy takes: `bytes=first-last`, wholly inside the source. InvalidArgument."""
    if text is None:
        return Span(0, size)
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] and match[2]) or int(match[2]) < int(match[1]):
        raise s3_error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based"
            " offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text,
        )
    start, end = int(match[1]), int(match[2])
    if end >= size:
        raise s3_error(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text,
        )
    return Span(start, end - start + 1)


def not_modified(info: ObjectInfo) -> dict[str, Any]:
    """The 304 answer."""
    kept = {name: info.attributes.headers[name] for name in ("CacheControl",) if name in info.attributes.headers}
    return {
        "ETag": quoted(info.etag),
        "LastModified": info.modified,
        **kept,
        "ResponseMetadata": {"HTTPStatusCode": 304},
    }
