"""PyTorch (containers.md 3.4): TorchScript without a script, json, csv and npy in and out, the five functions with context.

torch is imported when a default function first needs it: a script decides for itself.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from .. import codecs
from ..contract import LoadError, Place, listing
from ..service import ScriptService, Service
from . import toolkit
from .flask import switch

_MODELS = (".pt", ".pth")
_BATCH_SIZE, _BATCH_DELAY = "SAGEMAKER_TS_BATCH_SIZE", "SAGEMAKER_TS_MAX_BATCH_DELAY"
_NO_EFFECT = {
    "SAGEMAKER_TS_MIN_WORKERS": "SAGEMAKER_MODEL_SERVER_WORKERS says how many workers there are",
    "SAGEMAKER_TS_MAX_WORKERS": "SAGEMAKER_MODEL_SERVER_WORKERS says how many workers there are",
}
"""TorchServe's variables, and what holds instead."""


def torch() -> Any:
    """The environment's torch."""
    import torch as module  # noqa: PLC0415  costs seconds, and this is what wraps it

    return module


class _Defaults(toolkit.ToolkitDefaults):
    batched = True

    def __init__(self, place: Place) -> None:
        self._pickle = switch(place, "SLIPWAY_ALLOW_PICKLE")
        self._accept = place.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "") or codecs.JSON
        self._ready: Any = None
        """The model that is on its device and in eval mode."""

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        """json and csv as a FloatTensor, npy with its own type."""
        array = codecs.decode_a(data, content_type, self._pickle)
        if codecs.media_type(content_type) not in codecs.TEXT:
            tensor = torch().from_numpy(array)
        elif not array.ndim and array.dtype.kind in "biuf":
            tensor = torch().tensor(float(array))  # the image takes a number for a size, and answers what was in memory
        else:
            tensor = torch().FloatTensor(array)
        return tensor.to(device())

    def predict_fn(self, data: Any, model: Any) -> Any:
        if model is not self._ready:
            model.to(device())
            model.eval()
            self._ready = model
        with torch().no_grad():
            return model(data)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        kind = codecs.accepted(accept, self._accept)
        if isinstance(prediction, torch().Tensor):
            prediction = prediction.detach().cpu().numpy().tolist()
        if kind == codecs.CSV:
            return codecs.to_csv_a(prediction), kind
        return codecs.encode(prediction, kind), kind


def device() -> str:
    """Of the models: the GPU that this replica was given, else the CPU."""
    return "cuda" if torch().cuda.is_available() else "cpu"


def load(place: Place) -> Service:
    """Raises LoadError, and what user code raises."""
    if handler := place.environment.get("SAGEMAKER_HANDLER", ""):
        raise LoadError(
            "model-fn-error",
            f"SAGEMAKER_HANDLER names {handler}, and TorchServe's own handlers are not supported.",
            "move its code into code/inference.py (model_fn, input_fn, predict_fn, output_fn) and remove the variable",
        )
    numbers = _numbers(place)
    functions, model = toolkit.load(place, lambda: _torchscript(place), hooks=True)
    service = ScriptService(place, functions, model, _Defaults(place))
    if numbers.get(_BATCH_SIZE, 1) > 1:
        _batch(service, numbers)
    return service


def _numbers(place: Place) -> dict[str, int]:
    """TorchServe's settings; those that change nothing here are said in the log. Raises LoadError for what is no number."""
    found = {}
    for name in (_BATCH_SIZE, _BATCH_DELAY, *_NO_EFFECT):
        value = place.environment.get(name, "").strip()
        if value and not (value.isascii() and value.isdigit() and len(value) < 10):
            raise LoadError("model-fn-error", f"{name} is {value[:40]!r}, which is no number.", f"set {name} to a whole number")
        if value:
            found[name] = int(value)
        if value not in ("", "1") and name in _NO_EFFECT:
            sys.stderr.write(f"[slipway] {name}={value} has no effect: {_NO_EFFECT[name]}\n")
    return found


def _batch(service: ScriptService, numbers: dict[str, int]) -> None:
    """TorchServe's batches. AWS's toolkit takes them apart again and calls a script's functions for each request: so do we,
    and no request waits for others, unless the script declares that it takes several in one call."""
    from .. import batching  # noqa: PLC0415  few models ask for it

    answers = service.together() if service.declares_batches else None
    if answers is None:
        sys.stderr.write(
            f"[slipway] {_BATCH_SIZE}={numbers[_BATCH_SIZE]}: the script gets its requests one by one, as from AWS's toolkit; "
            "define batch_predict_fn(inputs, model) to get them in one call\n"
        )
        return
    size, seconds = min(numbers[_BATCH_SIZE], batching.MOST), numbers.get(_BATCH_DELAY, 100) / 1000
    service.batch = batching.Settings(size, seconds).of(answers)


def _torchscript(place: Place) -> Any:
    """model.pt, else the one *.pt or *.pth at the archive's top, as TorchScript. Raises LoadError."""
    present = sorted(os.listdir(place.model_dir)) if os.path.isdir(place.model_dir) else []
    models = ["model.pt"] if "model.pt" in present else [name for name in present if name.endswith(_MODELS)]
    if len(models) != 1:
        what = f"there are {len(models)} ({', '.join(models[:5])})" if models else f"it holds {listing(place.model_dir)}"
        raise LoadError(
            "no-model",
            f"Exactly one .pth or .pt file is required for PyTorch models at the top of the model archive: {what}.",
            "put model.pt, saved by torch.jit.save, at the top of model.tar.gz, or code/inference.py with a model_fn into it",
        )
    place.stage = f"loading {models[0]}"
    path = os.path.join(place.model_dir, models[0])
    if os.path.getsize(path) == 0:
        raise LoadError("no-model", f"{models[0]} is empty.", "save the model again and pack the archive anew")
    try:
        return torch().jit.load(path, map_location=device())
    except RuntimeError as error:
        if "memory" in str(error):
            raise
        first = (str(error).strip().splitlines() or [""])[0][:300]
        raise LoadError(
            "model-fn-error",
            f"Failed to load {models[0]}. Please ensure model is saved using torchscript ({first}).",
            "save it with torch.jit.save(torch.jit.script(model), 'model.pt'); for a state dict or a pickled model, put a "
            "model_fn that builds the class and loads it into code/inference.py",
        ) from error
