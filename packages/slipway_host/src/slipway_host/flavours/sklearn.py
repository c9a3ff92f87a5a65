"""scikit-learn (containers.md 3.6): json, csv and npy in and out, `model.predict`, the "ours" column of its table.

SLIPWAY_STRICT_AWS_ERRORS=1 restores AWS's column; SLIPWAY_ALLOW_PICKLE=1 lets npy bodies hold pickled objects.
"""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

from .. import codecs, frames
from ..contract import Functions, LoadError, Place, load_functions, load_model
from ..service import Answer, Defaults, ScriptService, Service, failure

_PICKLES = (".joblib", ".pkl")
_PAGE = (
    b"<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal Server Error</h1>\n"
    b"<p>The server encountered an internal error and was unable to complete your request. Either the server is overloaded "
    b"or there is an error in the application.</p>\n"
)


class _Defaults(Defaults):
    batched = True

    def __init__(self, place: Place) -> None:
        self._strict = switch(place, "SLIPWAY_STRICT_AWS_ERRORS")
        self._pickle = switch(place, "SLIPWAY_ALLOW_PICKLE")
        self._accept = place.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "") or codecs.JSON

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        """json and csv as float32; one row becomes a table of one row."""
        if self._strict:
            if content_type != codecs.media_type(content_type):
                raise codecs.UnsupportedFormat(content_type)
            array = codecs.decode(data, content_type, self._pickle)
            return array.astype("float32") if content_type in codecs.TEXT else array
        array = codecs.decode(data, content_type, self._pickle)
        if codecs.media_type(content_type) in codecs.TEXT:
            array = array.astype("float32")
        return array.reshape(1, -1) if array.ndim < 2 else array

    def predict_fn(self, data: Any, model: Any) -> Any:
        return model.predict(data)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        kind = accept if self._strict else codecs.accepted(accept, self._accept)
        body = codecs.encode(prediction, kind)
        return body, "text/csv; charset=utf-8" if kind == codecs.CSV else kind

    def unsupported(self, error: codecs.UnsupportedFormat) -> Answer:
        if self._strict:
            return self.failed(error)
        body = json.dumps({"error": "UnsupportedFormatError", "error-message": error.message}).encode()
        return 406 if error.accept else 415, frames.pack_head([(b"Content-Type", b"application/json")]), body

    def failed(self, error: BaseException) -> Answer:
        answer = failure(error)
        if not self._strict:
            return answer
        return 500, frames.pack_head([(b"Content-Type", b"text/html; charset=utf-8")]), _PAGE


def switch(place: Place, name: str) -> bool:
    return place.environment.get(name, "").lower() in ("1", "true", "yes", "on")


def load(place: Place) -> Service:
    """Raises LoadError, and what user code raises."""
    functions = load_functions(place, context=False)
    if functions is None:
        return ScriptService(place, Functions(None, context=False), _only_pickle(place), _Defaults(place))
    model = load_model(functions, place)
    return ScriptService(place, functions, model, _Defaults(place))


def _only_pickle(place: Place) -> Any:
    """Without a script: the one pickled model of the archive."""
    present = sorted(os.listdir(place.model_dir)) if os.path.isdir(place.model_dir) else []
    models = [name for name in present if name.endswith(_PICKLES)]
    if len(models) != 1:
        found = "it is empty" if not present else f"it holds {', '.join(present[:10])}"
        raise LoadError(
            "no-model",
            f"There is no script, and {len(models) or 'no'} *.joblib or *.pkl file{'s' if len(models) > 1 else ''} at the top "
            f"of the model archive ({found}).",
            "put code/inference.py with a model_fn into model.tar.gz, or exactly one .joblib or .pkl file at its top",
        )
    path = os.path.join(place.model_dir, models[0])
    place.stage = f"loading {models[0]}"
    try:
        import joblib  # noqa: PLC0415  optional: scikit-learn brings it
    except ModuleNotFoundError:
        with open(path, "rb") as file:
            return pickle.load(file)  # noqa: S301  the user's own model, in the user's sandbox
    return joblib.load(path)
