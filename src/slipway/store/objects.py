"""Buckets and objects: the tables of the embedded S3 and every query on them (multipart uploads: `store.uploads`).

A row is the point of commit. Its bytes are in the row (`data`) or in blob files that it names (`segments`, in order); a query
that drops such a name returns it, so that the caller can remove the file after the commit.
Keys are stored as bytes: both databases then compare them as S3 lists them, by UTF-8 octets, whatever their collation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Table, and_, bindparam, delete, insert, select, update

from slipway.core import s3_events
from slipway.core.s3_events import SLIPWAY, Event, Origin, Place
from slipway.store import bucket_notifications
from slipway.store.schema import Json, Moment, Number, Word, metadata

buckets = Table(
    "s3_buckets",
    metadata,
    Column("name", Word, primary_key=True),
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("created", Moment, nullable=False),
    Column("notifications", Json),
)

objects = Table(
    "s3_objects",
    metadata,
    Column("bucket", Word, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("size", Number, nullable=False),
    Column("etag", Word, nullable=False),
    Column("modified", Moment, nullable=False),
    Column("attributes", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Column("segments", Json),
    Column("data", LargeBinary),  # last: SQLite reads the columns before it without touching its overflow pages
)


class NoBucket(Exception):
    """The bucket does not exist (any more)."""


class Precondition(Exception):
    """What stands under the key is not what the writer expected."""

    def __init__(self, *, absent: bool, missing: bool = False) -> None:
        super().__init__(absent, missing)
        self.absent = absent
        """Nothing was to stand there; otherwise a certain object was."""
        self.missing = missing
        """A certain object was to stand there, and none does."""


@dataclass(frozen=True, slots=True)
class BucketRow:
    name: str
    account: str
    region: str
    created: float
    """Epoch seconds."""
    notifications: Sequence[Mapping[str, Any]] | None = None
    """The rules of its event notifications (`s3_events.rules_of`)."""

    @property
    def place(self) -> Place:
        return Place(self.name, self.account, self.region)


@dataclass(frozen=True, slots=True)
class Segment:
    """One blob file, whole, as the next piece of an object."""

    blob: str
    size: int


@dataclass(frozen=True, slots=True)
class ObjectRow:
    bucket: str
    key: str
    size: int
    etag: str
    """Without quotes."""
    modified: float
    """Epoch seconds."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON; the store does not look into it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    segments: Sequence[Segment] = ()
    data: bytes | None = None
    """The content; None when it is in `segments` or was not asked for."""


@dataclass(frozen=True, slots=True)
class Expect:
    """What a writer demands of the key's present object, checked in the transaction that replaces it."""

    absent: bool = False
    etag: str | None = None
    """The present object must have this ETag."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: objects and rolled-up prefixes, both in order."""

    rows: Sequence[ObjectRow]
    prefixes: Sequence[str]
    last: str
    """The last entry (key or prefix) of the page; listing goes on after it."""
    truncated: bool


def to_column(segments: Sequence[Segment]) -> list[tuple[str, int]] | None:
    return [(s.blob, s.size) for s in segments] or None


def from_column(value: Sequence[Sequence[Any]] | None) -> tuple[Segment, ...]:
    return tuple(Segment(blob, size) for blob, size in value or ())


# Buckets


def insert_bucket(conn: Connection, row: BucketRow) -> BucketRow | None:
    """Create it; the present one instead when the name is taken."""
    if (present := get_bucket(conn, row.name)) is not None:
        return present
    conn.execute(insert(buckets).values(name=row.name, account=row.account, region=row.region, created=row.created))
    return None


def get_bucket(conn: Connection, name: str) -> BucketRow | None:
    row = conn.execute(select(buckets).where(buckets.c.name == name)).first()
    return BucketRow(*row) if row else None


def list_buckets(conn: Connection, account: str) -> list[BucketRow]:
    found = [BucketRow(*row) for row in conn.execute(select(buckets).where(buckets.c.account == account))]
    return sorted(found, key=lambda b: b.name)


def bucket_is_empty(conn: Connection, name: str) -> bool:
    return conn.execute(select(objects.c.size).where(objects.c.bucket == name).limit(1)).first() is None


def delete_bucket(conn: Connection, name: str) -> None:
    """Drop the bucket's row; the caller has found it empty in the same transaction."""
    conn.execute(delete(buckets).where(buckets.c.name == name))


def set_notifications(conn: Connection, name: str, rules: Sequence[s3_events.Rule]) -> None:
    """Replace the rules of its event notifications."""
    conn.execute(update(buckets).where(buckets.c.name == name).values(notifications=list(rules) or None))


def lock_bucket(conn: Connection, name: str, *, alone: bool = False) -> BucketRow:
    """Keep the bucket from being deleted until this transaction ends (`alone`: keep writers out as well); NoBucket."""
    row = conn.execute(select(buckets).where(buckets.c.name == name).with_for_update(read=not alone)).first()
    if row is None:
        raise NoBucket(name)
    return BucketRow(*row)


# Objects

_HEAD = (
    objects.c.bucket,
    objects.c.key,
    objects.c.size,
    objects.c.etag,
    objects.c.modified,
    objects.c.attributes,
    objects.c.tags,
)


def _row(values: Sequence[Any], segments: Sequence[Sequence[Any]] | None = None, data: bytes | None = None) -> ObjectRow:
    bucket, key, size, etag, modified, attributes, tags = values
    return ObjectRow(
        bucket,
        bytes(key).decode(),
        size,
        etag,
        modified,
        attributes,
        tags,
        from_column(segments),
        None if data is None else bytes(data),
    )


def _at(bucket: str, key: str) -> Any:
    return and_(objects.c.bucket == bucket, objects.c.key == key.encode())


def get_object(conn: Connection, bucket: str, key: str, *, content: bool) -> ObjectRow | None:
    """The object; with `content` its bytes or segments too."""
    columns = (*_HEAD, objects.c.segments, objects.c.data) if content else _HEAD
    row = conn.execute(select(*columns).where(_at(bucket, key))).first()
    if row is None:
        return None
    values: Sequence[Any] = tuple(row)
    return _row(values[:7], *values[7:])


def _present(conn: Connection, bucket: str, key: str) -> tuple[str, Sequence[Sequence[Any]] | None] | None:
    row = conn.execute(select(objects.c.etag, objects.c.segments).where(_at(bucket, key)).with_for_update()).first()
    return (row[0], row[1]) if row else None


def _check(present: tuple[str, Sequence[Sequence[Any]] | None] | None, expect: Expect) -> None:
    if expect.absent and present is not None:
        raise Precondition(absent=True)
    if expect.etag is not None:
        if present is None:
            raise Precondition(absent=False, missing=True)
        if expect.etag not in (present[0], "*"):
            raise Precondition(absent=False)


def put_object(conn: Connection, row: ObjectRow, expect: Expect = Expect(), origin: Origin = SLIPWAY) -> list[str]:
    """Put the object in place of the present one; the blobs that nothing names any more. NoBucket, Precondition.

    Those whom the bucket's rules name hear of it, here as in the calls below, by rows of the same transaction.
    """
    bucket = lock_bucket(conn, row.bucket)
    present = _present(conn, row.bucket, row.key)
    _check(present, expect)
    bucket_notifications.emit(conn, bucket.notifications, bucket.place, [_created(row, origin)], origin)
    values = {
        "size": row.size,
        "etag": row.etag,
        "modified": row.modified,
        "attributes": dict(row.attributes),
        "tags": dict(row.tags),
        "segments": to_column(row.segments),
        "data": row.data,
    }
    if present is None:
        conn.execute(insert(objects).values(bucket=row.bucket, key=row.key.encode(), **values))
        return []
    conn.execute(update(objects).where(_at(row.bucket, row.key)).values(**values))
    kept = {s.blob for s in row.segments}
    return [s.blob for s in from_column(present[1]) if s.blob not in kept]


def _created(row: ObjectRow, origin: Origin) -> Event:
    return Event(origin.name, row.key, row.modified, row.size, row.etag)


_SEGMENTS_OF = select(objects.c.key, objects.c.segments).where(
    objects.c.bucket == bindparam("of_bucket"), objects.c.key.in_(bindparam("of_keys", expanding=True))
)
_VALUES = ("size", "etag", "modified", "attributes", "tags", "segments", "data")
_INSERT = insert(objects).values({name: bindparam(f"new_{name}") for name in ("bucket", "key", *_VALUES)})
_REPLACE = (
    update(objects)
    .where(objects.c.bucket == bindparam("of_bucket"), objects.c.key == bindparam("of_key"))
    .values({name: bindparam(f"new_{name}") for name in _VALUES})
)


def put_objects(conn: Connection, bucket: str, rows: Sequence[ObjectRow], origin: Origin = SLIPWAY) -> list[str]:
    """`put_object` for many objects of one bucket, at a fraction of its cost for each; of two with one key the later stays."""
    locked = lock_bucket(conn, bucket)
    bucket_notifications.emit(conn, locked.notifications, locked.place, [_created(row, origin) for row in rows], origin)
    latest = {row.key.encode(): row for row in rows}
    keys = list(latest)
    present: dict[bytes, Any] = {}
    for start in range(0, len(keys), 1000):
        found = conn.execute(_SEGMENTS_OF, {"of_bucket": bucket, "of_keys": keys[start : start + 1000]})
        present |= {bytes(key): segments for key, segments in found}
    values = {key: _values(row) for key, row in latest.items()}
    if fresh := [{"new_bucket": bucket, "new_key": key, **values[key]} for key in keys if key not in present]:
        conn.execute(_INSERT, fresh)
    if again := [{"of_bucket": bucket, "of_key": key, **values[key]} for key in keys if key in present]:
        conn.execute(_REPLACE, again)
    kept = {s.blob for row in latest.values() for s in row.segments}
    replaced = [s.blob for segments in present.values() for s in from_column(segments)]
    replaced += [s.blob for row in rows if latest[row.key.encode()] is not row for s in row.segments]
    return [blob for blob in replaced if blob not in kept]


def _values(row: ObjectRow) -> dict[str, Any]:
    return {
        "new_size": row.size,
        "new_etag": row.etag,
        "new_modified": row.modified,
        "new_attributes": dict(row.attributes),
        "new_tags": dict(row.tags),
        "new_segments": to_column(row.segments),
        "new_data": row.data,
    }


def delete_object(
    conn: Connection, bucket: str, key: str, expect: Expect = Expect(), *, now: float, origin: Origin = SLIPWAY
) -> list[str]:
    """Remove the object if it is there; the blobs that nothing names any more. Precondition.

    There is no event of removing what is not there.
    """
    present = _present(conn, bucket, key)
    _check(present, expect)
    if present is None:
        return []
    conn.execute(delete(objects).where(_at(bucket, key)))
    owner = get_bucket(conn, bucket)
    if owner is not None:
        bucket_notifications.emit(conn, owner.notifications, owner.place, [Event(s3_events.DELETE, key, now)], origin)
    return [s.blob for s in from_column(present[1])]


def set_tags(conn: Connection, bucket: str, key: str, tags: Mapping[str, str]) -> bool:
    """False: no such object."""
    return bool(conn.execute(update(objects).where(_at(bucket, key)).values(tags=dict(tags))).rowcount)


# Listing


def successor(prefix: bytes) -> bytes | None:
    """The smallest octet string that sorts after everything that starts with `prefix`; None: there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def rolled_up(key: str, prefix: str, delimiter: str) -> str | None:
    """The common prefix that `key` is listed under; None when it is listed itself."""
    if not delimiter:
        return None
    end = key.find(delimiter, len(prefix))
    return None if end < 0 else key[: end + len(delimiter)]


def list_page(conn: Connection, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """Up to `limit` entries that sort after `after` (a key, or a rolled-up prefix, whose keys are then skipped)."""
    start = max(prefix.encode(), after.encode() + b"\0") if after else prefix.encode()
    if after and rolled_up(after, prefix, delimiter) == after and after.startswith(prefix):
        skipped = successor(after.encode())
        if skipped is None:
            return Page((), (), after, truncated=False)
        start = max(start, skipped)
    rows: list[ObjectRow] = []
    prefixes: list[str] = []
    last = after
    for row, group in _entries(conn, bucket, prefix, delimiter, start, limit + 1):
        if len(rows) + len(prefixes) == limit:
            return Page(rows, prefixes, last, truncated=True)
        if group is None:
            rows.append(row)
            last = row.key
        else:
            prefixes.append(group)
            last = group
    return Page(rows, prefixes, last, truncated=False)


def _entries(
    conn: Connection, bucket: str, prefix: str, delimiter: str, start: bytes, chunk: int
) -> Iterator[tuple[ObjectRow, str | None]]:
    """Rows from `start` on, one for each rolled-up prefix: what lies under a prefix is jumped over, not read."""
    end = successor(prefix.encode()) if prefix else None
    position: bytes | None = start
    while position is not None:
        query = select(*_HEAD).where(objects.c.bucket == bucket, objects.c.key >= position)
        if end is not None:
            query = query.where(objects.c.key < end)
        batch = conn.execute(query.order_by(objects.c.key).limit(chunk)).all()
        group: str | None = None
        for values in batch:
            key = bytes(values[1]).decode()
            if group is not None and key.startswith(group):
                continue
            group = rolled_up(key, prefix, delimiter)
            yield _row(values), group
        if len(batch) < chunk:
            return
        position = successor(group.encode()) if group is not None else bytes(batch[-1][1]) + b"\0"


def referenced(conn: Connection) -> Iterable[str]:
    """Every blob that an object names."""
    for (value,) in conn.execute(select(objects.c.segments).where(objects.c.segments.is_not(None))):
        for segment in from_column(value):
            yield segment.blob
