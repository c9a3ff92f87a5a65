"""What the headers of a write say about an object, and the headers that say it back."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from slipway.backing.objects import Attributes, Condition, ObjectInfo, Upload, Write
from slipway.backing.objects_digests import SIZES, decode_md5
from slipway.backing.objects_errors import s3_error
from slipway.services.s3.tagging_rules import check_tags

MAX_METADATA = 2048
"""Bytes of user metadata, names and values."""

DEFAULT_TYPE = "binary/octet-stream"

_KEPT = (
    "CacheControl",
    "ContentDisposition",
    "ContentLanguage",
    "WebsiteRedirectLocation",
    "StorageClass",
    "ServerSideEncryption",
    "SSEKMSKeyId",
)
_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId")
_CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "CopySourceSSECustomerAlgorithm", "CopySourceSSECustomerKey")


def refuse_unserved(request: Mapping[str, Any]) -> None:
    """Refuse by name what this store does not do and must not ignore."""
    if any(name in request for name in _CUSTOMER_KEY):
        raise s3_error("NotImplemented", "Server-side encryption with customer-provided keys (SSE-C) is not implemented.")
    if "WriteOffsetBytes" in request:
        raise s3_error("NotImplemented", "Appending to objects (x-amz-write-offset-bytes) is not implemented.")
    if any(name.startswith("ObjectLock") for name in request):
        raise s3_error("InvalidRequest", "Bucket is missing Object Lock Configuration")


def attributes_of(request: Mapping[str, Any]) -> Attributes:
    """Headers, metadata and tags for a new object. MetadataTooLarge, InvalidTag, InvalidArgument."""
    headers = {name: request[name] for name in _KEPT if request.get(name)}
    headers["ContentType"] = request.get("ContentType") or DEFAULT_TYPE
    if encoding := content_encoding(request.get("ContentEncoding", "")):
        headers["ContentEncoding"] = encoding
    if expires := request.get("Expires"):
        headers["Expires"] = expires if isinstance(expires, str) else format_datetime(expires, usegmt=True)
    metadata = dict(request.get("Metadata") or {})
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > MAX_METADATA:
        raise s3_error("MetadataTooLarge", Size=size, MaxSizeAllowed=MAX_METADATA)
    return Attributes(headers, metadata, tags_of(request))


def content_encoding(value: str) -> str:
    """Without `aws-chunked`, which is how the body travelled, not what it is."""
    return ",".join(word.strip() for word in value.split(",") if word.strip() not in ("", "aws-chunked"))


def tags_of(request: Mapping[str, Any]) -> dict[str, str]:
    """The tags of the `x-amz-tagging` header."""
    text = request.get("Tagging") or ""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=100, errors="strict")
    except ValueError:
        pairs = None
    if pairs is None or len({name for name, _ in pairs}) != len(pairs):
        raise s3_error(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name"
            " duplicates.",
            ArgumentName="x-amz-tagging",
            ArgumentValue=text[:256],
        )
    return check_tags(pairs)


def write_of(request: Mapping[str, Any]) -> Write:
    """What a body promises. InvalidDigest."""
    body, md5 = request.get("Body"), request.get("ContentMD5")
    known = {f"x-amz-checksum-{name.lower()}": name for name in SIZES}
    announced = [known[name] for name in getattr(body, "announced", ()) if name in known]
    algorithm = request.get("ChecksumAlgorithm")
    return Write(
        # Of the content: the Content-Length header counts the framing of aws-chunked as well.
        length=getattr(body, "length", request.get("ContentLength")),
        md5=decode_md5(md5) if md5 is not None else None,
        checksums=checksums_of(request),
        compute=tuple(dict.fromkeys([*announced, *([algorithm] if algorithm in SIZES else [])])),
    )


def checksums_of(request: Mapping[str, Any]) -> dict[str, str]:
    """Base64 by algorithm, from the members ChecksumCRC32 and so on."""
    return {name: request[f"Checksum{name}"] for name in SIZES if request.get(f"Checksum{name}")}


def condition_of(request: Mapping[str, Any]) -> Condition:
    """A conditional write. If-None-Match knows only `*`, as on AWS."""
    if_none_match = request.get("IfNoneMatch")
    if if_none_match not in (None, "*"):
        raise s3_error("NotImplemented", Header="If-None-Match")
    return Condition(unquoted(request.get("IfMatch")), if_none_match == "*")


def unquoted(etag: str | None) -> str | None:
    return None if etag is None else etag.strip().removeprefix("W/").strip('"')


def quoted(etag: str) -> str:
    return f'"{etag}"'


def checksum_members(info: ObjectInfo) -> dict[str, str]:
    members = {f"Checksum{name}": value for name, value in info.checksums.items()}
    if members and info.checksum_type:
        members["ChecksumType"] = info.checksum_type
    return members


def encryption_members(of: ObjectInfo | Upload) -> dict[str, str]:
    return {name: of.attributes.headers[name] for name in _ENCRYPTION if name in of.attributes.headers}


def described(info: ObjectInfo) -> dict[str, Any]:
    """The members of GetObject and HeadObject that come from what the writer said."""
    members: dict[str, Any] = dict(info.attributes.headers)
    members.setdefault("ContentType", DEFAULT_TYPE)
    if "Expires" in members:
        members["Expires"] = parsedate_to_datetime(members["Expires"])
    if members.get("StorageClass") == "STANDARD":
        del members["StorageClass"]
    if info.attributes.metadata:
        members["Metadata"] = dict(info.attributes.metadata)
    if info.attributes.tags:
        members["TagCount"] = len(info.attributes.tags)
    return members
