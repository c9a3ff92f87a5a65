"""The embedded object store: rows in slipway's database, larger content in blob files, the row being the point of commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slipway.backing import objects_completion as completions
from slipway.backing.objects import (
    ALWAYS,
    MAX_OBJECT,
    PLAIN,
    UNPROMISED,
    Attributes,
    BucketInfo,
    Completion,
    Condition,
    ListPage,
    ObjectInfo,
    Objects,
    Part,
    Reading,
    Source,
    Span,
    Upload,
    Write,
)
from slipway.backing.objects_blobs import Blobs
from slipway.backing.objects_commits import Commits
from slipway.backing.objects_errors import no_such_key, s3_error
from slipway.backing.objects_intake import take_in
from slipway.backing.objects_notifications import configure
from slipway.backing.objects_rows import INLINE, expectation, owned, to_info, to_part, to_upload
from slipway.core import s3_events
from slipway.core.asynchronous import Staged
from slipway.core.s3_events import SLIPWAY, Origin, Rule
from slipway.store import objects as rows
from slipway.store import transforms, uploads
from slipway.store.db import Db, StoreError
from slipway.wire.errors import AwsError

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0
"""Between two looks at whether a process that writes blobs has died."""


class EmbeddedObjects(Objects):
    """Used by one process at a time, which owns `directory`; others may read, and stage (`objects_staging`).

    Call `start` once, from the event loop.
    """

    def __init__(self, db: Db, directory: str, *, now: Callable[[], float]) -> None:
        self._db = db
        self._blobs = Blobs(directory)
        self._now = now
        self.written: Callable[[str, str], None] = _nobody_listens
        """Told of bucket and key when an object has been put there and is committed."""
        self._commits = Commits(db, self._blobs)
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep what dead processes left, in the background."""
        self._sweeping = asyncio.get_running_loop().create_task(self._keep_swept())

    async def close(self) -> None:
        """Finish commits in flight, then the threads' work."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        await self._commits.close()
        await asyncio.to_thread(self._blobs.close)

    async def _keep_swept(self) -> None:
        """Now, and again whenever a process that writes blobs has died."""
        due = True
        while True:
            try:
                removed = await self.sweep() if due else 0
                if removed:
                    logger.info("objects-swept", extra={"blobs": removed})
                await asyncio.sleep(_LOOK_SECONDS)
                due = await self._blobs.deaths()
            except (StoreError, OSError) as error:
                logger.warning("objects-sweep-failed", extra={"error": str(error)})
                await asyncio.sleep(_LOOK_SECONDS)

    async def sweep(self) -> int:
        """Remove the blobs of dead processes that no row names; how many."""
        return await self._blobs.sweep(self._named)

    async def _named(self) -> Container[str]:
        return await self._db.read(
            lambda conn: {*rows.referenced(conn), *uploads.referenced(conn), *transforms.referenced(conn)}
        )

    # What other processes staged

    @contextlib.asynccontextmanager
    async def holding(self, staged: Sequence[Staged]) -> AsyncIterator[Sequence[Staged]]:
        """Around the transaction that names these: until it has ended no sweep takes their content.

        Gives those whose content is gone already (their writer died long ago): they must not be named.
        """
        held: list[str] = []
        gone: list[Staged] = []
        try:
            for each in staged:
                blobs = [blob for blob, _, _ in each.segments]
                if not blobs or await self._blobs.adopt(blobs):
                    held += blobs
                else:
                    gone.append(each)
            yield gone
        finally:
            self._blobs.adopted(held)

    def retire(self, blobs: Sequence[str]) -> None:
        """Remove what a committed transaction has replaced."""
        self._blobs.retire(blobs)

    # Buckets

    async def create_bucket(self, bucket: str, *, account: str, region: str) -> None:
        row = rows.BucketRow(bucket, account, region, self._now())

        def create(conn: Connection) -> Sequence[str]:
            present = rows.insert_bucket(conn, row)
            if present is not None:
                code = "BucketAlreadyOwnedByYou" if present.account == account else "BucketAlreadyExists"
                raise s3_error(code, BucketName=bucket)
            return ()

        await self._commits.commit(create)

    async def bucket(self, bucket: str, *, account: str | None = None) -> BucketInfo:
        row = await self._commits.read(lambda conn: owned(conn, bucket, account))
        return BucketInfo(row.name, row.account, row.region, row.created)

    async def delete_bucket(self, bucket: str, *, account: str | None = None) -> None:
        def remove(conn: Connection) -> Sequence[str]:
            owned(conn, bucket, account)
            rows.lock_bucket(conn, bucket, alone=True)
            if not rows.bucket_is_empty(conn, bucket):
                raise s3_error("BucketNotEmpty", BucketName=bucket)
            retired = uploads.drop_uploads_of(conn, bucket)
            rows.delete_bucket(conn, bucket)
            return retired

        await self._commits.commit(remove)

    async def buckets(self, account: str) -> list[BucketInfo]:
        found = await self._commits.read(lambda conn: rows.list_buckets(conn, account))
        return [BucketInfo(row.name, row.account, row.region, row.created) for row in found]

    async def notifications(self, bucket: str, *, account: str | None = None) -> Sequence[Rule]:
        return s3_events.rules_of((await self._commits.read(lambda conn: owned(conn, bucket, account))).notifications)

    async def set_notifications(
        self, bucket: str, rules: Sequence[Rule], *, account: str | None = None, origin: Origin = SLIPWAY, validate: bool = True
    ) -> None:
        def write(conn: Connection) -> Sequence[str]:
            configure(conn, owned(conn, bucket, account).place, rules, origin, self._now(), validate=validate)
            return ()

        await self._commits.commit(write)

    # Objects

    async def _row(self, bucket: str, key: str, account: str | None, *, content: bool) -> rows.ObjectRow:
        def get(conn: Connection) -> rows.ObjectRow:
            owned(conn, bucket, account)
            row = rows.get_object(conn, bucket, key, content=content)
            if row is None:
                raise no_such_key(key)
            return row

        return await self._commits.read(get)

    async def find(self, bucket: str, key: str, *, account: str | None = None) -> ObjectInfo:
        return to_info(await self._row(bucket, key, account, content=False))

    async def open(self, bucket: str, key: str, *, account: str | None = None) -> Reading:
        for _ in range(100):
            row = await self._row(bucket, key, account, content=True)
            blobs = [segment.blob for segment in row.segments]
            if not blobs or await self._blobs.pin(blobs):
                return _EmbeddedReading(to_info(row), row, self._blobs, blobs)
        logger.error("object-content-lost", extra={"bucket": bucket, "key": key})
        raise s3_error("InternalError")

    async def put(
        self,
        bucket: str,
        key: str,
        body: bytes | Source,
        *,
        attributes: Attributes = PLAIN,
        write: Write = UNPROMISED,
        condition: Condition = ALWAYS,
        account: str | None = None,
        origin: Origin = SLIPWAY,
    ) -> ObjectInfo:
        await self.bucket(bucket, account=account)
        taken = await take_in(self._blobs, body, write, inline=INLINE, most=MAX_OBJECT)
        detail: dict[str, Any] = {"headers": dict(attributes.headers), "metadata": dict(attributes.metadata)}
        if taken.checksums:
            detail |= {"checksums": taken.checksums, "checksum_type": "FULL_OBJECT"}
        row = rows.ObjectRow(
            bucket,
            key,
            taken.size,
            taken.md5,
            self._now(),
            detail,
            attributes.tags,
            taken.segments,
            taken.data,
        )

        def commit(conn: Connection) -> Sequence[str]:
            owned(conn, bucket, account)
            return rows.put_object(conn, row, expectation(condition), origin)

        await self._commits.commit(commit, taken.blobs)
        self.written(bucket, key)
        return to_info(row)

    async def delete(
        self,
        bucket: str,
        key: str,
        *,
        condition: Condition = ALWAYS,
        account: str | None = None,
        origin: Origin = SLIPWAY,
    ) -> None:
        def remove(conn: Connection) -> Sequence[str]:
            owned(conn, bucket, account)
            return rows.delete_object(conn, bucket, key, expectation(condition), now=self._now(), origin=origin)

        await self._commits.commit(remove)

    async def page(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str = "",
        after: str = "",
        limit: int = 1000,
        account: str | None = None,
    ) -> ListPage:
        def read(conn: Connection) -> rows.Page:
            owned(conn, bucket, account)
            return rows.list_page(conn, bucket, prefix, delimiter, after, limit)

        page = await self._commits.read(read)
        return ListPage([to_info(row) for row in page.rows], page.prefixes, page.last, page.truncated)

    async def tags(self, bucket: str, key: str, *, account: str | None = None) -> Mapping[str, str]:
        return (await self._row(bucket, key, account, content=False)).tags

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str], *, account: str | None = None) -> None:
        def write(conn: Connection) -> Sequence[str]:
            owned(conn, bucket, account)
            if not rows.set_tags(conn, bucket, key, tags):
                raise no_such_key(key)
            return ()

        await self._commits.commit(write)

    # Multipart uploads

    async def create_upload(
        self,
        bucket: str,
        key: str,
        *,
        attributes: Attributes = PLAIN,
        algorithm: str | None = None,
        checksum_type: str | None = None,
        account: str | None = None,
    ) -> Upload:
        detail: dict[str, Any] = {"headers": dict(attributes.headers), "metadata": dict(attributes.metadata)}
        if algorithm:
            detail |= {"algorithm": algorithm, "checksum_type": checksum_type}
        row = uploads.UploadRow(secrets.token_hex(32), bucket, key, self._now(), detail, attributes.tags)

        def create(conn: Connection) -> Sequence[str]:
            owned(conn, bucket, account)
            uploads.insert_upload(conn, row)
            return ()

        await self._commits.commit(create)
        return to_upload(row)

    async def _upload_row(self, bucket: str, key: str, upload: str, account: str | None) -> uploads.UploadRow:
        def get(conn: Connection) -> uploads.UploadRow:
            owned(conn, bucket, account)
            try:
                return uploads.get_upload(conn, bucket, key, upload)
            except uploads.NoUpload as error:
                raise s3_error("NoSuchUpload", UploadId=str(error)) from error

        return await self._commits.read(get)

    async def upload(self, bucket: str, key: str, upload: str, *, account: str | None = None) -> Upload:
        return to_upload(await self._upload_row(bucket, key, upload, account))

    async def put_part(self, upload: Upload, number: int, body: bytes | Source, *, write: Write = UNPROMISED) -> Part:
        write = completions.for_upload(upload, write)
        taken = await take_in(self._blobs, body, write, inline=-1, most=MAX_OBJECT)
        part = uploads.PartRow(upload.id, number, taken.size, taken.md5, self._now(), taken.checksums, taken.segments)
        await self._commits.commit(lambda conn: uploads.put_part(conn, upload.bucket, upload.key, part), taken.blobs)
        return to_part(part)

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> list[Part]:
        found = await self._commits.read(lambda conn: uploads.list_parts(conn, upload.id, after, limit))
        return [to_part(row) for row in found]

    async def uploads(
        self,
        bucket: str,
        prefix: str = "",
        *,
        after: tuple[str, str | None] = ("", None),
        limit: int = 1000,
        account: str | None = None,
    ) -> list[Upload]:
        def read(conn: Connection) -> list[uploads.UploadRow]:
            owned(conn, bucket, account)
            return uploads.list_uploads(conn, bucket, prefix, after, limit)

        return [to_upload(row) for row in await self._commits.read(read)]

    async def complete(
        self,
        bucket: str,
        key: str,
        upload: str,
        completion: Completion,
        *,
        account: str | None = None,
        origin: Origin = SLIPWAY,
    ) -> ObjectInfo:
        try:
            found = await self._upload_row(bucket, key, upload, account)
        except AwsError as error:
            done = await self._completed_before(bucket, key, upload) if error.code == "NoSuchUpload" else None
            if done is None:
                raise
            return done
        present = await self._commits.read(lambda conn: uploads.list_parts(conn, upload))
        by_number = {row.number: row for row in present}
        result = completions.judge(to_upload(found), [to_part(row) for row in present], completion)
        chosen = [by_number[part.number] for part in completion.parts]
        row = rows.ObjectRow(
            bucket,
            key,
            result.size,
            result.etag,
            self._now(),
            {
                "headers": found.attributes["headers"],
                "metadata": found.attributes["metadata"],
                "checksums": result.checksums,
                "checksum_type": result.checksum_type,
                "parts": [part.size for part in chosen],
                "upload": upload,
            },
            found.tags,
            [segment for part in chosen for segment in part.segments],
        )

        def commit(conn: Connection) -> Sequence[str]:
            owned(conn, bucket, account)
            return uploads.complete_upload(conn, found, chosen, row, expectation(completion.condition), origin)

        await self._commits.commit(commit)
        self.written(bucket, key)
        return to_info(row)

    async def _completed_before(self, bucket: str, key: str, upload: str) -> ObjectInfo | None:
        """The object, if this very upload made it: the answer to a caller who lost the first one."""
        row = await self._commits.read(lambda conn: rows.get_object(conn, bucket, key, content=False))
        return to_info(row) if row is not None and row.attributes.get("upload") == upload else None

    async def abort(self, upload: Upload) -> None:
        def drop(conn: Connection) -> Sequence[str]:
            uploads.get_upload(conn, upload.bucket, upload.key, upload.id, lock=True)
            return uploads.drop_upload(conn, upload.id)

        await self._commits.commit(drop)


class _EmbeddedReading(Reading):
    def __init__(self, info: ObjectInfo, row: rows.ObjectRow, blobs: Blobs, pinned: Sequence[str]) -> None:
        self.info = info
        self.data = row.data
        self._segments = row.segments
        self._blobs = blobs
        self._release = weakref.finalize(self, blobs.unpin, pinned)
        self._release.atexit = False

    async def read(self, span: Span) -> AsyncGenerator[bytes, None]:
        try:
            if self.data is not None:
                if span.length:
                    yield self.data[span.start : span.start + span.length]
                return
            async for piece in self._blobs.read(self._segments, span.start, span.length):
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        self._release()


def _nobody_listens(_bucket: str, _key: str) -> None:
    """Before somebody does."""
