"""The source of CopyObject and UploadPartCopy: found, and held against the request's conditions on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from slipway.backing.objects import Reading
from slipway.backing.objects_errors import precondition_failed
from slipway.services import Context
from slipway.services.s3.addresses import copy_source
from slipway.services.s3.conditions import unmodified


@asynccontextmanager
async def source_of(ctx: Context, request: dict[str, Any]) -> AsyncIterator[Reading]:
    """The object that `CopySource` names, open for reading. NoSuchKey, NoSuchBucket, AccessDenied, PreconditionFailed."""
    reading = await ctx.world.objects.open(*copy_source(ctx, request), account=ctx.account)
    try:
        if header := unmodified(request, reading.info, "CopySource"):
            raise precondition_failed(header)
        yield reading
    finally:
        reading.close()
