"""scikit-learn (containers.md 3.6): json, csv and npy in and out, `model.predict`, the "ours" column of its table.

SLIPWAY_STRICT_AWS_ERRORS=1 restores AWS's column; SLIPWAY_ALLOW_PICKLE=1 lets npy bodies hold pickled objects.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from .. import codecs
from ..contract import Functions, LoadError, Place, load_functions, load_model
from ..service import ScriptService, Service
from .flask import FlaskDefaults

_PICKLES = (".joblib", ".pkl")


class _Defaults(FlaskDefaults):
    batched = True

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        """json and csv as float32; one row becomes a table of one row."""
        if self.strict:
            if content_type != codecs.media_type(content_type):
                raise codecs.UnsupportedFormat(content_type)
            array = codecs.decode(data, content_type, self.pickle)
            return array.astype("float32") if content_type in codecs.TEXT else array
        array = codecs.decode(data, content_type, self.pickle)
        if codecs.media_type(content_type) in codecs.TEXT:
            array = array.astype("float32")
        return array.reshape(1, -1) if array.ndim < 2 else array

    def predict_fn(self, data: Any, model: Any) -> Any:
        return model.predict(data)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        if self.strict and accept not in codecs.ENCODERS:
            raise codecs.UnsupportedFormat(accept, accept=True)
        kind = accept if self.strict else codecs.accepted(accept, self.accept)
        return codecs.encode(prediction, kind), kind


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
