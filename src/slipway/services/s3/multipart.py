"""Multipart uploads."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from slipway.backing.objects import ChosenPart, Completion, Part, Source, Upload, Write
from slipway.backing.objects_digests import allowed_types, default_type
from slipway.backing.objects_errors import s3_error
from slipway.services import Context
from slipway.services.s3.addresses import bucket_of, location_of, origin_of, owner
from slipway.services.s3.conditions import span_of_copy
from slipway.services.s3.copying import source_of
from slipway.services.s3.headers import (
    attributes_of,
    checksum_members,
    checksums_of,
    condition_of,
    encryption_members,
    quoted,
    refuse_unserved,
    unquoted,
    write_of,
)
from slipway.services.s3.listing import Encoder, limit_of

MAX_PART_NUMBER = 10_000


async def create_multipart_upload(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    refuse_unserved(request)
    algorithm, kind = _checksum(request)
    upload = await ctx.world.objects.create_upload(
        bucket,
        key,
        attributes=attributes_of(request),
        algorithm=algorithm,
        checksum_type=kind,
        account=ctx.account,
    )
    return {"Bucket": bucket, "Key": key, "UploadId": upload.id, **_checksum_members(upload), **encryption_members(upload)}


def _checksum(request: dict[str, Any]) -> tuple[str | None, str | None]:
    """Algorithm and type of the checksum of the object to be. InvalidRequest."""
    algorithm, kind = request.get("ChecksumAlgorithm"), request.get("ChecksumType")
    if algorithm is None:
        if kind is not None:
            raise s3_error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return None, None
    kind = kind or default_type(algorithm)
    if kind not in allowed_types(algorithm):
        raise s3_error(
            "InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm."
        )
    return algorithm, kind


def _checksum_members(upload: Upload) -> dict[str, str]:
    if upload.algorithm is None or upload.checksum_type is None:
        return {}
    return {"ChecksumAlgorithm": upload.algorithm, "ChecksumType": upload.checksum_type}


async def _upload(ctx: Context, request: dict[str, Any]) -> Upload:
    bucket, key = location_of(ctx, request)
    return await ctx.world.objects.upload(bucket, key, request["UploadId"], account=ctx.account)


def _part_number(request: dict[str, Any]) -> int:
    number: int = request["PartNumber"]
    if not 1 <= number <= MAX_PART_NUMBER:
        raise s3_error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=str(number),
        )
    return number


def _part_checksums(part: Part) -> dict[str, str]:
    return {f"Checksum{name}": value for name, value in part.checksums.items()}


async def upload_part(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    number = _part_number(request)
    refuse_unserved(request)
    upload = await _upload(ctx, request)
    body: bytes | Source = request.get("Body", b"")
    part = await ctx.world.objects.put_part(upload, number, body, write=write_of(request))
    return {"ETag": quoted(part.etag), **_part_checksums(part), **encryption_members(upload)}


async def upload_part_copy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    number = _part_number(request)
    refuse_unserved(request)
    upload = await _upload(ctx, request)
    async with source_of(ctx, request) as reading:
        span = span_of_copy(request.get("CopySourceRange"), reading.info.size)
        part = await ctx.world.objects.put_part(upload, number, reading.read(span), write=Write(span.length))
    result = {"ETag": quoted(part.etag), "LastModified": part.modified, **_part_checksums(part)}
    return {"CopyPartResult": result, **encryption_members(upload)}


async def list_parts(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    limit = limit_of(request.get("MaxParts"), "max-parts")
    marker = int(request.get("PartNumberMarker") or 0)
    upload = await _upload(ctx, request)
    found = await ctx.world.objects.parts(upload, after=marker, limit=limit + 1) if limit else []
    shown = found[:limit]
    return {
        "Bucket": upload.bucket,
        "Key": upload.key,
        "UploadId": upload.id,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": shown[-1].number if shown else 0,
        "MaxParts": limit,
        "IsTruncated": len(found) > limit,
        "Parts": [
            {
                "PartNumber": part.number,
                "LastModified": part.modified,
                "ETag": quoted(part.etag),
                "Size": part.size,
                **_part_checksums(part),
            }
            for part in shown
        ],
        "Initiator": owner(ctx.account),
        "Owner": owner(ctx.account),
        "StorageClass": upload.attributes.headers.get("StorageClass", "STANDARD"),
        **_checksum_members(upload),
    }


async def list_multipart_uploads(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket = bucket_of(ctx, request)
    encode = Encoder(request.get("EncodingType"))
    limit = limit_of(request.get("MaxUploads"), "max-uploads")
    prefix, delimiter = request.get("Prefix") or "", request.get("Delimiter") or ""
    key_marker = request.get("KeyMarker") or ""
    id_marker = (request.get("UploadIdMarker") or None) if key_marker else None
    shown: list[Upload] = []
    prefixes: list[str] = []
    last: tuple[str, str | None] = (key_marker, id_marker)
    truncated = False
    await ctx.world.objects.bucket(bucket, account=ctx.account)
    async for upload in _uploads(ctx, bucket, prefix, last):
        group = _group(upload.key, prefix, delimiter)
        if group is not None and (group == key_marker or (prefixes and prefixes[-1] == group)):
            continue
        if len(shown) + len(prefixes) == limit:
            truncated = limit > 0
            break
        if group is None:
            shown.append(upload)
            last = (upload.key, upload.id)
        else:
            prefixes.append(group)
            last = (group, None)
    answer: dict[str, Any] = {
        "Bucket": bucket,
        "KeyMarker": encode(key_marker),
        "UploadIdMarker": id_marker or "",
        "Prefix": encode(prefix),
        "MaxUploads": limit,
        "IsTruncated": truncated,
        "Uploads": [_listed(upload, encode, ctx.account) for upload in shown],
        "CommonPrefixes": [{"Prefix": encode(name)} for name in prefixes],
        **encode.members,
    }
    if delimiter:
        answer["Delimiter"] = encode(delimiter)
    if truncated:
        answer |= {"NextKeyMarker": encode(last[0]), "NextUploadIdMarker": last[1] or ""}
    return answer


async def _uploads(ctx: Context, bucket: str, prefix: str, after: tuple[str, str | None]) -> Any:
    """All uploads after the marker, a page at a time."""
    while found := await ctx.world.objects.uploads(bucket, prefix, after=after, account=ctx.account):
        for upload in found:
            yield upload
        after = (found[-1].key, found[-1].id)


def _group(key: str, prefix: str, delimiter: str) -> str | None:
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if end < 0 else key[: end + len(delimiter)]


def _listed(upload: Upload, encode: Encoder, account: str) -> dict[str, Any]:
    return {
        "UploadId": upload.id,
        "Key": encode(upload.key),
        "Initiated": upload.created,
        "StorageClass": upload.attributes.headers.get("StorageClass", "STANDARD"),
        "Owner": owner(account),
        "Initiator": owner(account),
        **_checksum_members(upload),
    }


async def complete_multipart_upload(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    bucket, key = location_of(ctx, request)
    refuse_unserved(request)
    parts = (request.get("MultipartUpload") or {}).get("Parts") or []
    if any("PartNumber" not in part or "ETag" not in part for part in parts):
        raise s3_error("MalformedXML")
    completion = Completion(
        [ChosenPart(part["PartNumber"], unquoted(part["ETag"]) or "", checksums_of(part)) for part in parts],
        condition_of(request),
        checksums_of(request),
        request.get("ChecksumType"),
        request.get("MpuObjectSize"),
    )
    info = await ctx.world.objects.complete(
        bucket, key, request["UploadId"], completion, account=ctx.account, origin=origin_of(ctx)
    )
    return {
        "Location": f"{ctx.world.settings.endpoint_url}/{bucket}/{quote(key)}",
        "Bucket": bucket,
        "Key": key,
        "ETag": quoted(info.etag),
        **checksum_members(info),
        **encryption_members(info),
    }


async def abort_multipart_upload(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    await ctx.world.objects.abort(await _upload(ctx, request))
    return {}
