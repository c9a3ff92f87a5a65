"""SAGEMAKER_INFERENCE_OUTPUT: what XGBoost's algorithm mode tells of each prediction beside the score (containers.md 3.7).

A comma-separated list of keys. Which of them a model can tell follows from its objective; the others are NaN, and the log
says so once. An objective that has none is an error of every request.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Callable

from .. import builtin_bodies, codecs, recordio

_LABELS = ("predicted_label", "labels")
_PROBABILITIES = ("probability", "probabilities")
_RAW = ("raw_score", "raw_scores")
_REGRESSION = (
    "reg:linear reg:squarederror reg:squaredlogerror reg:logistic reg:pseudohubererror reg:absoluteerror reg:gamma "
    "reg:tweedie count:poisson survival:cox survival:aft"
)
KEYS: dict[str, tuple[str, ...]] = {
    "binary:logistic": (*_LABELS, *_PROBABILITIES, *_RAW),
    "binary:logitraw": (*_LABELS, *_RAW),
    "binary:hinge": (*_LABELS, *_RAW),
    "multi:softmax": (*_LABELS, *_RAW),
    "multi:softprob": (*_LABELS, *_PROBABILITIES, *_RAW),
    **dict.fromkeys(_REGRESSION.split(), ("predicted_score",)),
}
"""By objective: what can be selected."""


class Selection:
    def __init__(self, wanted: str, objective: str, classes: int) -> None:
        """`wanted`: the variable's value; `classes`: of a multi-class model."""
        self._keys = [key for key in wanted.replace(" ", "").lower().split(",") if key]
        self._objective = objective
        self._known = KEYS.get(objective)
        count = classes if objective.startswith("multi:") else 2
        tellers = _several(count) if objective == "multi:softprob" else _single(objective, count)
        impossible = [key for key in self._keys if key not in (self._known or ())]
        if impossible and self._known:
            sys.stderr.write(
                f"[slipway] SAGEMAKER_INFERENCE_OUTPUT: {', '.join(impossible)} cannot be told by a model with objective "
                f"{objective} and will be NaN; it can tell {', '.join(self._known or ())}\n"
            )
        self._tellers = {key: _nothing if key in impossible else tellers[key] for key in self._keys}

    def encode(self, predictions: Any, kind: str, batch: bool = False) -> tuple[str, str | bytes]:
        """(content type, body) as `kind`, a media type; a batch ends its last line. Raises UnsupportedFormat, ValueError."""
        encoder = _ENCODERS.get(kind)
        if encoder is None:
            raise codecs.UnsupportedFormat(kind, accept=True)
        if self._known is None:
            raise ValueError(f"Objective `{self._objective}` unsupported for selectable inference predictions.")
        rows = [{key: tell(value) for key, tell in self._tellers.items()} for value in predictions.tolist()]
        content_type, body = encoder(rows)
        return content_type, body + "\n" if batch and isinstance(body, str) and kind == codecs.CSV else body


def _nothing(_value: Any) -> float:
    return math.nan


def _several(count: int) -> dict[str, Callable[[Any], Any]]:
    """Each prediction is a list of the classes' probabilities."""
    best: Callable[[Any], Any] = max
    return {
        "predicted_label": lambda row: row.index(max(row)),
        "labels": lambda _: list(range(count)),
        "probability": best,
        "probabilities": list,
        "raw_score": best,
        "raw_scores": list,
    }


def _single(objective: str, count: int) -> dict[str, Callable[[Any], Any]]:
    """Each prediction is a number: a probability, a margin, a label or a value."""
    threshold = {"binary:logistic": 0.5, "binary:logitraw": 0.0}.get(objective)
    return {
        "predicted_label": (lambda value: value) if threshold is None else (lambda value: int(value > threshold)),
        "labels": lambda _: list(range(count)),
        "probability": lambda value: value,
        "probabilities": lambda value: [1.0 - value, value],
        "raw_score": lambda value: value,
        "raw_scores": lambda value: [1.0 - value, value],
        "predicted_score": lambda value: value,
    }


def _csv(rows: list[dict[str, Any]]) -> tuple[str, str | bytes]:
    """A line for each prediction, none behind the last; lists are quoted."""
    lines = [",".join([f'"{value}"' if isinstance(value, list) else str(value) for value in row.values()]) for row in rows]
    return "text/csv; charset=utf-8", "\n".join(lines)


_ENCODERS: dict[str, Callable[[list[dict[str, Any]]], tuple[str, str | bytes]]] = {
    codecs.JSON: builtin_bodies.to_json,
    codecs.CSV: _csv,
    "jsonlines": builtin_bodies.to_jsonlines,
    builtin_bodies.JSONLINES: builtin_bodies.to_jsonlines,
    recordio.CONTENT_TYPE: builtin_bodies.to_recordio,
}
