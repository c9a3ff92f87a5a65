"""Arrays to bodies, by content type."""

from __future__ import annotations

from typing import Any

from slipway_host import codecs


def encode(array_like: Any, content_type: str) -> str | bytes:
    """Raises UnsupportedFormatError."""
    return codecs.encode(array_like, content_type)
