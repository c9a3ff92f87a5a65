"""Rows of several requests as one table, and a table of predictions as each request's own: arrays, tensors, frames, lists.

Nothing is imported here: what a value is, its own module tells.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import Any

_ARRAYS = ("numpy", "torch", "scipy", "pandas")


class NotRows(ValueError):
    """Predictions that cannot be divided among the requests whose rows they are of."""


def likeness(value: Any) -> Hashable | None:
    """Equal for values that can be joined; None: this one stands for itself (it has no rows that could be told).

    An array needs two dimensions: a single one may be a row or a column.
    """
    kind = type(value)
    if kind is list:
        return "list"
    module = kind.__module__.partition(".")[0]
    if module == "xgboost":
        return _of_matrix(value)
    shape = getattr(value, "shape", None)
    if module not in _ARRAYS or shape is None or len(shape) < 2:
        return None
    if module == "pandas":
        return (kind, tuple(value.columns), tuple(map(str, value.dtypes)))
    return (kind, str(value.dtype), tuple(shape[1:]), str(getattr(value, "device", "")))


def _of_matrix(value: Any) -> Hashable | None:
    """Of a DMatrix of rows alone, from a release that gives them back (1.7 and newer)."""
    if type(value).__name__ != "DMatrix" or not hasattr(value, "get_data"):
        return None
    more = value.feature_names or value.feature_types or len(value.get_base_margin()) or len(value.get_weight())
    return None if more else ("DMatrix", value.num_col())


def count(value: Any) -> int:
    if isinstance(value, list):
        return len(value)
    return int(value.num_row() if hasattr(value, "num_row") else value.shape[0])


def join(values: Sequence[Any]) -> Any:
    """The rows of all, in their order. The values are alike (`likeness`)."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, list):
        return [row for value in values for row in value]
    module = type(first).__module__.partition(".")[0]
    framework = sys.modules[module]
    if module == "xgboost":
        return framework.DMatrix(sys.modules["scipy.sparse"].vstack([value.get_data() for value in values], format="csr"))
    if module == "torch":
        return framework.cat(list(values))
    if module == "pandas":
        return framework.concat(list(values), ignore_index=True)
    if module == "scipy":
        return sys.modules["scipy.sparse"].vstack(list(values), format=first.format)
    return framework.concatenate(list(values))


def split(predicted: Any, counts: Sequence[int]) -> list[Any]:
    """The predictions of each request, which had so many rows. A tuple or dict of tables is divided table by table.

    Raises NotRows.
    """
    total = sum(counts)
    if type(predicted) is tuple:
        return list(zip(*(split(part, counts) for part in predicted)))
    if type(predicted) is dict:
        parts = {name: split(part, counts) for name, part in predicted.items()}
        return [{name: part[index] for name, part in parts.items()} for index in range(len(counts))]
    if isinstance(predicted, list):
        found = len(predicted)
    else:
        shape = getattr(predicted, "shape", ())
        found = int(shape[0]) if shape else -1
    if found != total:
        what = f"{found} predictions" if found >= 0 else f"a {type(predicted).__name__}"
        raise NotRows(
            f"predict_fn returned {what} for {total} rows of {len(counts)} requests; called with several requests' rows "
            "together it must return a prediction for each row, in their order"
        )
    source = getattr(predicted, "iloc", predicted)
    ends = list(accumulate(counts))
    return [source[end - size : end] for end, size in zip(ends, counts)]
