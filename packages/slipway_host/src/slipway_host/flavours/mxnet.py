"""MXNet (containers.md 3.9): a Module or a Gluon block, the default model files, the functions of a script with context.

Modules read and write json, csv and npy, Gluon blocks json and npy. mxnet is imported when a default function first needs it:
a script with a transform_fn decides for itself.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from typing import Any, Callable

from .. import codecs
from ..contract import Functions, LoadError, Place, find_script, listing
from ..service import ScriptService, Service
from . import toolkit
from .flask import switch

NAME = "model"
FILES = ("model-symbol.json", "model-0000.params", "model-shapes.json")
_THREADS = ("MXNET_CPU_WORKER_NTHREADS", "MXNET_CPU_PRIORITY_NTHREADS", "MXNET_KVSTORE_REDUCTION_NTHREADS", "OMP_NUM_THREADS")
"""1 each, unless the model's Environment says otherwise, as AWS's image sets them; several workers share OMP's among them."""
_MEND = "save it with Module.save_checkpoint('model', 0) and model-shapes.json beside, or give the script a model_fn"


def mxnet() -> Any:
    """The environment's mxnet. Raises LoadError where this machine lacks a library that its wheel does not bring."""
    try:
        import mxnet as module  # noqa: PLC0415  costs seconds, and this is what wraps it
    except OSError as error:
        mend = "install it on this machine; libgomp.so.1 is in the package libgomp1 (Debian, Ubuntu) or libgomp (Fedora)"
        raise LoadError("environment", f"MXNet cannot be loaded: {error}.", mend) from error
    return module


class _Gluon(toolkit.ToolkitDefaults):
    """Also what a script with a transform_fn gets, which needs none of it."""

    types: tuple[str, ...] = (codecs.JSON, codecs.NPY)

    def __init__(self, place: Place) -> None:
        self._pickle = switch(place, "SLIPWAY_ALLOW_PICKLE")
        self._accept = place.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "") or codecs.JSON

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        """An NDArray of float32, as MXNet makes of numpy's."""
        if codecs.media_type(content_type) not in self.types:
            raise codecs.UnsupportedFormat(content_type)
        mx = mxnet()
        return mx.nd.array(codecs.decode_a(data, content_type, self._pickle), ctx=mx.cpu())

    def predict_fn(self, data: Any, model: Any) -> Any:
        return model(data)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        kind = codecs.accepted(accept, self._accept, self.types)
        plain = prediction.asnumpy().tolist()
        return codecs.to_csv_a(plain) if kind == codecs.CSV else codecs.encode(plain, kind), kind


class _Module(_Gluon):
    types = (codecs.JSON, codecs.CSV, codecs.NPY)

    def __init__(self, place: Place, model: Any) -> None:
        super().__init__(place)
        self._model = model

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        """Batches of the model's size, the last one filled up; rows of csv get the shape that the model's input has."""
        rows = super().input_fn(data, content_type)
        [(_, shape)] = [tuple(each)[:2] for each in self._model.data_shapes]
        if codecs.media_type(content_type) == codecs.CSV:
            rows = rows.reshape((-1, *shape[1:]))
        return mxnet().io.NDArrayIter(rows, batch_size=shape[0], last_batch_handle="pad")

    def predict_fn(self, data: Any, model: Any) -> Any:
        return model.predict(data)


def import_ahead(place: Place) -> bool:
    """mxnet itself may be forked; what its engine, which has threads, has loaded is loaded by each worker."""
    mxnet()
    return True


def load(place: Place) -> Service:
    """Raises LoadError, and what user code raises."""
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    if find_script(place) is None:
        sys.stderr.write(
            "[slipway] there is no code/inference.py, and the defaults serve; AWS's image for MXNet does not start without "
            "one, which may be empty\n"
        )
    functions, model = toolkit.load(place, lambda: _checkpoint(place), hooks=True)
    if functions.transform_fn is not None:
        return ScriptService(place, functions, model, _Gluon(place))
    mx = mxnet()
    if isinstance(model, mx.module.BaseModule):
        _give_model(functions, model)
        return ScriptService(place, functions, model, _Module(place, model))
    if isinstance(model, mx.gluon.block.Block):
        return ScriptService(place, functions, model, _Gluon(place))
    raise LoadError(
        "model-fn-error",
        f"Unsupported model type: {type(model).__name__}. Did you forget to implement `transform_fn` or `model_fn` in your "
        "entry-point?",
        "return a mxnet.mod.Module or a mxnet.gluon.Block from model_fn, or define transform_fn, which takes any model",
    )


def _give_model(functions: Functions, model: Any) -> None:
    """A Module's input_fn may ask for it by a parameter of the name `model`, in the place of the context."""
    function: Callable[..., Any] | None = functions.input_fn
    if function is not None and "model" in inspect.signature(function).parameters:
        asking = function
        functions.context["input_fn"] = False
        functions.input_fn = lambda data, content_type: asking(data, content_type, model)


def _checkpoint(place: Place) -> Any:
    """The Module of the three default files, bound for one row at a time. Raises LoadError."""
    missing = [name for name in FILES if not os.path.isfile(os.path.join(place.model_dir, name))]
    if missing:
        raise LoadError(
            "no-model",
            f"Failed to load model with default model_fn: missing file {missing[0]}. Expected files: {', '.join(FILES)}; the "
            f"model archive holds {listing(place.model_dir)}.",
            f"put these at the top of model.tar.gz: {_MEND}",
        )
    place.stage = f"loading {', '.join(FILES)}"
    names, shapes = _shapes(os.path.join(place.model_dir, FILES[2]))
    mx = mxnet()
    try:
        symbol, arguments, states = mx.model.load_checkpoint(os.path.join(place.model_dir, NAME), 0)
        module = mx.mod.Module(symbol=symbol, context=mx.cpu(), data_names=names, label_names=None)
        module.bind(for_training=False, data_shapes=shapes)
        module.set_params(arguments, states, allow_missing=True)
    except (mx.base.MXNetError, ValueError, KeyError, RuntimeError) as error:
        first = " ".join((str(error).strip().split("Stack trace")[0] or type(error).__name__).split())[-300:]
        raise LoadError("model-fn-error", f"MXNet cannot load {', '.join(FILES)}: {first}.", _MEND) from error
    return module


def _shapes(path: str) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Names and shapes of the inputs, one row at a time. Raises LoadError."""
    try:
        with open(path, encoding="utf-8") as file:
            found = [(str(each["name"]), [1, *map(int, each["shape"][1:])]) for each in json.load(file)]
    except (ValueError, TypeError, KeyError) as error:
        raise LoadError(
            "model-fn-error",
            f"{FILES[2]} is no list of inputs ({type(error).__name__}: {str(error)[:200]}).",
            'it holds one object for each input: [{"name": "data", "shape": [1, 28, 28]}]',
        ) from error
    return [name for name, _ in found], found
