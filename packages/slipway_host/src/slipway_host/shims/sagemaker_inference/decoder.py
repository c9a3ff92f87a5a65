"""Bodies to arrays, by content type."""

from __future__ import annotations

from typing import Any

from slipway_host import codecs


def decode(obj: str | bytes, content_type: str) -> Any:
    """Raises UnsupportedFormatError."""
    if content_type == codecs.JSON:
        return codecs.from_json(obj)
    if content_type == codecs.CSV:
        return codecs.from_csv_a(obj)
    if content_type == codecs.NPY and isinstance(obj, (bytes, bytearray)):
        return codecs.from_npy(obj)
    if content_type == codecs.NPZ and isinstance(obj, (bytes, bytearray)):
        return codecs.from_npz(obj)
    raise codecs.UnsupportedFormat(content_type)
