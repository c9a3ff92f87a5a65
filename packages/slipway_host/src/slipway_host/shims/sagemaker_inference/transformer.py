"""A request through the functions of the user's script, over a toolkit's defaults (containers.md 3.2)."""

from __future__ import annotations

import os
import traceback
from typing import Any

from slipway_host.contract import Functions, Place, find_script, import_script

from .default_inference_handler import DefaultInferenceHandler

_TEXT = ("application/json", "text/csv")


class Transformer:
    """`transform(data, context)` answers a list of one, and sets type and status on the context."""

    def __init__(self, default_inference_handler: Any = None) -> None:
        if default_inference_handler is None:
            default_inference_handler = DefaultInferenceHandler()
        self._defaults = default_inference_handler
        self._functions: Any = None
        self._model: Any = None

    def validate_and_initialize(self, model_dir: str = "/opt/ml/model", context: Any = None) -> None:
        """Find the script and load the model, once."""
        if self._functions is not None:
            return
        place = Place(model_dir, None, os.environ)
        path = find_script(place)
        functions = Functions(None if path is None else import_script(path, place), context=True)
        if functions.model_fn is not None:
            self._model = functions.model_fn(model_dir, *_more(functions, "model_fn", context))
        else:
            self._model = self._defaults.default_model_fn(model_dir)
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
            status = getattr(error, "status_code", 500)
            context.set_response_status(status if isinstance(status, int) else 500, str(getattr(error, "phrase", "")))
            return [f"{getattr(error, 'message', '') or error}\n{lines}"] * len(data)
        context.set_response_content_type(0, results[0][1])
        return [body for body, _ in results]

    def _one(self, body: Any, content_type: str, accept: str, context: Any) -> tuple[Any, str]:
        functions, defaults = self._functions, self._defaults
        if isinstance(body, (bytes, bytearray)):
            body = bytes(body).decode() if content_type in _TEXT else bytes(body)
        if functions.transform_fn is not None:
            more = _more(functions, "transform_fn", context)
            result = functions.transform_fn(self._model, body, content_type, accept, *more)
        else:
            take = functions.input_fn or defaults.default_input_fn
            predict = functions.predict_fn or defaults.default_predict_fn
            give = functions.output_fn or defaults.default_output_fn
            decoded = take(body, content_type, *_more(functions, "input_fn", context))
            prediction = predict(decoded, self._model, *_more(functions, "predict_fn", context))
            result = give(prediction, accept, *_more(functions, "output_fn", context))
        return result if isinstance(result, tuple) else (result, accept)


def _more(functions: Any, name: str, context: Any) -> tuple[Any, ...]:
    return (context,) if functions.context[name] else ()
