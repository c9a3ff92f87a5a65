"""Arrays from and to bodies."""

from __future__ import annotations

from typing import Any

from slipway_host import codecs


def array_to_npy(array_like: Any) -> bytes:
    return codecs.to_npy(array_like)


def npy_to_numpy(npy_array: bytes) -> Any:
    return codecs.from_npy(npy_array)


def array_to_json(array_like: Any) -> str:
    return codecs.to_json(array_like)


def json_to_numpy(string_like: str | bytes, dtype: Any = None) -> Any:
    array = codecs.from_json(string_like)
    return array if dtype is None else array.astype(dtype)


def array_to_csv(array_like: Any) -> str:
    return codecs.to_csv(array_like)


def csv_to_numpy(string_like: str | bytes, dtype: Any = None) -> Any:
    array = codecs.from_csv(string_like)
    return array if dtype is None else array.astype(dtype)


def decode(obj: str | bytes, content_type: str) -> Any:
    return codecs.decode(obj, content_type)


def encode(array_like: Any, content_type: str) -> str | bytes:
    return codecs.encode(array_like, content_type)
