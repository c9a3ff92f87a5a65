"""An external S3 as the object store: obstore moves the bytes, botocore's client does what obstore has no call for.

obstore: GetObject and PutObject (in parts by itself where content is large). botocore, in threads: buckets, HeadObject,
listings, tags, deletes, multipart uploads of callers. Errors of the other side go to the caller as they are. Checksums that a
caller sends are verified here and not stored; what cannot be carried is refused by name. The other side knows nothing of our
accounts: one of them has it all.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import format_datetime
from typing import IO, TYPE_CHECKING, Any

from slipway.backing import objects_external_content as content
from slipway.backing.objects import (
    ALWAYS,
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
from slipway.backing.objects_errors import disk_error, no_such_bucket, no_such_key, s3_error
from slipway.backing.objects_external_clients import THREADS, called, connect, store_of
from slipway.backing.objects_promises import PIECE, PromisedBody
from slipway.core.s3_events import SLIPWAY, Origin, Rule
from slipway.wire.errors import AwsError

if TYPE_CHECKING:
    from obstore.store import S3Store

LAST = "\U0010ffff"
"""Sorts after every other character, in UTF-8 octets as well."""

_HEADERS = (*content.ATTRIBUTES, "WebsiteRedirectLocation", "ServerSideEncryption", "SSEKMSKeyId")


class ExternalObjects(Objects):
    """`account` is the one that may use it; slipway itself may in any case."""

    def __init__(self, *, endpoint: str, access_key: str, secret_key: str, region: str, account: str) -> None:
        self._account = account
        self._region = region
        self._endpoint = endpoint
        self._keys = (access_key, secret_key)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="external-s3")
        self._client = connect(endpoint, access_key, secret_key, region)
        self._stores: dict[str, S3Store] = {}

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)
        self._client.close()

    def _admit(self, account: str | None) -> None:
        if account not in (None, self._account):
            raise s3_error("AccessDenied")

    async def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One call of botocore's client, in a thread; its error as an AwsError."""
        call = functools.partial(called, getattr(self._client, operation), parameters)
        answer: dict[str, Any] = await asyncio.get_running_loop().run_in_executor(self._pool, call)
        return answer

    def _store(self, bucket: str) -> S3Store:
        if bucket not in self._stores:
            self._stores[bucket] = store_of(self._endpoint, self._keys, self._region, bucket)
        return self._stores[bucket]

    # Buckets

    async def create_bucket(self, bucket: str, *, account: str, region: str) -> None:
        self._admit(account)
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        await self._call("create_bucket", Bucket=bucket, **where)

    async def bucket(self, bucket: str, *, account: str | None = None) -> BucketInfo:
        self._admit(account)
        try:
            found = await self._call("head_bucket", Bucket=bucket)
        except AwsError as error:
            raise (no_such_bucket(bucket) if error.status == 404 else error) from error
        return BucketInfo(bucket, self._account, found.get("BucketRegion", self._region), 0.0)

    async def notifications(self, bucket: str, *, account: str | None = None) -> Sequence[Rule]:
        await self.bucket(bucket, account=account)
        return ()

    async def set_notifications(
        self, bucket: str, rules: Sequence[Rule], *, account: str | None = None, origin: Origin = SLIPWAY, validate: bool = True
    ) -> None:
        message = "Event notifications come from the embedded object store alone: have the external S3 publish its events."
        raise s3_error("NotImplemented", message)

    async def delete_bucket(self, bucket: str, *, account: str | None = None) -> None:
        self._admit(account)
        await self._call("delete_bucket", Bucket=bucket)

    async def buckets(self, account: str) -> list[BucketInfo]:
        if account != self._account:
            return []
        found = await self._call("list_buckets")
        listed = [
            BucketInfo(b["Name"], account, b.get("BucketRegion", self._region), b["CreationDate"].timestamp())
            for b in found.get("Buckets", ())
        ]
        return sorted(listed, key=lambda b: b.name)

    # Objects

    async def find(self, bucket: str, key: str, *, account: str | None = None) -> ObjectInfo:
        self._admit(account)
        try:
            found = await self._call("head_object", Bucket=bucket, Key=key)
        except AwsError as error:
            if error.status != 404:
                raise
            await self.bucket(bucket)
            raise no_such_key(key) from error
        return _to_info(bucket, key, found)

    async def open(self, bucket: str, key: str, *, account: str | None = None) -> Reading:
        content.check_carried(key)
        return _ExternalReading(await self.find(bucket, key, account=account), self)

    def whole(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        """All bytes of the object as it was found."""
        return content.whole(self._store(info.bucket), info)

    async def ranged(self, info: ObjectInfo, span: Span) -> AsyncIterator[bytes]:
        """Some bytes of the object as it was found."""
        wanted = f"bytes={span.start}-{span.start + span.length - 1}"
        found = await self._call("get_object", Bucket=info.bucket, Key=info.key, IfMatch=f'"{info.etag}"', Range=wanted)
        body = found["Body"]
        loop = asyncio.get_running_loop()
        try:
            while piece := await loop.run_in_executor(self._pool, called, body.read, {"amt": PIECE}):
                yield piece
        finally:
            body.close()

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
        self._admit(account)
        content.check_carried(key)
        promised = PromisedBody(body, write)
        head = await promised.first(content.CHUNK)
        if head is None and condition != ALWAYS:
            raise s3_error(
                "NotImplemented",
                f"Conditional writes of more than {content.CHUNK} bytes are not implemented for an external S3.",
            )
        answer = await content.put(self._store(bucket), bucket, key, head, promised, attributes, condition)
        info = await self.find(bucket, key)
        etag = (answer.get("e_tag") or info.etag).strip('"')
        return ObjectInfo(
            bucket,
            key,
            promised.size,
            etag,
            info.modified,
            attributes,
            promised.checksums,
            "FULL_OBJECT" if promised.checksums else None,
        )

    async def delete(
        self,
        bucket: str,
        key: str,
        *,
        condition: Condition = ALWAYS,
        account: str | None = None,
        origin: Origin = SLIPWAY,
    ) -> None:
        self._admit(account)
        match = {"IfMatch": condition.if_match} if condition.if_match is not None else {}
        await self._call("delete_object", Bucket=bucket, Key=key, **match)

    async def copy(self, bucket: str, source: str, target: str) -> None:
        """Within a bucket, by the other side itself: whole or not at all. NoSuchKey."""
        await self._call("copy_object", Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": source})

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
        self._admit(account)
        if after and delimiter and after.endswith(delimiter) and after != prefix:
            after += LAST  # else the prefix would be listed again, for the keys below it
        found = await self._call(
            "list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter=delimiter, StartAfter=after, MaxKeys=limit
        )
        infos = [_listed(bucket, entry) for entry in found.get("Contents", ())]
        prefixes = [entry["Prefix"] for entry in found.get("CommonPrefixes", ())]
        last = max((*(info.key for info in infos), *prefixes), key=str.encode, default=after)
        return ListPage(infos, prefixes, last, bool(found.get("IsTruncated")))

    async def tags(self, bucket: str, key: str, *, account: str | None = None) -> Mapping[str, str]:
        self._admit(account)
        found = await self._call("get_object_tagging", Bucket=bucket, Key=key)
        return {tag["Key"]: tag["Value"] for tag in found.get("TagSet", ())}

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str], *, account: str | None = None) -> None:
        self._admit(account)
        if not tags:
            await self._call("delete_object_tagging", Bucket=bucket, Key=key)
            return
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        await self._call("put_object_tagging", Bucket=bucket, Key=key, Tagging={"TagSet": tag_set})

    # Multipart uploads: the external store's own

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
        self._admit(account)
        headers: dict[str, Any] = dict(attributes.headers)
        if attributes.tags:
            raise s3_error("NotImplemented", "Tags of a multipart upload are not implemented for an external S3.")
        made = await self._call(
            "create_multipart_upload", Bucket=bucket, Key=key, Metadata=dict(attributes.metadata), **headers
        )
        return Upload(made["UploadId"], bucket, key, 0.0, attributes)

    async def upload(self, bucket: str, key: str, upload: str, *, account: str | None = None) -> Upload:
        """Not looked for: the operation that follows says so when it is unknown."""
        self._admit(account)
        return Upload(upload, bucket, key, 0.0)

    async def put_part(self, upload: Upload, number: int, body: bytes | Source, *, write: Write = UNPROMISED) -> Part:
        promised = PromisedBody(body, write)
        loop = asyncio.get_running_loop()
        with tempfile.SpooledTemporaryFile(content.CHUNK) as spool:  # seekable, so that the client can sign and retry it
            try:
                async for piece in promised:
                    await loop.run_in_executor(self._pool, spool.write, piece)
            except OSError as error:
                raise disk_error(error) from error
            spool.seek(0)
            sent = await self._send_part(upload, number, spool, promised.size)
        return Part(number, promised.size, sent["ETag"].strip('"'), checksums=promised.checksums)

    async def _send_part(self, upload: Upload, number: int, spool: IO[bytes], size: int) -> dict[str, Any]:
        sending = asyncio.ensure_future(
            self._call(
                "upload_part",
                Bucket=upload.bucket,
                Key=upload.key,
                UploadId=upload.id,
                PartNumber=number,
                Body=spool,
                ContentLength=size,
            )
        )
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending])  # the thread reads the file that would be closed
            raise

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> list[Part]:
        found: list[Part] = []
        more = True
        while more and len(found) < limit:
            page = await self._call(
                "list_parts",
                Bucket=upload.bucket,
                Key=upload.key,
                UploadId=upload.id,
                PartNumberMarker=after,
                MaxParts=min(limit - len(found), 1000),
            )
            listed = page.get("Parts", ())
            found += [
                Part(part["PartNumber"], part["Size"], part["ETag"].strip('"'), _seconds(part.get("LastModified")))
                for part in listed
            ]
            more = bool(page.get("IsTruncated")) and bool(listed)
            after = found[-1].number if found else after
        return found

    async def uploads(
        self,
        bucket: str,
        prefix: str = "",
        *,
        after: tuple[str, str | None] = ("", None),
        limit: int = 1000,
        account: str | None = None,
    ) -> list[Upload]:
        self._admit(account)
        key, upload = after
        marker = {"KeyMarker": key, "UploadIdMarker": upload or ""} if key else {}
        page = await self._call("list_multipart_uploads", Bucket=bucket, Prefix=prefix, MaxUploads=limit, **marker)
        return [
            Upload(entry["UploadId"], bucket, entry["Key"], _seconds(entry.get("Initiated")))
            for entry in page.get("Uploads", ())
        ]

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
        self._admit(account)
        conditions: dict[str, Any] = {}
        if completion.condition.if_none_match:
            conditions["IfNoneMatch"] = "*"
        if completion.condition.if_match is not None:
            conditions["IfMatch"] = completion.condition.if_match
        parts = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in completion.parts]
        await self._call(
            "complete_multipart_upload",
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            **conditions,
        )
        return await self.find(bucket, key)

    async def abort(self, upload: Upload) -> None:
        await self._call("abort_multipart_upload", Bucket=upload.bucket, Key=upload.key, UploadId=upload.id)


class _ExternalReading(Reading):
    """Whole objects come through obstore; ranges through botocore, since obstore insists on a status (206) that some servers
    do not give."""

    def __init__(self, info: ObjectInfo, owner: ExternalObjects) -> None:
        self.info = info
        self._owner = owner

    async def read(self, span: Span) -> AsyncGenerator[bytes, None]:
        if not span.length:
            return
        whole = span == Span(0, self.info.size)
        size = 0
        async for piece in self._owner.whole(self.info) if whole else self._owner.ranged(self.info, span):
            size += len(piece)
            yield piece
        if size != span.length:
            raise s3_error("InternalError", "The external S3 gave another number of bytes than was asked for.")

    def close(self) -> None:
        """Nothing is held."""


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment is not None else 0.0


def _to_info(bucket: str, key: str, found: Mapping[str, Any]) -> ObjectInfo:
    headers = {name: found[name] for name in _HEADERS if found.get(name)}
    if isinstance(found.get("Expires"), datetime):
        headers["Expires"] = format_datetime(found["Expires"], usegmt=True)
    return ObjectInfo(
        bucket,
        key,
        found["ContentLength"],
        found["ETag"].strip('"'),
        _seconds(found["LastModified"]),
        Attributes(headers, found.get("Metadata", {})),
    )


def _listed(bucket: str, entry: Mapping[str, Any]) -> ObjectInfo:
    headers = {"StorageClass": entry["StorageClass"]} if entry.get("StorageClass") else {}
    etag = entry.get("ETag", "").strip('"')
    return ObjectInfo(bucket, entry["Key"], entry["Size"], etag, _seconds(entry["LastModified"]), Attributes(headers))
