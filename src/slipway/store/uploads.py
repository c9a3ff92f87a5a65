"""Multipart uploads of the embedded S3: tables and queries. Completing one is one transaction that moves its parts' blobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, LargeBinary, Table, and_, delete, insert, or_, select

from slipway.core.s3_events import COMPLETE, SLIPWAY, Origin
from slipway.store.objects import Expect, ObjectRow, Segment, from_column, lock_bucket, put_object, to_column
from slipway.store.schema import Json, Moment, Number, Word, metadata

uploads = Table(
    "s3_uploads",
    metadata,
    Column("id", Word, primary_key=True),
    Column("bucket", Word, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("created", Moment, nullable=False),
    Column("attributes", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Index("ix_s3_uploads_by_key", "bucket", "key", "id"),
)

parts = Table(
    "s3_parts",
    metadata,
    Column("upload", Word, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("size", Number, nullable=False),
    Column("etag", Word, nullable=False),
    Column("modified", Moment, nullable=False),
    Column("checksums", Json, nullable=False),
    Column("segments", Json),
)


class NoUpload(Exception):
    """Never begun, completed or aborted."""


class PartsChanged(Exception):
    """A part was uploaded again while the upload was being completed."""


@dataclass(frozen=True, slots=True)
class UploadRow:
    id: str
    bucket: str
    key: str
    created: float
    """Epoch seconds."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the completed object gets; plain JSON."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartRow:
    upload: str
    number: int
    size: int
    etag: str
    modified: float
    checksums: Mapping[str, str]
    """Base64 by algorithm."""
    segments: Sequence[Segment]
    """One blob; none when the part is empty."""


def insert_upload(conn: Connection, row: UploadRow) -> None:
    """NoBucket."""
    lock_bucket(conn, row.bucket)
    values = {"id": row.id, "bucket": row.bucket, "key": row.key.encode(), "created": row.created}
    conn.execute(insert(uploads).values(attributes=dict(row.attributes), tags=dict(row.tags), **values))


def _upload(values: Sequence[Any]) -> UploadRow:
    name, bucket, key, created, attributes, tags = values
    return UploadRow(name, bucket, bytes(key).decode(), created, attributes, tags)


def get_upload(conn: Connection, bucket: str, key: str, upload: str, *, lock: bool = False) -> UploadRow:
    """NoUpload, also when the id is another key's. `lock`, in a write only: nobody else ends it meanwhile."""
    found = and_(uploads.c.id == upload, uploads.c.bucket == bucket, uploads.c.key == key.encode())
    query = select(uploads).where(found)
    row = conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NoUpload(upload)
    return _upload(row)


def put_part(conn: Connection, bucket: str, key: str, part: PartRow) -> list[str]:
    """Put the part in place of the one with its number; the blobs that nothing names any more. NoUpload."""
    get_upload(conn, bucket, key, part.upload, lock=True)
    at = and_(parts.c.upload == part.upload, parts.c.number == part.number)
    present = conn.execute(select(parts.c.segments).where(at)).first()
    conn.execute(delete(parts).where(at))
    values = {"upload": part.upload, "number": part.number, "size": part.size, "etag": part.etag, "modified": part.modified}
    conn.execute(insert(parts).values(checksums=dict(part.checksums), segments=to_column(part.segments), **values))
    return [s.blob for s in from_column(present[0])] if present else []


def _part(values: Sequence[Any]) -> PartRow:
    upload, number, size, etag, modified, checksums, segments = values
    return PartRow(upload, number, size, etag, modified, checksums, from_column(segments))


def list_parts(conn: Connection, upload: str, after: int = 0, limit: int | None = None) -> list[PartRow]:
    """In order of their numbers, from the one after `after` on."""
    query = select(parts).where(parts.c.upload == upload, parts.c.number > after).order_by(parts.c.number)
    return [_part(row) for row in conn.execute(query if limit is None else query.limit(limit))]


def list_uploads(conn: Connection, bucket: str, prefix: str, after: tuple[str, str | None], limit: int) -> list[UploadRow]:
    """Ordered by key, then id; those after `after`: a key and the id reached in it (None: all of the key was seen)."""
    key, upload = after
    query = select(uploads).where(uploads.c.bucket == bucket)
    if key:
        octets = key.encode()
        later = uploads.c.key > octets
        query = query.where(or_(later, and_(uploads.c.key == octets, uploads.c.id > upload)) if upload else later)
    if prefix:
        octets = prefix.encode()
        query = query.where(uploads.c.key >= octets, uploads.c.key < octets + b"\xff")
    return [_upload(row) for row in conn.execute(query.order_by(uploads.c.key, uploads.c.id).limit(limit))]


def complete_upload(
    conn: Connection, upload: UploadRow, chosen: Sequence[PartRow], row: ObjectRow, expect: Expect, origin: Origin = SLIPWAY
) -> list[str]:
    """Commit `row`, whose segments are the chosen parts', and end the upload; blobs left over.

    NoUpload, PartsChanged, Precondition, NoBucket.
    """
    get_upload(conn, upload.bucket, upload.key, upload.id, lock=True)
    present = {part.number: part for part in list_parts(conn, upload.id)}
    if any(present.get(part.number) != part for part in chosen):
        raise PartsChanged(upload.id)
    retired = put_object(conn, row, expect, replace(origin, name=COMPLETE))
    used = {segment.blob for segment in row.segments}
    retired += [blob for blob in drop_upload(conn, upload.id) if blob not in used]
    return retired


def drop_upload(conn: Connection, upload: str) -> list[str]:
    """Remove the upload and its parts' rows; the parts' blobs."""
    blobs = [segment.blob for part in list_parts(conn, upload) for segment in part.segments]
    conn.execute(delete(parts).where(parts.c.upload == upload))
    conn.execute(delete(uploads).where(uploads.c.id == upload))
    return blobs


def drop_uploads_of(conn: Connection, bucket: str) -> list[str]:
    """Remove every upload of a bucket that is being deleted; their parts' blobs."""
    names = [row[0] for row in conn.execute(select(uploads.c.id).where(uploads.c.bucket == bucket))]
    return [blob for name in names for blob in drop_upload(conn, name)]


def referenced(conn: Connection) -> Iterable[str]:
    """Every blob that a part names."""
    for (value,) in conn.execute(select(parts.c.segments).where(parts.c.segments.is_not(None))):
        for segment in from_column(value):
            yield segment.blob
