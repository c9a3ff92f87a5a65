"""Request bodies of XGBoost models as a DMatrix."""

from __future__ import annotations

from typing import Any

from .. import codecs


def xgboost() -> Any:
    """The environment's xgboost."""
    import xgboost as xgb  # noqa: PLC0415  optional, and this is the module that wraps it

    return xgb


def from_csv(text: str, delimiter: str = ",") -> Any:
    """Rows of numbers; an empty field is NaN. Raises ValueError for what is not a table of numbers."""
    rows = [[cell if cell.strip() else "nan" for cell in line.split(delimiter)] for line in text.split("\n")]
    return xgboost().DMatrix(codecs.numpy().array(rows).astype("float32"))


def from_libsvm(text: str) -> Any:
    """`label index:value …` lines, the label optional, indices from 1. A column that is not named is missing, not 0.
    Raises ValueError."""
    from scipy import sparse  # noqa: PLC0415  optional, xgboost brings it

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
                columns.append(int(index) - 1)
                values.append(float(value))
                if columns[-1] < 0:
                    raise ValueError(f"line {number}: indices begin at 1")
        if fields:
            starts.append(len(columns))
    np = codecs.numpy()
    shape = (len(starts) - 1, max(columns, default=-1) + 1)
    matrix = sparse.csr_matrix(
        (np.array(values, "float32"), np.array(columns, "int64"), np.array(starts, "int64")), shape=shape
    )
    return xgboost().DMatrix(matrix)
