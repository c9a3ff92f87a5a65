"""The contract with a user's script: where it is found, which functions it offers, how they are called (containers.md 3.2).

Nothing here knows a framework; `flavours` does.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Callable, ClassVar

MODEL_DIR = "/opt/ml/model"
CODE_DIR = "/opt/ml/code"

EXCLUSIVE = "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, and/or output_fn implementation"


class LoadError(Exception):
    """The model cannot be served, and we know why. `kind` is one of core.replicas.Failure's."""

    def __init__(self, kind: str, message: str, mend: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.mend = mend


class Place:
    """Where a replica's files lie, and what its user set. `stage` says what is being done, for the report of a failure."""

    def __init__(self, model_dir: str, code_dir: str | None, environment: Mapping[str, str]) -> None:
        self.model_dir = model_dir
        self.code_dir = code_dir
        self.environment = environment
        self.script: str | None = None
        self.stage = "starting"

    @property
    def program(self) -> str:
        return self.environment.get("SAGEMAKER_PROGRAM", "")

    def real(self, path: str) -> str:
        """A path as AWS's containers name it, as it is here: without a sandbox /opt/ml/model lies elsewhere."""
        if path.startswith("file://"):
            path = path[len("file://") :]
        for name, actual in ((MODEL_DIR, self.model_dir), (CODE_DIR, self.code_dir)):
            if actual and (path == name or path.startswith(name + "/")):
                return actual + path[len(name) :]
        return path

    def code_dirs(self) -> list[str]:
        """Folders that may hold the script, best first."""
        submit = self.environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
        places = []
        if submit and "://" not in submit.replace("file://", "", 1):
            places.append(self.real(submit))
        if self.code_dir:
            places.append(self.code_dir)
        places.append(os.path.join(self.model_dir, "code"))
        return [path for i, path in enumerate(places) if path not in places[:i] and os.path.isdir(path)]


class Functions:
    """The functions a script defines; None for those it does not."""

    NAMES = (
        "pre_model_fn", "model_fn", "model_warmup_fn", "input_fn", "predict_fn", "batch_predict_fn", "output_fn",
        "transform_fn", "execution_parameters_fn",
    )  # fmt: skip
    COUNTS: ClassVar[dict[str, int]] = {
        "pre_model_fn": 1, "model_fn": 1, "model_warmup_fn": 2, "input_fn": 2, "predict_fn": 2,
        "batch_predict_fn": 2, "output_fn": 2, "transform_fn": 4,
    }  # fmt: skip

    pre_model_fn: Callable[..., Any] | None
    model_fn: Callable[..., Any] | None
    model_warmup_fn: Callable[..., Any] | None
    input_fn: Callable[..., Any] | None
    predict_fn: Callable[..., Any] | None
    batch_predict_fn: Callable[..., Any] | None
    """Beyond AWS: a list of what input_fn returned for several requests → a list of as many predictions."""
    output_fn: Callable[..., Any] | None
    transform_fn: Callable[..., Any] | None
    execution_parameters_fn: Callable[..., Any] | None

    def __init__(self, module: ModuleType | None, context: bool) -> None:
        """`context`: a function may take one parameter more than the table says and is then given the context (F1).
        Raises LoadError for transform_fn beside the three it replaces, TypeError for a count that fits neither."""
        self.context: dict[str, bool] = {}
        self._loops: Any = None
        for name in self.NAMES:
            function = getattr(module, name, None) if module is not None else None
            self.context[name] = context and function is not None and _takes_context(name, function)
            setattr(self, name, self._blocking(function))
        others = self.input_fn or self.predict_fn or self.batch_predict_fn or self.output_fn
        if self.transform_fn and others:
            raise LoadError(
                "model-fn-error", EXCLUSIVE, "keep transform_fn alone, or remove it and keep input_fn, predict_fn and output_fn"
            )

    def _blocking(self, function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """An `async def` (or async generator) function as one that blocks; others as they are. All share one loop."""
        if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            return function
        from . import coroutines  # noqa: PLC0415  asyncio costs 45 ms of a start that rarely needs it

        if self._loops is None:
            self._loops = coroutines.Loops()
        return coroutines.blocking(function, self._loops)


def _takes_context(name: str, function: Callable[..., Any]) -> bool:
    expected = Functions.COUNTS.get(name)
    if expected is None:
        return False
    found = len(inspect.signature(function).parameters)
    if found not in (expected, expected + 1):
        raise TypeError(f"{name} takes {expected} arguments but {found} were given.")
    return found == expected + 1


def _no_script(place: Place, program: str) -> LoadError:
    """What SAGEMAKER_PROGRAM names is nowhere: most often the archive was packed one folder too high."""
    dirs = place.code_dirs()
    present = sorted(name for folder in dirs for name in os.listdir(folder) if name.endswith(".py"))
    mend = "put the script into code/ of model.tar.gz, or set SAGEMAKER_PROGRAM and SAGEMAKER_SUBMIT_DIRECTORY to where it is"
    shown = ["code/ of the model archive" if path == os.path.join(place.model_dir, "code") else path for path in dirs]
    if shown:
        where = f"is not in {', '.join(shown)}"
    else:
        where = f"is not in the model archive: it has no code/ folder (it holds {listing(place.model_dir)})"
    for folder, inner, names in os.walk(place.model_dir):
        inner[:] = sorted(inner)[:100] if folder.count(os.sep) - place.model_dir.count(os.sep) < 3 else []
        if os.path.basename(program) in names:
            found = os.path.relpath(os.path.join(folder, os.path.basename(program)), place.model_dir)
            where += f"; there is {found}"
            top, _, rest = found.partition("/")
            if rest == f"code/{program}":
                mend = f"pack what is in that folder, not the folder: `tar -czf model.tar.gz -C {top} .`"
            break
    else:
        if present:
            where += f"; there is {', '.join(present[:5])}"
    return LoadError("import-error", f"SAGEMAKER_PROGRAM names {place.program}, which {where}", mend)


def listing(folder: str) -> str:
    """The first entries of a folder, for a message; `nothing` when there are none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return "nothing"
    shown = ", ".join(name + "/" * os.path.isdir(os.path.join(folder, name)) for name in names[:12])
    return (shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")) or "nothing"


def find_script(place: Place) -> str | None:
    """Path of the user's script, or None when there is none and none was named. Raises LoadError."""
    dirs = place.code_dirs()
    program = place.program
    if not program:
        fallback = os.path.join(place.model_dir, "code", "inference.py")
        return fallback if os.path.isfile(fallback) else None
    if not program.endswith(".py"):
        program += ".py"
    for folder in [*dirs, place.model_dir]:
        path = os.path.join(folder, program)
        if os.path.isfile(path):
            return path
    raise _no_script(place, program)


def import_script(path: str, place: Place) -> ModuleType:
    """The script as a module. Its folder, and the folder the code was submitted in, come first on the path."""
    name = os.path.basename(path)[:-3]
    place.script = path
    place.stage = f"importing {os.path.basename(path)}"
    for folder in reversed([os.path.dirname(path), *place.code_dirs()]):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError("import-error", f"{path} is not a Python file", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as import does; pickles name its classes
    spec.loader.exec_module(module)
    return module


def load_functions(place: Place, context: bool, needs_model_fn: bool = True) -> Functions | None:
    """The script's functions, with model_fn among them unless the flavour can load a model itself; None without a script.
    Raises LoadError and what user code raises."""
    path = find_script(place)
    if path is None:
        return None
    functions = Functions(import_script(path, place), context)
    if functions.model_fn is None and needs_model_fn:
        raise LoadError(
            "model-fn-error",
            f"{os.path.basename(path)} defines no model_fn",
            "define model_fn(model_dir), which loads the model from model_dir and returns it",
        )
    return functions


def load_model(functions: Functions, place: Place, *more: Any) -> Any:
    """What model_fn returns. Raises what it raises."""
    place.stage = "running model_fn"
    if functions.model_fn is None:
        return None
    return functions.model_fn(place.model_dir, *more)
