"""AWS's Linear Learner, the built-in algorithm: its artifact scored without MXNet (containers.md 3.11).

Statuses as AWS's algorithm server gives them: 415 for a content type it does not read, 400 for a body, 413 above its 6 MB,
204 for none; an Accept it does not write is answered as JSON.
"""

from __future__ import annotations

import json
import os
from typing import Any

from .. import builtin_bodies, codecs
from ..contract import LoadError, Place, listing
from ..recordio import Tensor
from ..service import Answer, Call, Service, failure
from . import linear_learner_model
from .linear_learner_model import BINARY, MULTICLASS, Linear

MAX_BODY = 6 * 1024 * 1024
_MEND = "pack the file model_algo-1 as AWS's training job wrote it: `tar -czf model.tar.gz model_algo-1`"


def load(place: Place) -> Service:
    """Raises LoadError."""
    path = os.path.join(place.model_dir, linear_learner_model.FILE)
    if not os.path.isfile(path):
        raise LoadError(
            "no-model",
            f"There is no file {linear_learner_model.FILE} at the top of the model archive (it holds "
            f"{listing(place.model_dir)}).",
            _MEND,
        )
    place.stage = f"loading {linear_learner_model.FILE}"
    try:
        return LinearLearnerService(place, linear_learner_model.read(path))
    except linear_learner_model.Refused as error:
        raise LoadError("model-fn-error", f"This is no Linear Learner model that slipway reads: {error}.", _MEND) from error


class LinearLearnerService(Service):
    default_content_type = codecs.JSON

    def __init__(self, place: Place, model: Linear) -> None:
        super().__init__(place)
        self._model = model
        limit = place.environment.get("MAX_CONTENT_LENGTH", "")
        self._limit = int(limit) if limit.isdigit() and len(limit) < 12 else MAX_BODY
        if self.default_accept not in builtin_bodies.ENCODERS:
            self.default_accept = codecs.JSON

    def execution_parameters(self) -> Answer | None:
        values = {
            "MaxConcurrentTransforms": os.cpu_count() or 1,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": self._limit // (1024 * 1024),
        }
        return 200, self.heads.of(codecs.JSON), json.dumps(values).encode()

    def invoke(self, call: Call, body: bytes) -> Answer:
        try:
            if len(body) > self._limit:
                return self._refusal(413, f"the payload has {len(body)} bytes; at most {self._limit} are taken")
            if not body:
                return 204, b"", b""
            rows = builtin_bodies.rows(body, call.content_type)
            predictions = self._predict(rows)
        except codecs.UnsupportedFormat as error:
            known = ", ".join(builtin_bodies.REQUEST_TYPES)
            return self._refusal(415, f"content-type {codecs.media_type(error.content_type)} not supported; it may be {known}")
        except (ValueError, OverflowError) as error:
            return self._refusal(400, f"unable to evaluate payload provided: {error}")
        except MemoryError as error:
            return failure(error)
        content_type, answer = builtin_bodies.answer(predictions, call.accept, self.default_accept)
        return 200, self.heads.of(content_type), answer

    def _refusal(self, status: int, message: str) -> Answer:
        return status, self.heads.of("text/html; charset=utf-8"), message.encode()

    def _predict(self, rows: list[Tensor]) -> list[dict[str, Any]]:
        """Raises ValueError for rows that do not fit the model."""
        if not rows:
            return []
        model = self._model
        scores = model.scores(_sums(model, rows))
        if model.predictor == MULTICLASS:
            labels = scores.argmax(axis=1).tolist()
            return [{"score": score, "predicted_label": label} for score, label in zip(scores.tolist(), labels)]
        flat = scores.reshape(len(rows), -1)
        if flat.shape[1] > 1:
            return [{"score": score} for score in flat.tolist()]
        singles = flat[:, 0].tolist()
        if model.predictor == BINARY:
            return [{"score": score, "predicted_label": int(score >= model.threshold)} for score in singles]
        return [{"score": score} for score in singles]


def _sums(model: Linear, rows: list[Tensor]) -> Any:
    """`rows · weights`. A sparse row costs what it names: its shape is only declared."""
    np = codecs.numpy()
    width = model.features
    if all(not row.is_sparse and len(row.values) == width for row in rows):
        return np.array([row.values for row in rows], "float32") @ model.weights
    sums = np.empty((len(rows), model.weights.shape[1]), "float32")
    for number, row in enumerate(rows, 1):
        columns = row.columns
        if (columns and columns != width) or (not row.is_sparse and len(row.values) != width):
            raise ValueError(f"record {number} has {columns} features, and the model takes {width}")
        values = np.array(row.values, "float32")
        if not row.is_sparse:
            sums[number - 1] = values @ model.weights
            continue
        keys = np.array(row.keys, "int64")
        if len(keys) and keys.max() >= width:
            raise ValueError(f"record {number} names feature {keys.max()}, and the model takes {width}")
        sums[number - 1] = values @ model.weights[keys]
    return sums
