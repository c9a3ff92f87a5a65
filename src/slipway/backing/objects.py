"""Objects: what the rest of slipway, and the S3 service, ask of an object store; embedded or an external S3.

Failures are `AwsError`s in S3's own terms (`objects_errors`), since both stores are S3 to their callers: `NoSuchBucket`,
`NoSuchKey`, `PreconditionFailed`, `InsufficientStorage` … `account` restricts a call to that account's buckets (AccessDenied on
another's); None is slipway itself, which may use every bucket.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slipway.core.s3_events import SLIPWAY, Origin, Rule
from slipway.wire.errors import AwsError

MAX_OBJECT = 5 * 1024**3
"""Bytes of a single put, of a part, and of a copy's source."""


class Source(Protocol):
    """Content on its way in.

    It may have `trailers: dict[str, str]`, filled at its end with aws-chunked trailers by lower-case name. What it raises voids
    all that it gave before.
    """

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class BucketInfo:
    name: str
    account: str
    region: str
    created: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a writer says about an object, kept and given back."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """By AWS's member name: ContentType, CacheControl, Expires (an HTTP date), StorageClass, ServerSideEncryption …"""
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    bucket: str
    key: str
    size: int
    etag: str
    """Without quotes."""
    modified: float = 0.0
    """Epoch seconds."""
    attributes: Attributes = field(default_factory=Attributes)
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Base64 by algorithm (`CRC32`); composite ones end in `-N`."""
    checksum_type: str | None = None
    """FULL_OBJECT or COMPOSITE; None when there is no checksum."""
    parts: Sequence[int] = ()
    """Sizes of the parts of a multipart object, where they are known."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of an object, `start` inclusive."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Write:
    """What a put or a part promises and asks for. Checksums are base64 by algorithm."""

    length: int | None = None
    """Bytes to expect; None when unknown."""
    md5: bytes | None = None
    """From Content-MD5."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """The content must have these; they are stored."""
    compute: Sequence[str] = ()
    """Algorithms to compute and store beside them (a trailer may bring the expected value)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A conditional write, checked at the commit."""

    if_match: str | None = None
    """ETag without quotes, or `*`."""
    if_none_match: bool = False
    """If-None-Match: * - nothing may stand there."""


PLAIN = Attributes()
UNPROMISED = Write()
ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class ListPage:
    objects: Sequence[ObjectInfo]
    """Without metadata."""
    prefixes: Sequence[str]
    last: str
    """The last entry; the next page is asked for with `after=last`."""
    truncated: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload in progress."""

    id: str
    bucket: str
    key: str
    created: float
    attributes: Attributes = field(default_factory=Attributes)
    algorithm: str | None = None
    """Checksum algorithm of the object to be."""
    checksum_type: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    etag: str
    modified: float = 0.0
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChosenPart:
    """A part as CompleteMultipartUpload names it."""

    number: int
    etag: str
    """Without quotes."""
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    parts: Sequence[ChosenPart]
    condition: Condition = field(default_factory=Condition)
    checksums: Mapping[str, str] = field(default_factory=dict)
    """The object must have these."""
    checksum_type: str | None = None
    size: int | None = None
    """The object must have this size."""


class Reading(ABC):
    """An object found: its state, and its bytes as of that state, whatever happens to the key meanwhile."""

    info: ObjectInfo
    data: bytes | None = None
    """All of the content, when it is at hand already."""

    @abstractmethod
    def read(self, span: Span) -> AsyncGenerator[bytes, None]:
        """The bytes, in pieces of up to some hundred KB. Closes the reading at its end."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; safe to repeat, and done by the garbage collector for the forgetful."""


class Objects(ABC):
    """The object store. All methods may be called at once from many tasks of one event loop."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def create_bucket(self, bucket: str, *, account: str, region: str) -> None:
        """BucketAlreadyOwnedByYou, BucketAlreadyExists."""

    @abstractmethod
    async def bucket(self, bucket: str, *, account: str | None = None) -> BucketInfo:
        """NoSuchBucket, AccessDenied."""

    @abstractmethod
    async def delete_bucket(self, bucket: str, *, account: str | None = None) -> None:
        """BucketNotEmpty, NoSuchBucket, AccessDenied. Its uploads are aborted."""

    @abstractmethod
    async def buckets(self, account: str) -> list[BucketInfo]:
        """Sorted by name."""

    @abstractmethod
    async def notifications(self, bucket: str, *, account: str | None = None) -> Sequence[Rule]:
        """The rules of its event notifications, as they were set. NoSuchBucket, AccessDenied."""

    @abstractmethod
    async def set_notifications(
        self, bucket: str, rules: Sequence[Rule], *, account: str | None = None, origin: Origin = SLIPWAY, validate: bool = True
    ) -> None:
        """Replace them; with `validate` every destination must be there, and gets a test event.

        InvalidArgument, NoSuchBucket, AccessDenied; NotImplemented with an external S3. `origin` of later calls (put, delete,
        complete) goes into the events.
        """

    @abstractmethod
    async def find(self, bucket: str, key: str, *, account: str | None = None) -> ObjectInfo:
        """NoSuchBucket, NoSuchKey, AccessDenied."""

    @abstractmethod
    async def open(self, bucket: str, key: str, *, account: str | None = None) -> Reading:
        """NoSuchBucket, NoSuchKey, AccessDenied."""

    @abstractmethod
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
        """Put an object: durable, and all of it visible at once, when this returns; nothing has changed when it raises."""

    @abstractmethod
    async def delete(
        self,
        bucket: str,
        key: str,
        *,
        condition: Condition = ALWAYS,
        account: str | None = None,
        origin: Origin = SLIPWAY,
    ) -> None:
        """Deleting what is not there succeeds."""

    @abstractmethod
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
        """Entries in order of their UTF-8 octets, those after `after`."""

    @abstractmethod
    async def tags(self, bucket: str, key: str, *, account: str | None = None) -> Mapping[str, str]: ...

    @abstractmethod
    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str], *, account: str | None = None) -> None: ...

    @abstractmethod
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
        """Begin a multipart upload."""

    @abstractmethod
    async def upload(self, bucket: str, key: str, upload: str, *, account: str | None = None) -> Upload:
        """NoSuchUpload."""

    @abstractmethod
    async def put_part(
        self,
        upload: Upload,
        number: int,
        body: bytes | Source,
        *,
        write: Write = UNPROMISED,
    ) -> Part:
        """Put a part in place of the one with this number."""

    @abstractmethod
    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> list[Part]:
        """Parts in order, at most `limit`."""

    @abstractmethod
    async def uploads(
        self,
        bucket: str,
        prefix: str = "",
        *,
        after: tuple[str, str | None] = ("", None),
        limit: int = 1000,
        account: str | None = None,
    ) -> list[Upload]:
        """Uploads by key, then id; those after (key, id), or after all of the key when the id is None."""

    @abstractmethod
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
        """InvalidPart, InvalidPartOrder, EntityTooSmall, NoSuchUpload, PreconditionFailed. Safe to repeat."""

    @abstractmethod
    async def abort(self, upload: Upload) -> None: ...

    # What follows from the above.

    async def head(self, bucket: str, key: str, *, account: str | None = None) -> ObjectInfo | None:
        """None: no such bucket or key, or another account's."""
        from_aws = ("NoSuchKey", "NoSuchBucket", "AccessDenied")
        try:
            return await self.find(bucket, key, account=account)
        except AwsError as error:
            if error.code in from_aws:
                return None
            raise

    async def get(
        self, bucket: str, key: str, span: Span | None = None, *, account: str | None = None
    ) -> tuple[ObjectInfo, AsyncIterator[bytes]]:
        """The object and its bytes (those of `span`), in pieces. NoSuchBucket, NoSuchKey, AccessDenied."""
        reading = await self.open(bucket, key, account=account)
        return reading.info, reading.read(span or Span(0, reading.info.size))

    async def list(self, bucket: str, prefix: str = "", *, account: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Every object under the prefix, in order."""
        after, more = "", True
        while more:
            page = await self.page(bucket, prefix, after=after, account=account)
            for info in page.objects:
                yield info
            after, more = page.last, page.truncated
