"""Bodies to matrices."""

from __future__ import annotations

from typing import Any

from slipway_host import codecs, recordio
from slipway_host.flavours import xgboost_matrix


def csv_to_dmatrix(input: str | bytes, dtype: Any = None) -> Any:
    return xgboost_matrix.from_csv(codecs.text(input))


def libsvm_to_dmatrix(string_like: str | bytes) -> Any:
    return xgboost_matrix.from_libsvm(codecs.text(string_like), zeros=xgboost_matrix.version() >= (3, 0))


def recordio_protobuf_to_dmatrix(string_like: bytes) -> Any:
    return xgboost_matrix.from_recordio(string_like)


def decode(obj: str | bytes, content_type: str) -> Any:
    """Raises UnsupportedFormatError."""
    kind = codecs.media_type(content_type)
    if kind == codecs.CSV:
        return csv_to_dmatrix(obj)
    if kind in ("text/libsvm", "text/x-libsvm"):
        return libsvm_to_dmatrix(obj)
    if kind == recordio.CONTENT_TYPE and isinstance(obj, bytes):
        return recordio_protobuf_to_dmatrix(obj)
    raise codecs.UnsupportedFormat(content_type)
