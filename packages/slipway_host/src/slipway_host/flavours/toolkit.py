"""What PyTorch and Hugging Face share: the common toolkit's way of loading a model (containers.md 3.2, functions F1)."""

from __future__ import annotations

import json
import sys
from typing import Any, Callable

from .. import frames
from ..context import Context
from ..contract import Functions, Place, load_functions
from ..service import Answer, Defaults

_FRAME = frames.pack_head([(b"Content-Type", b"application/json")])


class NoAnswer(TypeError):
    """What a function returned cannot be sent."""


class ToolkitDefaults(Defaults):
    """What the model server makes of functions: it hands out bytearrays, and encodes results that are no text as JSON."""

    bytearrays = True

    def untyped(self, accept: str) -> str:
        """What was asked for, its parameters too; of several the first."""
        return super().untyped(accept) if "," in accept else accept

    def other(self, result: Any, content_type: str) -> tuple[str | bytes, str]:
        try:
            return json.dumps(result, indent=2), content_type
        except (TypeError, ValueError) as error:
            raise NoAnswer(str(error)) from None

    def failed(self, error: BaseException) -> Answer:
        if not isinstance(error, NoAnswer):
            return super().failed(error)
        sys.stderr.write(f"[slipway] {error}\n")
        return told(503, "Unsupported model output data type.")


def told(code: int, message: str) -> Answer:
    """A failure as the model server names all of them."""
    content = {"code": code, "type": "InternalServerException", "message": message}
    return code, _FRAME, json.dumps(content, indent=2).encode() + b"\n"


def load(place: Place, default_model_fn: Callable[[], Any], hooks: bool) -> tuple[Functions, Any]:
    """The script's functions and the model: the script's, else what `default_model_fn` returns.

    `hooks`: pre_model_fn and model_warmup_fn are called around it. Raises LoadError, and what user code raises.
    """
    functions = load_functions(place, context=True, needs_model_fn=False) or Functions(None, context=False)
    context = Context(place.model_dir, [])

    def call(name: str, *args: Any) -> Any:
        place.stage = f"running {name}"
        function: Callable[..., Any] = getattr(functions, name)
        return function(*args, context) if functions.context[name] else function(*args)

    if hooks and functions.pre_model_fn is not None:
        call("pre_model_fn", place.model_dir)
    model = default_model_fn() if functions.model_fn is None else call("model_fn", place.model_dir)
    if hooks and functions.model_warmup_fn is not None:
        call("model_warmup_fn", place.model_dir, model)
    return functions, model
