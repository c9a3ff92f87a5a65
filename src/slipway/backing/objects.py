"""Objects: embedded (database rows and blob files) or an external S3."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    bucket: str
    key: str
    size: int
    etag: str


class Objects:
    """The object service as the rest of slipway sees it."""

    async def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """None: no such bucket or key."""
        raise NotImplementedError
