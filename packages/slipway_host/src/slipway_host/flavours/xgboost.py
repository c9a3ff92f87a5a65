"""XGBoost (containers.md 3.7): script mode when SAGEMAKER_PROGRAM is set, otherwise algorithm mode."""

from __future__ import annotations

import csv
from typing import Any

from .. import codecs, recordio
from ..contract import Functions, Place, load_functions, load_model
from ..service import Defaults, ScriptService, Service
from . import xgboost_algorithm, xgboost_matrix


class _Defaults(Defaults):
    """Script mode: csv, libsvm and recordio to a DMatrix, family B out."""

    batched = True

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        kind = codecs.media_type(content_type)
        if kind == codecs.CSV:
            line = codecs.text(data)
            return xgboost_matrix.from_csv(line, delimiter(line))
        if kind in ("text/libsvm", "text/x-libsvm"):
            return xgboost_matrix.from_libsvm(codecs.text(data))
        if kind == recordio.CONTENT_TYPE and isinstance(data, bytes):
            return xgboost_matrix.from_recordio(data)
        raise codecs.UnsupportedFormat(content_type)

    def predict_fn(self, data: Any, model: Any) -> Any:
        return model.predict(data, validate_features=False)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        body = codecs.encode(prediction, accept)
        return body, "text/csv; charset=utf-8" if codecs.media_type(accept) == codecs.CSV else accept


def delimiter(text: str) -> str:
    try:
        found = csv.Sniffer().sniff(text.split("\n", 1)[0][:512]).delimiter
    except csv.Error:
        return ","
    return "," if found.isalnum() or found in ".-+" else found


def load(place: Place) -> Service:
    """Raises LoadError, and what user code raises."""
    if not place.program:
        return xgboost_algorithm.load(place)
    functions = load_functions(place, context=False)
    if functions is None:
        functions = Functions(None, context=False)
    return ScriptService(place, functions, load_model(functions, place), _Defaults())
