"""The objects that settlements write: put together at the end of their transaction, where their bucket is the account's own."""

from __future__ import annotations

from sqlalchemy import Connection

from slipway.core.asynchronous import Staged
from slipway.core.s3_events import SLIPWAY, Origin
from slipway.store import objects


class Shelf:
    """The objects that one transaction puts, and whose the buckets are."""

    def __init__(self, connection: Connection, now: float, origin: Origin = SLIPWAY) -> None:
        self._connection = connection
        self._now = now
        self._origin = origin
        self._owners: dict[str, str | None] = {}
        self._rows: dict[str, list[objects.ObjectRow]] = {}

    def refused(self, bucket: str, account: str) -> str | None:
        """Why the account can write nothing there."""
        if bucket not in self._owners:
            found = objects.get_bucket(self._connection, bucket)
            self._owners[bucket] = found.account if found is not None else None
        if self._owners[bucket] is None:
            return "the specified bucket does not exist"
        return None if self._owners[bucket] == account else "access denied"

    def put(self, staged: Staged) -> None:
        row = objects.ObjectRow(
            staged.bucket,
            staged.key,
            staged.size,
            staged.etag,
            self._now,
            {"headers": {"ContentType": staged.content_type} if staged.content_type else {}, "metadata": {}},
            segments=[objects.Segment(blob, length) for blob, _, length in staged.segments],
            data=staged.data,
        )
        self._rows.setdefault(staged.bucket, []).append(row)

    def store(self) -> list[str]:
        """Put them; the blobs that nothing names any more."""
        return [
            blob
            for bucket, rows in self._rows.items()
            for blob in objects.put_objects(self._connection, bucket, rows, self._origin)
        ]
