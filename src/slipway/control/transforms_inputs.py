"""The objects that a transform job is about: a listing or a manifest becomes rows, page by page, once, whatever dies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec

from slipway.backing.objects import Objects
from slipway.backing.objects_errors import ObjectsError
from slipway.core.transform_jobs import Planned, Progress
from slipway.core.transforms import IN_PROGRESS, BadManifest, folder_of, manifest_uris, output_key
from slipway.names import parse_s3_uri
from slipway.store import resources, transforms
from slipway.store.db import Connection, Db
from slipway.store.resources import Resource
from slipway.store.transforms import Listed

PAGE = 1000
PAGES = 20
"""Pages of a listing, each a transaction, before others have their turn."""
MANIFEST_BYTES = 64 * 1024 * 1024


Paged = Callable[[Resource, Planned, Progress, Progress], Awaitable[None]]


class Inputs:
    def __init__(self, db: Db, objects: Objects, paged: Paged) -> None:
        """`paged` is told of each page of a listing, once committed: what was listed before it, and with it."""
        self._db = db
        self._objects = objects
        self._paged = paged

    async def list(self, row: Resource, planned: Planned, progress: Progress) -> str | None:
        """Go on where it was left, some pages far. A text: why the input cannot be listed, in AWS's words. ObjectsError (5xx):
        the object store does not answer."""
        try:
            if planned.manifest:
                return await self._manifest(row, planned)
            for _ in range(PAGES):
                page = await self._objects.page(
                    planned.bucket, planned.key, after=progress.after, limit=PAGE, account=row.account
                )
                folder = folder_of(planned.key)
                # Keys that end in a slash and hold nothing are folders that a console made.
                found = [
                    Listed(planned.bucket, info.key, info.size, output_key(planned.output_path, info.key, folder))
                    for info in page.objects
                    if not (info.key.endswith("/") and info.size == 0)
                ]
                fresh = Progress(page.last, not page.truncated, progress.total + len(found))
                if not await self._listed(row, progress, fresh, found):
                    return None
                await self._paged(row, planned, progress, fresh)
                progress = fresh
                if progress.listed:
                    break
        except ObjectsError as error:
            if (error.status or 500) >= 500:
                raise
            return unlistable(row, planned, f"{error.code}: {error.message}")
        return None

    async def _listed(self, row: Resource, before: Progress, fresh: Progress, found: Sequence[Listed]) -> bool:
        """A page becomes rows, once, whatever dies. False: the job has moved on."""
        old, new = msgspec.to_builtins(before), msgspec.to_builtins(fresh)

        def write(connection: Connection) -> bool:
            now = resources.get_by_arn(connection, row.arn)
            if now is None or now.status != IN_PROGRESS or {**old, **now.observed} != old:
                return False
            resources.save(connection, now, replace(now, observed=new))
            transforms.add(connection, row.arn, row.account, found)
            return True

        return await self._db.write(write)

    async def _manifest(self, row: Resource, planned: Planned) -> str | None:
        objects = self._objects
        uri = f"s3://{planned.bucket}/{planned.key}"
        try:
            info, pieces = await objects.get(planned.bucket, planned.key, account=row.account)
            if info.size > MANIFEST_BYTES:
                raise BadManifest(f"it has {info.size} bytes; at most {MANIFEST_BYTES} are read")
            prefix, uris = manifest_uris(b"".join([piece async for piece in pieces]))
            found = [_of_manifest(planned, prefix, each) for each in uris]
        except BadManifest as error:
            return f"ClientError: The manifest {uri} cannot be used: {error}."
        progress = Progress()
        for at in range(0, len(found), PAGE):
            fresh = Progress(str(at), False, at + len(found[at : at + PAGE]))
            if at == 0:
                await self._db.write(lambda c: transforms.purge(c, (row.arn,), 1 << 30))  # of one who died at it
            if not await self._listed(row, progress, fresh, found[at : at + PAGE]):
                return None
            progress = fresh
        await self._listed(row, progress, replace(progress, listed=True), ())
        return None


def _of_manifest(planned: Planned, prefix: str, uri: str) -> Listed:
    where, base = parse_s3_uri(uri), parse_s3_uri(prefix)
    if where is None or base is None or not where.key:
        raise BadManifest(f"{uri} is not an S3 address")
    return Listed(where.bucket, where.key, 0, output_key(planned.output_path, where.key, base.key))


def unlistable(row: Resource, planned: Planned, why: str) -> str:
    """Why a job without input has failed, in AWS's words; `why` is of the object store."""
    uri = f"s3://{planned.bucket}/{planned.key}"
    return (
        f'ClientError: No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket '
        f'exists in the selected AWS region ("{row.region}"), that objects exist under that S3 prefix, and that the role has '
        f'"s3:ListBucket" permissions on bucket "{planned.bucket}". Error message from S3: {why}.'
    )[:1024]
