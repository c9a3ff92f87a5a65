"""A request through the functions of the user's script, over a toolkit's defaults (containers.md 3.2)."""

from __future__ import annotations

import inspect
import os
import traceback
from typing import Any, Callable

from slipway_host.contract import Functions, Place, find_script, import_script

from .default_inference_handler import DefaultInferenceHandler
from .errors import BaseInferenceToolkitError, GenericInferenceToolkitError
from .utils import remove_crlf

_TEXT = ("application/json", "text/csv")


class Transformer:
    """`transform(data, context)` answers a list of one, and sets type and status on the context."""

    def __init__(self, default_inference_handler: Any = None) -> None:
        if default_inference_handler is None:
            default_inference_handler = DefaultInferenceHandler()
        self._defaults = default_inference_handler
        self._functions: dict[str, tuple[Callable[..., Any], bool]] | None = None
        """By name: what to call, and whether it takes the context as well."""
        self._model: Any = None

    def validate_and_initialize(self, model_dir: str = "/opt/ml/model", context: Any = None) -> None:
        """Find the script and load the model, once."""
        if self._functions is not None:
            return
        place = Place(model_dir, None, os.environ)
        path = find_script(place)
        given = Functions(None if path is None else import_script(path, place), context=True)
        functions = {}
        for name, count in Functions.COUNTS.items():
            function = getattr(given, name)
            if function is not None:
                functions[name] = (function, given.context[name])
            elif (default := getattr(self._defaults, f"default_{name}", None)) is not None:
                functions[name] = (default, len(inspect.signature(default).parameters) > count)
        _call(functions, context, "pre_model_fn", model_dir)
        self._model = _call(functions, context, "model_fn", model_dir)
        _call(functions, context, "model_warmup_fn", model_dir, self._model)
        self._functions = functions

    def transform(self, data: Any, context: Any) -> list[Any]:
        """`data`: the list of requests; all share the first one's headers."""
        try:
            self.validate_and_initialize(context.system_properties["model_dir"], context)
            request = context.request_processor[0]
            default = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or "application/json"
            content_type = request.get_request_property("content-type") or "application/json"
            accept = request.get_request_property("accept") or "*/*"
            accept = default if accept == "*/*" else accept
            results = [self._one(each.get("body"), content_type, accept, context) for each in data]
        except Exception as error:  # noqa: BLE001  user code: its failure is the answer, as the toolkit tells it
            lines = traceback.format_exc()
            print(lines, flush=True)  # noqa: T201  the container's log
            told = error if isinstance(error, BaseInferenceToolkitError) else GenericInferenceToolkitError(500, str(error))
            context.set_response_status(told.status_code, remove_crlf(told.phrase))
            return [f"{told.message}\n{lines}"] * len(data)
        context.set_response_content_type(0, results[0][1])
        return [body for body, _ in results]

    def _one(self, body: Any, content_type: str, accept: str, context: Any) -> tuple[Any, str]:
        functions = self._functions or {}
        if isinstance(body, (bytes, bytearray)) and content_type in _TEXT:
            body = body.decode()
        if "transform_fn" in functions:
            result = _call(functions, context, "transform_fn", self._model, body, content_type, accept)
        else:
            decoded = _call(functions, context, "input_fn", body, content_type)
            prediction = _call(functions, context, "predict_fn", decoded, self._model)
            result = _call(functions, context, "output_fn", prediction, accept)
        return result if isinstance(result, tuple) else (result, accept)


def _call(functions: dict[str, tuple[Callable[..., Any], bool]], context: Any, name: str, *args: Any) -> Any:
    """What the function of that name gives; nothing where there is none."""
    function, with_context = functions.get(name, (None, False))
    if function is None:
        return None
    return function(*args, context) if with_context else function(*args)
