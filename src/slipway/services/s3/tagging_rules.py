"""What object tags may be: at most ten, keys to 128 characters, values to 256, S3's alphabet."""

from __future__ import annotations

import re
from collections.abc import Iterable

from slipway.backing.objects_errors import s3_error

MAX_TAGS = 10

_ALLOWED = re.compile(r"[\w\s+\-=.:/@]*")


def check_tags(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The tags by key; BadRequest, InvalidTag."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not 1 <= len(key) <= 128 or not _ALLOWED.fullmatch(key) or key.startswith("aws:"):
            raise s3_error("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if len(value) > 256 or not _ALLOWED.fullmatch(value):
            raise s3_error("InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value)
        if key in tags:
            raise s3_error("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        tags[key] = value
    if len(tags) > MAX_TAGS:
        raise s3_error("BadRequest", f"Object tags cannot be greater than {MAX_TAGS}")
    return tags
