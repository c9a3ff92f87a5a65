"""Handler services of MMS and of AWS's inference toolkit (containers.md 3.2, 3.12): SAGEMAKER_HANDLER names one.

`handler.py:handle` is a function `handle(data, context)`, or a module with one class that has `initialize(context)` and
`handle(data, context)`. `data` is a list of `{"body": bytes}`, of one request; the answer is a list of one.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
import traceback
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable

from .. import codecs, frames
from ..context import Context, Together
from ..contract import LoadError, Place, import_script, listing
from ..service import Answer, Call, Service, _body, _clean
from .toolkit import told

if TYPE_CHECKING:
    from ..batching import Answers

VARIABLE = "SAGEMAKER_HANDLER"
Handle = Callable[[Any, Context], Any]


class HandlerService(Service):
    """A loaded handler behind /invocations; failures as MMS tells them."""

    def __init__(self, place: Place, handle: Handle, context: Context) -> None:
        """`context`: the one that it was loaded with; it is every request's, as in the model server."""
        super().__init__(place)
        self._handle = handle
        self._context = context

    def invoke(self, call: Call, body: bytes) -> Answer:
        context = self._context
        context.begin(call.headers)
        try:
            return self._answers(self._handle([{"body": bytearray(body)}], context), [context])[0]
        except MemoryError:
            return told(507, "Out of resources")
        except (Exception, SystemExit) as error:  # noqa: BLE001  user code
            traceback.print_exc()
            sys.stderr.flush()
            code = getattr(error, "error_code", None)
            if type(code) is int and 400 <= code <= 599:
                return told(code, str(getattr(error, "message", "") or error))
            return told(503, "Prediction failed")

    def _answers(self, result: Any, contexts: list[Context]) -> list[Answer]:
        if not isinstance(result, list):
            return [told(503, "Invalid model predict output")] * len(contexts)
        if len(result) != len(contexts):
            return [told(503, "number of batch response mismatched")] * len(contexts)
        return [_answer(value, context) for value, context in zip(result, contexts)]

    def together(self) -> Answers | None:
        """A handler service gets a list by its nature."""
        from .. import batching  # noqa: PLC0415  few models need it

        def answers(requests: batching.Requests, alone: batching.Alone) -> list[Answer]:
            contexts = [Context(self.place.model_dir, call.headers) for call, _ in requests]
            try:
                result = self._handle([{"body": bytearray(body)} for _, body in requests], Together(contexts))
            except (Exception, SystemExit) as error:  # noqa: BLE001  user code
                batching.tell_retry(len(requests), error)
                found = []
                for index, (call, body) in enumerate(requests):
                    alone(index)
                    found.append(self.invoke(call, body))
                return found
            return self._answers(result, contexts)

        return answers


def _answer(value: Any, context: Context) -> Answer:
    content_type = context.content_type or ""
    if value is None or isinstance(value, (dict, list, tuple, int, float)):
        content_type = content_type or codecs.JSON
        try:
            value = json.dumps(value, indent=2)
        except (TypeError, ValueError) as error:
            return _unsupported(error)
    pairs = [(_clean(name), _clean(text)) for name, text in context.headers]
    if content_type:
        pairs.insert(0, (b"Content-Type", _clean(content_type)))
    try:
        return context.status or 200, frames.pack_head(pairs), _body(value)
    except TypeError as error:
        return _unsupported(error)


def _unsupported(error: Exception) -> Answer:
    sys.stderr.write(f"[slipway] {error}\n")
    return told(503, "Unsupported model output data type.")


def load(place: Place) -> Service:
    """Raises LoadError, and what user code raises while it loads its model."""
    file, _, name = place.environment[VARIABLE].partition(":")
    module = _module(place, file)
    place.stage = f"loading the model by {VARIABLE}"
    context = Context(place.model_dir, [])
    function = getattr(module, name or "handle", None)
    if inspect.isroutine(function):
        function(None, context)  # as MMS does, for handlers that load when they are first called
        return HandlerService(place, function, context)
    instance = _one_class(module, name, file)()
    if hasattr(instance, "initialize"):
        instance.initialize(context)
    return HandlerService(place, instance.handle, context)


def _module(place: Place, file: str) -> ModuleType:
    """A file of the archive, or an installed module by its dotted name: a toolkit's own handler service. Raises LoadError."""
    wanted = file if file.endswith(".py") else f"{file.replace('.', '/')}.py"
    folders = [*place.code_dirs(), place.model_dir]
    for path in [place.real(wanted)] if wanted.startswith("/") else [os.path.join(folder, wanted) for folder in folders]:
        if os.path.isfile(path):
            return import_script(path, place)
    if _installed(file):
        place.stage = f"importing {file}"
        return importlib.import_module(file)
    message = f"{VARIABLE} names {file}, which is not in the model archive (it holds {listing(place.model_dir)})"
    raise LoadError("import-error", message, f"put it into code/ of model.tar.gz, or correct {VARIABLE}")


def _installed(name: str) -> bool:
    if "/" in name or name.endswith(".py") or not name.strip("."):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False  # its package is not there


def _one_class(module: ModuleType, name: str, file: str) -> Any:
    """The class that the module defines and that can handle; `name` may say which."""
    classes = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and each.__module__ == module.__name__ and hasattr(each, "handle")
    ]
    named = [each for each in classes if each.__name__ == name]
    found = named or classes
    if len(found) != 1:
        message = (
            f"{file} has no function {name or 'handle'}(data, context), and {len(found) or 'no'} classes with a method handle"
        )
        raise LoadError("model-fn-error", message, f"define one of them, and let {VARIABLE} name it: {file}:handle")
    return found[0]
