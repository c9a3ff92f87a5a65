"""Request bodies of XGBoost models as a DMatrix; and what releases of xgboost call differently."""

from __future__ import annotations

import csv
import json
import struct
from typing import Any

from .. import codecs, recordio

_MOST_CELLS = 1 << 28
"""Of a table that is made of sparse rows: 1 GiB."""


def xgboost() -> Any:
    """The environment's xgboost."""
    import xgboost as xgb  # noqa: PLC0415  optional, and this is the module that wraps it

    return xgb


def from_csv(text: str) -> Any:
    """Rows of numbers, between commas or what the first line has in their place; an empty field is NaN. Raises ValueError."""
    if not text:
        raise ValueError("there is no row")
    between = _delimiter(text.split("\n", 1)[0][:512])
    rows = [[cell if cell.strip() else "nan" for cell in line.split(between)] for line in text.split("\n")]
    return xgboost().DMatrix(codecs.numpy().array(rows).astype("float32"))


def _delimiter(line: str) -> str:
    try:
        found = csv.Sniffer().sniff(line).delimiter
    except csv.Error:
        return ","
    return "," if found.isalnum() or found in ".-+" else found


def from_recordio(body: bytes) -> Any:
    """Records with features `values`, dense or sparse; a column that a sparse one does not name is missing, not 0.
    Raises ValueError."""
    rows = recordio.rows(body)
    if not any(row.is_sparse for row in rows):
        if len({len(row.values) for row in rows}) > 1:
            raise ValueError("the records have different numbers of features")
        return xgboost().DMatrix(codecs.numpy().array([row.values for row in rows], "float32"))
    values: list[float] = []
    columns: list[int] = []
    starts = [0]
    for row in rows:
        values += row.values
        columns += row.keys if row.is_sparse else range(len(row.values))
        starts.append(len(columns))
    return _sparse(values, columns, starts, max([row.columns for row in rows] + [max(columns, default=-1) + 1]))


def from_libsvm(text: str, zeros: bool = False) -> Any:
    """`label index:value …` lines, the label optional. Raises ValueError.

    Indices are columns, as in the images up to 1.7; from 3.0 on they begin at 1 where no line says 0. A column that is not
    named is missing, or 0 with `zeros` (script mode from 3.0 on).
    """
    values: list[float] = []
    columns: list[int] = []
    starts = [0]
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.partition("#")[0].split()
        for position, field in enumerate(fields):
            index, colon, value = field.partition(":")
            if not colon:
                if position:
                    raise ValueError(f"line {number}: {field!r} is not index:value")
                float(index)
            elif index != "qid":
                columns.append(int(index))
                values.append(float(value))
                if columns[-1] < 0:
                    raise ValueError(f"line {number}: the index {index} is below 0")
        if fields:
            starts.append(len(columns))
    if columns and min(columns) >= 1 and version() >= (3, 0):
        columns = [column - 1 for column in columns]
    return _sparse(values, columns, starts, max(columns, default=-1) + 1, zeros)


def _sparse(values: list[float], columns: list[int], starts: list[int], width: int, zeros: bool = False) -> Any:
    from scipy import sparse  # noqa: PLC0415  optional, xgboost brings it

    if width > 2**31 - 1:
        raise ValueError(f"{width} columns are more than a matrix has")
    np = codecs.numpy()
    shape = (len(starts) - 1, width)
    matrix = sparse.csr_matrix(
        (np.array(values, "float32"), np.array(columns, "int64"), np.array(starts, "int64")), shape=shape
    )
    if zeros and shape[0] * width > _MOST_CELLS:
        raise ValueError(f"{shape[0]} rows of {width} columns are too large a table")
    return xgboost().DMatrix(matrix.toarray() if zeros else matrix)


def version() -> tuple[int, int]:
    """Of the environment's xgboost: major and minor."""
    major, minor = str(xgboost().__version__).split(".")[:2]
    return int(major), int(minor)


def predict(booster: Any, matrix: Any) -> Any:
    """With the rounds up to the best one, where training stopped early; in the words of every release since 0.90."""
    best = booster.attr("best_iteration")
    if version() < (1, 4):
        limit = booster.attr("best_ntree_limit")
        return booster.predict(matrix, ntree_limit=int(limit or 0), validate_features=False)
    rounds = (0, int(best) + 1) if best is not None else (0, 0)
    return booster.predict(matrix, iteration_range=rounds, validate_features=False)


def features(booster: Any) -> int:
    """How many a model was trained with."""
    count = getattr(booster, "num_features", None)
    return int(count()) if count is not None else len(booster.feature_names or ())


def objective(booster: Any) -> tuple[str, int]:
    """Name and number of classes; empty and 0 where they cannot be told."""
    try:
        if version() < (1, 0):
            return _objective_of_binary(bytes(booster.save_raw()))
        learner = json.loads(booster.save_config())["learner"]
        return str(learner["objective"]["name"]), int(learner["learner_model_param"]["num_class"])
    except (KeyError, TypeError, ValueError, AttributeError, struct.error):
        return "", 0


def _objective_of_binary(raw: bytes) -> tuple[str, int]:
    """The head of the binary format that releases before 1.0 have: 136 bytes of parameters, then the objective's name."""
    raw = raw.removeprefix(b"binf")
    (classes,) = struct.unpack_from("<i", raw, 8)
    (length,) = struct.unpack_from("<Q", raw, 136)
    return raw[144 : 144 + min(length, 100)].decode("ascii"), classes
