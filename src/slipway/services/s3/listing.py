"""ListObjects and ListObjectsV2."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from slipway.backing.objects import ListPage, ObjectInfo
from slipway.backing.objects_errors import s3_error
from slipway.services import Context
from slipway.services.s3.addresses import bucket_of, owner
from slipway.services.s3.headers import quoted

MOST = 1000
"""Entries of one page, whatever is asked for."""


def encode_token(after: str) -> str:
    return base64.urlsafe_b64encode(b"\1" + after.encode()).decode()


def decode_token(token: str) -> str:
    """InvalidArgument for what `encode_token` did not make."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if raw[:1] == b"\1":
            return raw[1:].decode()
    except (binascii.Error, ValueError):
        pass
    raise s3_error("InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token")


def limit_of(value: int | None, name: str) -> int:
    """The page size that is meant by `value`; InvalidArgument."""
    if value is not None and not 0 <= value <= 2**31 - 1:
        raise s3_error(
            "InvalidArgument",
            f"Argument {name} must be an integer between 0 and 2147483647",
            ArgumentName=name,
            ArgumentValue=str(value),
        )
    return MOST if value is None else min(value, MOST)


class Encoder:
    """Percent-encodes the names in an answer when the caller asked for it (`encoding-type=url`)."""

    def __init__(self, encoding: str | None) -> None:
        if encoding not in (None, "url"):
            raise s3_error(
                "InvalidArgument",
                "Invalid Encoding Method specified in Request",
                ArgumentName="encoding-type",
                ArgumentValue=encoding,
            )
        self._on = encoding == "url"
        self.members = {"EncodingType": "url"} if self._on else {}

    def __call__(self, name: str) -> str:
        return quote(name, safe="/") if self._on else name


async def list_objects_v2(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    encode = Encoder(request.get("EncodingType"))
    limit = limit_of(request.get("MaxKeys"), "maxKeys")
    token, start_after = request.get("ContinuationToken"), request.get("StartAfter") or ""
    if token == "":
        raise s3_error("InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token")
    after = decode_token(token) if token else start_after
    page, answer = await _page(ctx, request, after, limit, encode)
    answer |= {
        "KeyCount": len(page.objects) + len(page.prefixes),
        "Contents": _contents(page.objects, encode, ctx.account if request.get("FetchOwner") else None),
    }
    if token:
        answer["ContinuationToken"] = token
    elif start_after:
        answer["StartAfter"] = encode(start_after)
    if page.truncated:
        answer["NextContinuationToken"] = encode_token(page.last)
    return answer


async def list_objects(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    encode = Encoder(request.get("EncodingType"))
    limit = limit_of(request.get("MaxKeys"), "maxKeys")
    marker = request.get("Marker") or ""
    page, answer = await _page(ctx, request, marker, limit, encode)
    answer |= {"Marker": encode(marker), "Contents": _contents(page.objects, encode, ctx.account)}
    if page.truncated and request.get("Delimiter"):
        answer["NextMarker"] = encode(page.last)  # without a delimiter the last key serves, and AWS gives none
    return answer


async def _page(
    ctx: Context, request: dict[str, Any], after: str, limit: int, encode: Encoder
) -> tuple[ListPage, dict[str, Any]]:
    """The page, and the members that both versions of the operation answer with."""
    bucket = bucket_of(ctx, request)
    prefix, delimiter = request.get("Prefix") or "", request.get("Delimiter") or ""
    page = ListPage((), (), after, truncated=False)
    if limit:
        page = await ctx.world.objects.page(bucket, prefix, delimiter=delimiter, after=after, limit=limit, account=ctx.account)
    else:
        await ctx.world.objects.bucket(bucket, account=ctx.account)
    answer: dict[str, Any] = {
        "Name": bucket,
        "Prefix": encode(prefix),
        "MaxKeys": limit,
        "IsTruncated": page.truncated,
        "CommonPrefixes": [{"Prefix": encode(name)} for name in page.prefixes],
        **encode.members,
    }
    if delimiter:
        answer["Delimiter"] = encode(delimiter)
    return page, answer


def _contents(found: Sequence[ObjectInfo], encode: Encoder, account: str | None) -> list[dict[str, Any]]:
    by = {"Owner": owner(account)} if account is not None else {}
    return [_listed(info, encode) | by for info in found]


def _listed(info: ObjectInfo, encode: Encoder) -> dict[str, Any]:
    members: dict[str, Any] = {
        "Key": encode(info.key),
        "LastModified": info.modified,
        "ETag": quoted(info.etag),
        "Size": info.size,
        "StorageClass": info.attributes.headers.get("StorageClass", "STANDARD"),
    }
    if info.checksums:
        members["ChecksumAlgorithm"] = list(info.checksums)
        members["ChecksumType"] = info.checksum_type
    return members
