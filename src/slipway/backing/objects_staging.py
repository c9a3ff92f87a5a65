"""Objects as a dispatcher uses them: it reads inputs, and stages outputs that control's transaction makes visible.

A staged object is written whole and durable, and nobody sees it. In the embedded store (`objects_staging_embedded`) it is a
blob file, or only its bytes if they are few, which the row names that the settlement writes. In an external S3 it lies under
an attempt key until the settlement is won, and is then published: copied, which that store does atomically.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable

from slipway.backing.objects import Attributes, Reading
from slipway.backing.objects_errors import s3_error
from slipway.backing.objects_external import ExternalObjects
from slipway.core.asynchronous import Staged
from slipway.wire.errors import AwsError

logger = logging.getLogger(__name__)

ATTEMPTS = ".slipway-attempts/"
"""Prefix of the keys, in the output's bucket, under which an external store keeps what is not settled yet."""


class Staging(ABC):
    """Failures are S3's own AwsErrors, as of `backing.objects`."""

    @abstractmethod
    async def open(self, bucket: str, key: str, account: str) -> Reading:
        """The object, whatever happens to its key from now on. NoSuchBucket, NoSuchKey, AccessDenied."""

    resumable = False
    """Whether what is staged with `blob` may be put together with more of it later, also by another process."""

    @abstractmethod
    async def stage(
        self,
        bucket: str,
        key: str,
        body: bytes | AsyncIterator[bytes],
        content_type: str,
        account: str,
        most: int,
        *,
        blob: bool = False,
    ) -> Staged:
        """`blob`: never in the row, however short (where there are blobs).

        NoSuchBucket, AccessDenied, EntityTooLarge (more than `most` bytes), InsufficientStorage; what the body raises.
        Nothing is left behind when it raises.
        """

    @abstractmethod
    async def discard(self, staged: Staged) -> None:
        """Its settlement was not won. Never raises: what is left is garbage, and no more."""

    @abstractmethod
    async def publish(self, staged: Staged) -> None:
        """Its settlement was won: show it under its key. Safe to repeat, also by another process after this one's death."""

    @abstractmethod
    async def close(self) -> None: ...


class ExternalStaging(Staging):
    """`new_name` makes names of attempts that are unique for ever."""

    def __init__(self, objects: ExternalObjects, new_name: Callable[[], str]) -> None:
        self._objects = objects
        self._new_name = new_name

    async def close(self) -> None:
        await self._objects.close()

    async def open(self, bucket: str, key: str, account: str) -> Reading:
        return await self._objects.open(bucket, key, account=account)

    async def stage(
        self,
        bucket: str,
        key: str,
        body: bytes | AsyncIterator[bytes],
        content_type: str,
        account: str,
        most: int,
        *,
        blob: bool = False,
    ) -> Staged:
        attempt = f"{ATTEMPTS}{self._new_name()}"
        attributes = Attributes({"ContentType": content_type} if content_type else {})
        counted = body if isinstance(body, bytes) else _bounded(body, most)
        if isinstance(body, bytes) and len(body) > most:
            raise s3_error("EntityTooLarge", ProposedSize=len(body), MaxSizeAllowed=most)
        info = await self._objects.put(bucket, attempt, counted, attributes=attributes, account=account)
        return Staged(bucket, key, info.size, info.etag, content_type, attempt_key=attempt)

    async def discard(self, staged: Staged) -> None:
        if staged.attempt_key is None:
            return
        try:
            await self._objects.delete(staged.bucket, staged.attempt_key)
        except AwsError as error:
            logger.warning("attempt-not-removed", extra={"bucket": staged.bucket, "error": error.code})

    async def publish(self, staged: Staged) -> None:
        if staged.attempt_key is None:
            return
        try:
            await self._objects.copy(staged.bucket, staged.attempt_key, staged.key)
        except AwsError as error:
            if error.code not in ("NoSuchKey", "404", "NotFound"):
                raise
            return  # published by one who died before it could say so: the attempt goes only after the copy
        await self.discard(staged)


async def _bounded(body: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > most:
            raise s3_error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=most)
        yield piece
