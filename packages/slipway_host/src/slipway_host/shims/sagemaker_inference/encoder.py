"""Arrays to bodies, by content type."""

from __future__ import annotations

from typing import Any

from slipway_host import codecs

SUPPORTED_CONTENT_TYPES = frozenset({codecs.JSON, codecs.CSV, codecs.NPY})


def encode(array_like: Any, content_type: str) -> str | bytes:
    """Raises UnsupportedFormatError."""
    if content_type not in SUPPORTED_CONTENT_TYPES:
        raise codecs.UnsupportedFormat(content_type, accept=True)
    return codecs.to_csv_a(array_like) if content_type == codecs.CSV else codecs.encode(array_like, content_type)
