"""What PyTorch and Hugging Face share: the common toolkit's way of loading a model (containers.md 3.2, functions F1)."""

from __future__ import annotations

from typing import Any, Callable

from ..context import Context
from ..contract import Functions, Place, load_functions


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
