"""Rows of the embedded object store in S3's terms: whose a bucket is, and what an object, an upload, a part is said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway.backing.objects import Attributes, Condition, ObjectInfo, Part, Upload
from slipway.backing.objects_errors import no_such_bucket, s3_error
from slipway.store import objects as rows
from slipway.store import uploads

if TYPE_CHECKING:
    from sqlalchemy import Connection

INLINE = 64 * 1024
"""Content up to this many bytes lives in the row."""


def owned(conn: Connection, bucket: str, account: str | None) -> rows.BucketRow:
    """The bucket, if the account may use it. NoSuchBucket, AccessDenied."""
    row = rows.get_bucket(conn, bucket)
    if row is None:
        raise no_such_bucket(bucket)
    if account is not None and row.account != account:
        raise s3_error("AccessDenied")
    return row


def expectation(condition: Condition) -> rows.Expect:
    return rows.Expect(absent=condition.if_none_match, etag=condition.if_match)


def to_info(row: rows.ObjectRow) -> ObjectInfo:
    detail = row.attributes
    return ObjectInfo(
        row.bucket,
        row.key,
        row.size,
        row.etag,
        row.modified,
        Attributes(detail.get("headers", {}), detail.get("metadata", {}), row.tags),
        detail.get("checksums", {}),
        detail.get("checksum_type"),
        detail.get("parts", ()),
    )


def to_upload(row: uploads.UploadRow) -> Upload:
    detail = row.attributes
    attributes = Attributes(detail["headers"], detail["metadata"], row.tags)
    return Upload(row.id, row.bucket, row.key, row.created, attributes, detail.get("algorithm"), detail.get("checksum_type"))


def to_part(row: uploads.PartRow) -> Part:
    return Part(row.number, row.size, row.etag, row.modified, row.checksums)
