"""Content on its way to an external S3: obstore puts it, whole or in parts, and gives whole objects back.

obstore is imported here and in `objects_external_clients` alone: 15 MB that the embedded store does not need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from slipway.backing.objects import Attributes, Condition, ObjectInfo
from slipway.backing.objects_errors import no_such_bucket, s3_error
from slipway.backing.objects_external_clients import translated
from slipway.backing.objects_promises import PIECE, PromisedBody

if TYPE_CHECKING:
    from obstore.store import S3Store

CHUNK = 8 * 1024 * 1024
"""Content up to this many bytes goes in one request; more as parts of this size."""

CONCURRENCY = 3
"""Chunks of one put on their way at a time: what bounds its memory."""

ATTRIBUTES = {
    "ContentType": "Content-Type",
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentEncoding": "Content-Encoding",
    "ContentLanguage": "Content-Language",
    "StorageClass": "Storage-Class",
}
"""Our names of an object's headers, and obstore's."""


async def whole(store: S3Store, info: ObjectInfo) -> AsyncIterator[bytes]:
    """All bytes of the object as it was found."""
    import obstore  # noqa: PLC0415 - see above

    try:
        found = await obstore.get_async(store, info.key, options={"if_match": f'"{info.etag}"'})
        async for piece in found.stream(min_chunk_size=PIECE):
            yield bytes(piece)
    except (obstore.exceptions.BaseError, OSError) as error:
        raise translated(error) from error


async def put(
    store: S3Store, bucket: str, key: str, head: bytes | None, body: PromisedBody, attributes: Attributes, condition: Condition
) -> Mapping[str, Any]:
    import obstore  # noqa: PLC0415 - see above

    uncarried = sorted(set(attributes.headers) - set(ATTRIBUTES))
    if uncarried:
        raise s3_error("NotImplemented", f"An external S3 is not given {', '.join(uncarried)} of an object.")
    named: dict[str, str] = {ATTRIBUTES[name]: value for name, value in attributes.headers.items()}
    mode: Any = (
        "create" if condition.if_none_match else {"e_tag": f'"{condition.if_match}"'} if condition.if_match else "overwrite"
    )
    try:
        return await obstore.put_async(
            store,
            key,
            body if head is None else head,
            attributes={**named, **attributes.metadata},
            tags=dict(attributes.tags) or None,
            mode=mode,
            use_multipart=head is None,
            chunk_size=CHUNK,
            max_concurrency=CONCURRENCY,
        )
    except FileNotFoundError as error:  # what obstore raises for 404
        raise no_such_bucket(bucket) from error
    except (obstore.exceptions.BaseError, OSError) as error:
        raise translated(error) from error


def check_carried(key: str) -> None:
    """obstore normalises keys as if they were paths; one that it would change is refused by name."""
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise s3_error(
            "NotImplemented",
            "A key with an empty part, `.` or `..` between slashes cannot be carried to the external S3.",
            Key=key,
        )
