"""Hugging Face (containers.md 3.5): a transformers pipeline without a script, or a script's functions; 400 for every failure.

With model_fn alone in the script, the default predict_fn calls what it returns like a pipeline.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from .. import codecs
from ..contract import LoadError, Place
from ..service import Answer, ScriptService, Service, failure
from . import huggingface_codecs, toolkit
from .flask import switch
from .huggingface_task import folder_of, go_offline, task_of
from .pytorch import device

_FEATURES = (
    "automatic-speech-recognition",
    "image-segmentation",
    "image-classification",
    "audio-classification",
    "object-detection",
    "zero-shot-image-classification",
)
"""Tasks of models that have a feature extractor in a tokenizer's place."""
_NO_EFFECT = ("HF_OPTIMUM_BATCH_SIZE", "HF_OPTIMUM_SEQUENCE_LENGTH")


class _Defaults(toolkit.ToolkitDefaults):
    def __init__(self, place: Place) -> None:
        self._pickle = switch(place, "SLIPWAY_ALLOW_PICKLE")
        self.task: str | None = place.environment.get("HF_TASK") or None

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        return huggingface_codecs.decode(data, content_type, self.task, self._pickle)

    def predict_fn(self, data: Any, model: Any) -> Any:
        """`{"inputs": …, "parameters": {…}}`; an object without inputs is the input itself."""
        if not isinstance(data, dict):
            if data is None or isinstance(data, (list, str, int, float)):
                raise ValueError('The body must be a JSON object: {"inputs": …}, and "parameters" beside it where wanted.')
            return model(data)
        parameters = data.pop("parameters", None)
        inputs = data.pop("inputs", data)
        if parameters is None:
            return model(inputs)
        if not isinstance(parameters, dict):
            raise ValueError('"parameters" must be a JSON object.')
        return model(inputs, **parameters)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        return huggingface_codecs.encode(prediction, accept), accept

    def failed(self, error: BaseException) -> Answer:
        """The model server's frame of a PredictionException; the traceback is in the log."""
        if isinstance(error, toolkit.NoAnswer):
            return super().failed(error)
        _, _, text = failure(error)
        message = str(getattr(error, "message", "") or error) or type(error).__name__
        if isinstance(error, (MemoryError, SystemExit)) and isinstance(text, bytes):
            message = text.split(b"\n", 1)[0].decode("utf-8", "replace")
        return toolkit.told(400, message)


def load(place: Place) -> Service:
    """Raises LoadError, and what user code and transformers raise."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not outlive a fork
    for name in _NO_EFFECT:
        if place.environment.get(name):
            sys.stderr.write(f"[slipway] {name} has no effect: it belongs to compiled models of accelerators\n")
    if not place.environment.get("HF_MODEL_ID"):
        go_offline(place)
    defaults = _Defaults(place)
    functions, model = toolkit.load(place, lambda: _pipeline(place, defaults), hooks=False)
    service = ScriptService(place, functions, model, defaults)
    service.default_accept = codecs.JSON
    return service


def _pipeline(place: Place, defaults: _Defaults) -> Any:
    """The pipeline of the model's task. Raises LoadError, and what transformers raises."""
    folder = folder_of(place)
    task = task_of(place, folder)
    defaults.task = task
    if task == "text-to-image":
        raise LoadError(
            "model-fn-error",
            "text-to-image needs diffusers, for which there is no default here.",
            "add diffusers to code/requirements.txt, and code/inference.py with a model_fn and a predict_fn that use it",
        )
    go_offline(place)
    place.stage = f"loading the {task} pipeline"
    import transformers  # noqa: PLC0415  costs seconds, and only this needs it

    trust = place.environment.get("HF_TRUST_REMOTE_CODE", "").lower() == "true"
    part = "feature_extractor" if task in _FEATURES else "tokenizer"
    try:
        return transformers.pipeline(task, model=folder, device=device(), trust_remote_code=trust, **{part: folder})
    except KeyError as error:
        if "Unknown task" not in str(error):
            raise
        raise LoadError(
            "model-fn-error",
            f"HF_TASK is {task!r}, which transformers {transformers.__version__} does not know.",
            "set HF_TASK to one of its tasks, for example summarization, text-classification or feature-extraction",
        ) from None
