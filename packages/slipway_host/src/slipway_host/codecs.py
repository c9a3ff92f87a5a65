"""The bodies that AWS's toolkits decode and encode: json, csv, npy, npz (containers.md 3.3). One implementation.

Two families of csv: A (`sagemaker_inference`) by `genfromtxt`, B (`sagemaker_containers`) by a csv reader. numpy is imported
when first needed: a script that brings its own `transform_fn` may do without.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Callable

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
NPZ = "application/x-npz"
ANY = "*/*"
OCTETS = "application/octet-stream"
TEXT = (JSON, CSV)
"""A body of exactly one of these types is given to user code as str (containers.md 3.2, rule 4)."""


class UnsupportedFormat(Exception):
    """No codec for this type. `accept`: it was asked for as the answer's."""

    def __init__(self, content_type: str, accept: bool = False, **_ignored: Any) -> None:
        self.content_type = content_type
        self.accept = accept
        self.message = (
            f"Content type {content_type} is not supported by this framework.\n\n"
            "Please implement input_fn to deserialize the request data, or output_fn to serialize the response."
        )
        super().__init__(self.message)


def numpy() -> Any:
    """The environment's numpy."""
    import numpy as np  # noqa: PLC0415  an optional dependency, and this is the module that wraps it

    return np


def media_type(content_type: str) -> str:
    """The type without parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()


def text(data: str | bytes) -> str:
    return data if isinstance(data, str) else bytes(data).decode("utf-8-sig")


def from_json(data: str | bytes) -> Any:
    return numpy().array(json.loads(data))


def from_csv(data: str | bytes) -> Any:
    """Family B: rows of one length to floats, squeezed. Raises ValueError for what is not a number."""
    rows = list(csv.reader(io.StringIO(text(data))))
    return numpy().array(rows).squeeze().astype(float)


def from_csv_a(data: str | bytes) -> Any:
    """Family A: `genfromtxt`; one row gives one dimension, mixed types a structured array."""
    return numpy().genfromtxt(io.StringIO(text(data)), dtype=None, delimiter=",", encoding="utf-8")


def from_npy(data: bytes, allow_pickle: bool = False) -> Any:
    """Raises ValueError for an array of objects unless `allow_pickle`: unpickling runs code of the sender's choice."""
    return numpy().load(io.BytesIO(data), allow_pickle=allow_pickle)


def decode_a(data: str | bytes, content_type: str, allow_pickle: bool = False) -> Any:
    """Family A by content type (parameters ignored). Raises UnsupportedFormat, ValueError."""
    kind = media_type(content_type)
    if kind == JSON:
        return from_json(data)
    if kind == CSV:
        return from_csv_a(data)
    if kind == NPY and isinstance(data, (bytes, bytearray)):
        return from_npy(data, allow_pickle)
    if kind == NPZ and isinstance(data, (bytes, bytearray)):
        return from_npz(data)
    raise UnsupportedFormat(content_type)


def from_npz(data: bytes) -> Any:
    import scipy.sparse  # noqa: PLC0415  optional, see numpy()

    return scipy.sparse.load_npz(io.BytesIO(data))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def to_json(value: Any) -> str:
    return json.dumps(value.tolist() if hasattr(value, "tolist") else value, default=_plain)


def to_csv(value: Any) -> str:
    """Family B: one dimension is a column; every line ends with a line feed."""
    if isinstance(value, str):
        return value
    array = numpy().array(value)
    # str() of a double from tolist() is the same text and quicker; of a single it would show digits that are not there.
    cells = array.tolist() if array.dtype.kind in "iubSU" or array.dtype == float else array
    if array.ndim == 0:
        raise ValueError("a single number is not a table; return an array")
    if array.ndim == 1:
        return "".join([f"{cell}\n" for cell in cells])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[str(cell) for cell in row] for row in cells])
    return out.getvalue()


def to_csv_a(value: Any) -> str:
    """Family A: `savetxt`; one dimension gives a value per line. Raises ValueError for a single number and a cube."""
    if isinstance(value, str):
        return value
    out = io.StringIO()
    numpy().savetxt(out, value, delimiter=",", fmt="%s")
    return out.getvalue()


def to_npy(value: Any) -> bytes:
    out = io.BytesIO()
    numpy().save(out, value, allow_pickle=False)
    return out.getvalue()


ENCODERS: dict[str, Callable[[Any], str | bytes]] = {JSON: to_json, CSV: to_csv, NPY: to_npy}


def decode(data: str | bytes, content_type: str, allow_pickle: bool = False) -> Any:
    """Family B by content type (parameters ignored). Raises UnsupportedFormat, ValueError."""
    kind = media_type(content_type)
    if kind == JSON:
        return from_json(data)
    if kind == CSV:
        return from_csv(data)
    if kind == NPY and isinstance(data, (bytes, bytearray)):
        return from_npy(data, allow_pickle)
    raise UnsupportedFormat(content_type)


def encode(value: Any, content_type: str) -> str | bytes:
    """Raises UnsupportedFormat for a type without encoder; ValueError, TypeError for a value it cannot carry."""
    encoder = ENCODERS.get(media_type(content_type))
    if encoder is None:
        raise UnsupportedFormat(content_type, accept=True)
    return encoder(value)


def accepted(accept: str, default: str, known: tuple[str, ...] = (JSON, CSV, NPY)) -> str:
    """The first type of an Accept list that has an encoder; `*/*` is the default. Raises UnsupportedFormat."""
    for item in accept.split(","):
        kind = media_type(item)
        if kind in known:
            return kind
        if kind in (ANY, ""):
            return default
    raise UnsupportedFormat(accept, accept=True)
