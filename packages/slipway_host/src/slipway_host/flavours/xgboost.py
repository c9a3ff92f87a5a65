"""XGBoost (containers.md 3.7): script mode when SAGEMAKER_PROGRAM is set, otherwise algorithm mode."""

from __future__ import annotations

from typing import Any

from .. import codecs, recordio
from ..contract import Functions, Place, load_functions, load_model
from ..service import Answer, ScriptService, Service
from . import xgboost_algorithm, xgboost_matrix
from .flask import FlaskDefaults


class _Defaults(FlaskDefaults):
    """Script mode: csv, libsvm and recordio to a DMatrix, family B out."""

    batched = True

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        kind = codecs.media_type(content_type)
        if kind == codecs.CSV:
            return xgboost_matrix.from_csv(codecs.text(data))
        if kind in ("text/libsvm", "text/x-libsvm"):
            return xgboost_matrix.from_libsvm(codecs.text(data), zeros=xgboost_matrix.version() >= (3, 0))
        if kind == recordio.CONTENT_TYPE and isinstance(data, bytes):
            return xgboost_matrix.from_recordio(data)
        raise codecs.UnsupportedFormat(content_type)

    def predict_fn(self, data: Any, model: Any) -> Any:
        return model.predict(data, validate_features=False)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        if accept not in codecs.ENCODERS:
            raise codecs.UnsupportedFormat(accept, accept=True)
        return codecs.encode(prediction, accept), accept

    def unsupported(self, error: codecs.UnsupportedFormat) -> Answer:
        return self.failed(error)


def load(place: Place) -> Service:
    """Raises LoadError, and what user code raises."""
    if not place.program:
        return xgboost_algorithm.load(place)
    functions = load_functions(place, context=False)
    if functions is None:
        functions = Functions(None, context=False)
    return ScriptService(place, functions, load_model(functions, place), _Defaults(place))
