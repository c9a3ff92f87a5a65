"""Buckets, keys and copy sources as requests name them, and what S3 demands of such names."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import unquote

from slipway.backing.objects_errors import s3_error
from slipway.core.s3_events import PUT, Origin
from slipway.names import S3Location
from slipway.services import Context

MAX_KEY = 1024
"""Bytes of a key in UTF-8."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> None:
    """InvalidBucketName, by the rules for general purpose buckets."""
    wrong = (
        not _BUCKET.fullmatch(name)
        or ".." in name
        or _ADDRESS.fullmatch(name)
        or name.startswith(_RESERVED_STARTS)
        or name.endswith(_RESERVED_ENDS)
    )
    if wrong:
        raise s3_error("InvalidBucketName", BucketName=name)


def check_key(key: str) -> None:
    """KeyTooLongError, InvalidURI."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise s3_error("InvalidURI") from None
    if size > MAX_KEY:
        raise s3_error("KeyTooLongError", Size=size, MaxSizeAllowed=MAX_KEY)


def bucket_of(ctx: Context, request: dict[str, Any]) -> str:
    """The bucket; AccessDenied when the caller expects another owner than there can be for it."""
    if request.get("ExpectedBucketOwner") not in (None, ctx.account):
        raise s3_error("AccessDenied")
    name: str = request["Bucket"]
    return name


def location_of(ctx: Context, request: dict[str, Any]) -> S3Location:
    """Bucket and key, checked."""
    check_key(request["Key"])
    return S3Location(bucket_of(ctx, request), request["Key"])


def origin_of(ctx: Context, event: str = PUT) -> Origin:
    """What an event of this call says of its caller."""
    return Origin(event, ctx.principal, ctx.request_id, ctx.world.seal)


def copy_source(ctx: Context, request: dict[str, Any]) -> S3Location:
    """Bucket and key of `CopySource` (`bucket/key`, percent-encoded, perhaps with a leading slash)."""
    if request.get("ExpectedSourceBucketOwner") not in (None, ctx.account):
        raise s3_error("AccessDenied")
    path, _, version = request["CopySource"].partition("?versionId=")
    check_version(version or None)
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise s3_error(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
            ArgumentValue=request["CopySource"],
        )
    check_key(key)
    return S3Location(bucket, key)


def check_version(version: str | None) -> None:
    """There is one version of each object, `null`."""
    if version not in (None, "null"):
        raise s3_error("InvalidArgument", "Invalid version id specified", ArgumentName="versionId", ArgumentValue=version)


def owner(account: str) -> dict[str, str]:
    """The canonical user that stands for an account."""
    return {"ID": hashlib.sha256(f"canonical user of {account}".encode()).hexdigest()}
