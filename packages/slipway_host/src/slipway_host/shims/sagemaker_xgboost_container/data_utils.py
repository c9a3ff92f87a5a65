"""Content types of the XGBoost container."""

from __future__ import annotations

from slipway_host.flavours import xgboost_algorithm

CSV = "csv"
LIBSVM = "libsvm"
RECORDIO_PROTOBUF = "recordio-protobuf"


def get_content_type(content_type_cfg_val: str | None) -> str:
    """`csv`, `libsvm` or `recordio-protobuf`; nothing is libsvm. Raises an error that names a type it does not know."""
    return xgboost_algorithm.content_kind(content_type_cfg_val or xgboost_algorithm.LIBSVM)
