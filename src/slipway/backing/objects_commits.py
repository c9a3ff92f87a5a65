"""Transactions of the embedded object store: rows change in the database, and blobs go once no row names them any more.

A blob that a transaction was to name and did not goes at once; one that it has replaced goes after its commit. What the store
raises is told in S3's terms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from slipway.backing.objects_blobs import Blobs
from slipway.backing.objects_errors import no_such_bucket, precondition_failed, s3_error
from slipway.store import objects as rows
from slipway.store import uploads
from slipway.store.db import Db, StoreBusy, StoreError
from slipway.wire.errors import AwsError

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


class Commits:
    """`close` waits for those in flight."""

    def __init__(self, db: Db, blobs: Blobs) -> None:
        self._db = db
        self._blobs = blobs
        self._tasks: set[asyncio.Task[Any]] = set()

    async def read(self, fn: Callable[[Connection], T]) -> T:
        try:
            return await self._db.read(fn)
        except StoreError as error:
            raise _store_failure(error) from error

    async def commit(self, fn: Callable[[Connection], Sequence[str]], made: Sequence[str] = ()) -> None:
        """Run `fn`, whose answer is blobs to retire; `made` are blobs it would name. A cancelled caller does not stop it."""
        task = self._spawn(self._transact(fn, made))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def _transact(self, fn: Callable[[Connection], Sequence[str]], made: Sequence[str]) -> None:
        try:
            retired = await self._db.write(fn)
        except StoreBusy as error:
            self._blobs.retire(made)
            raise _store_failure(error) from error
        except StoreError as error:
            raise _store_failure(error) from error  # it may have committed: the next start's sweep knows
        except Exception as error:
            self._blobs.retire(made)
            raise _translated(error) from error
        self._blobs.retire(retired)

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _translated(error: Exception) -> Exception:
    """The store's own exceptions as S3's errors; any other as it is."""
    if isinstance(error, rows.NoBucket):
        return no_such_bucket(str(error))
    if isinstance(error, rows.Precondition):
        return s3_error("NoSuchKey") if error.missing else precondition_failed("If-None-Match" if error.absent else "If-Match")
    if isinstance(error, uploads.NoUpload):
        return s3_error("NoSuchUpload", UploadId=str(error))
    if isinstance(error, uploads.PartsChanged):
        return s3_error("OperationAborted")
    return error


def _store_failure(error: StoreError) -> AwsError:
    if "full" in str(error):
        return s3_error("InsufficientStorage")
    return s3_error("ServiceUnavailable", "The database cannot take the request now. Please try again.")
