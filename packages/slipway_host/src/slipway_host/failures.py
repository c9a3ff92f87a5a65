"""Why a model could not be loaded, in plain words: cause and mend, as a report to the keeper and in the log.

`explain` looks at what was raised, where, and at the files around it. Kinds are those of core.replicas.Failure.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import signal
import sys
import traceback
import zlib
from importlib import metadata
from importlib.util import find_spec
from typing import Any, NamedTuple

from . import failures_torch, memory
from .contract import LoadError, Place, listing

TAIL = 40
MAX_MESSAGE = 1500
MAX_WORDS = 400
"""Of an exception, in the message: cause and mend must fit into a FailureReason beside it."""
MAX_REPORT = 32 * 1024
"""Bytes: a pipe holds twice as much, and the parent may report after a child has."""
_SCANNED = 32 * 1024 * 1024
_PICKLE_FILES = (".joblib", ".pkl", ".pickle", ".sav")
_UNPICKLERS = (
    "pickle.py",
    "numpy_pickle.py",
    "numpy_pickle_compat.py",
    "cloudpickle.py",
    "_pickle.py",
    "numpy_pickle_utils.py",
)
_WRITER = re.compile(rb"_sklearn_version.{1,6}?(\d+\.\d+(?:\.\d+)?(?:rc\d+|\.dev\d+|\.post\d+)?)", re.DOTALL)
_DISTRIBUTIONS = {
    "PIL": "pillow", "bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "PyYAML",
}  # fmt: skip


class Report(NamedTuple):
    kind: str
    message: str
    mend: str
    lines: list[str]
    """The traceback, our own frames left out."""


def explain(error: BaseException, place: Place) -> Report:
    """What `error`, raised while `place.stage` was done, means for the person who deployed this model."""
    lines = traceback_lines(error)
    if isinstance(error, LoadError):
        return Report(error.kind, str(error), error.mend, [])
    for case in (_memory, _exit, _syntax, failures_torch.explain, _pickle, _import, _missing_file):
        found = case(error, place)
        if found is not None:
            return Report(found[0], found[1], found[2], lines)
    where = _user_line(error, place)
    what = "model_fn" if place.stage == "running model_fn" else place.stage[0].upper() + place.stage[1:]
    mend = "correct that line; the endpoint's log has the whole traceback"
    if variable := _unset_variable(error):
        mend = f"set {variable} in the model's Environment (CreateModel), or read it with os.environ.get"
    return Report("model-fn-error", f"{what} raised {_named(error)}{where}.", mend, lines)


def _unset_variable(error: BaseException) -> str:
    """The environment variable that os.environ[…] did not have."""
    frames = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, KeyError) or not frames or frames[-1].name != "__getitem__":
        return ""
    known = frames[-1].filename == os.__file__ or frames[-1].filename == "<frozen os>"
    return str(error.args[0]) if known and error.args else ""


def _memory(error: BaseException, place: Place) -> tuple[str, str, str] | None:
    if not isinstance(error, MemoryError):
        return None
    limit = memory.limit()
    bound = f"; the limit is {_mib(limit)}" if limit else ""
    detail = f" ({error})" if str(error) else ""
    return (
        "out-of-memory",
        f"Out of memory while {place.stage}{detail}: the process had reached {_mib(_peak())}{bound}.",
        "choose an instance type with more memory, fewer workers (SAGEMAKER_MODEL_SERVER_WORKERS), or a smaller model",
    )


def _exit(error: BaseException, place: Place) -> tuple[str, str, str] | None:
    if not isinstance(error, SystemExit):
        return None
    return (
        "exited",
        f"The script called sys.exit({error.code!r}) while {place.stage}{_user_line(error, place)}.",
        "raise an exception instead of exiting, or guard the call with `if __name__ == '__main__':`",
    )


def _syntax(error: BaseException, place: Place) -> tuple[str, str, str] | None:
    if not isinstance(error, SyntaxError):
        return None
    text = (error.text or "").strip()
    file = os.path.basename(error.filename or place.script or "the script")
    shown = f": {text!r}" if text else ""
    return (
        "syntax-error",
        f"{file}, line {error.lineno}, has a syntax error ({error.msg}){shown}.",
        f"correct that line; it is read by Python {sys.version_info[0]}.{sys.version_info[1]}",
    )


def _pickle(error: BaseException, place: Place) -> tuple[str, str, str] | None:
    kinds = (AttributeError, ImportError, ValueError, KeyError, TypeError, EOFError, IndexError)
    if not (isinstance(error, kinds) or type(error).__name__ == "UnpicklingError") or not _unpickling(error):
        return None
    main = re.search(r"attribute '(\w+)' on <module '__main__'", str(error))
    if main:
        return (
            "pickle-version",
            f"The pickled model needs the class or function {main.group(1)}, which was defined in the script that saved it "
            "(__main__) and is not known here.",
            "define it in a module of its own, import it from there when training, and put that module into code/",
        )
    if isinstance(error, ModuleNotFoundError) and not _known(error.name or ""):
        return None  # a package that is simply not installed
    file, writer = _writer(place)
    installed = _installed("scikit-learn", "sklearn")
    wrote = f" {file} was written by scikit-learn {writer};" if writer else ""
    here = f" installed is scikit-learn {installed}." if installed else f" Python is {sys.version.split()[0]}."
    versions = wrote + here if wrote else here.replace(" installed is", " Installed is", 1)
    wanted = f"scikit-learn {writer}" if writer else "the version that wrote it"
    return (
        "pickle-version",
        f"The pickled model does not fit the installed versions ({_named(error)}).{versions}",
        f"deploy with the image (framework_version) of {wanted}, or train and save the model again with the installed version",
    )


def _import(error: BaseException, place: Place) -> tuple[str, str, str] | None:
    if not isinstance(error, ImportError):
        return None
    name = error.name or ""
    top = name.partition(".")[0]
    where = _user_line(error, place)
    if isinstance(error, ModuleNotFoundError) and top in getattr(sys, "stdlib_module_names", ()):
        mend = f"let user {os.getuid()} read {os.path.dirname(os.__file__)}, or use an interpreter that is whole"
        return "environment", f"Python's own module {name!r} cannot be loaded{where}.", mend
    if isinstance(error, ModuleNotFoundError) and name:
        package = _DISTRIBUTIONS.get(top, top)
        near = _near_modules(top, place)
        mend = f"add {package} to code/requirements.txt"
        if near:
            mend += f", or import {near} if that was meant (it is in code/)"
        elif _required(package, place):
            mend = f"code/requirements.txt names {package}, but it gives no module {top!r}: look for the package that does"
        return "import-error", f"No module named {name!r}{where}.", mend
    missing = f"{error}".rstrip(".")
    return (
        "import-error",
        f"An import failed{where}: {missing}.",
        f"check that name, or pin a version of {top or 'the package'} that has it in code/requirements.txt",
    )


def _missing_file(error: BaseException, place: Place) -> tuple[str, str, str] | None:
    if not isinstance(error, FileNotFoundError) or error.filename is None:
        return None
    present = listing(place.model_dir)
    return (
        "no-model",
        f"{place.stage[0].upper()}{place.stage[1:]} did not find {os.fspath(error.filename)!s}{_user_line(error, place)}. "
        f"The model archive holds {present}.",
        "put the file into model.tar.gz under that name (at its top, not in a folder), or open the name that is there",
    )


def exited(status: int, stage: str, oom_kills: int) -> Report:
    """The process ended while it loaded, without a word. `status` as of waitpid; `oom_kills` counted meanwhile."""
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    if code is not None:
        message = f"The model's process exited with status {code} while {stage}."
        mend = "remove the call that ends the process (os._exit, sys.exit, quit); the endpoint's log has its last lines"
        return Report("exited", message, mend, [])
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL and oom_kills > 0:
        limit = memory.limit()
        bound = f" of {_mib(limit)}" if limit else ""
        return Report(
            "out-of-memory",
            f"The kernel killed the model's process while {stage}: it needed more than the memory limit{bound}.",
            "choose an instance type with more memory, fewer workers (SAGEMAKER_MODEL_SERVER_WORKERS), or a smaller model",
            [],
        )
    hint = " (often the kernel's answer to too little memory)" if number == signal.SIGKILL else ""
    if number == signal.SIGSEGV:
        hint = " (a crash inside a native library)"
    return Report(
        "exited",
        f"The model's process was ended by {name}{hint} while {stage}.",
        "look at the endpoint's log for its last lines; check the memory it needs and the versions of native packages",
        [],
    )


def write(report: Report, folder: str, descriptor: int | None = None) -> None:
    """One line of JSON to `descriptor`, a pipe of the keeper's, which believes the first; without one, a file in `folder`."""
    content = {"kind": report.kind, "message": report.message[:MAX_MESSAGE], "mend": report.mend[:MAX_MESSAGE]}
    lines = [line[:MAX_MESSAGE] for line in report.lines[-TAIL:]]
    text = json.dumps({**content, "traceback": lines}) + "\n"
    while descriptor is not None and len(text) > MAX_REPORT and lines:
        lines = lines[len(lines) // 2 + 1 :]
        text = json.dumps({**content, "traceback": lines}) + "\n"
    if descriptor is not None:
        try:
            os.write(descriptor, text.encode())
        except OSError:
            return  # the keeper has the log, and our exit status
        return
    path = os.path.join(folder, "failure.json")
    part = f"{path}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)


def tell(report: Report) -> None:
    """Traceback, cause and mend into the container's log."""
    lines = [*report.lines, f"[slipway] {report.message}", f"[slipway] mend: {report.mend}"]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def traceback_lines(error: BaseException) -> list[str]:
    """The traceback without the frames of this package and of the import machinery."""
    here = os.path.dirname(os.path.abspath(__file__))
    report = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = report
    while part is not None:
        kept = [
            frame
            for frame in part.stack
            if not frame.filename.startswith((here, "<frozen importlib")) or frame.filename.startswith(here + "/shims")
        ]
        part.stack = traceback.StackSummary.from_list(kept)
        part = part.__cause__ or part.__context__
    return "".join(report.format()).rstrip("\n").split("\n")


def _peak() -> int:
    found = re.search(r"VmPeak:\s+(\d+) kB", memory.read("/proc/self/status"))
    return int(found.group(1)) * 1024 if found else 0


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _named(error: BaseException) -> str:
    text = str(error).strip()
    if len(text) > MAX_WORDS:
        text = text[:MAX_WORDS] + "…"
    return f"{type(error).__name__}: {text.rstrip('.')}" if text else type(error).__name__


def _user_line(error: BaseException, place: Place) -> str:
    """` (inference.py, line 7: model = load())` for the last line of the user's own code."""
    roots = tuple(os.path.realpath(path) + os.sep for path in [*place.code_dirs(), place.model_dir])
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith("<") and os.path.realpath(frame.filename).startswith(roots):
            line = f": {frame.line}" if frame.line else ""
            found = f" ({os.path.basename(frame.filename)}, line {frame.lineno}{line})"
    return found


def _unpickling(error: BaseException) -> bool:
    """Whether the error came out of an unpickler. The C one leaves no frame: then the calling line tells."""
    frames = traceback.extract_tb(error.__traceback__)
    if any(os.path.basename(frame.filename) in _UNPICKLERS for frame in frames):
        return True
    return bool(frames) and re.search(r"\b(pickle|joblib|cloudpickle|dill)\.loads?\(", frames[-1].line or "") is not None


def _known(module: str) -> bool:
    """Whether the package that holds a module is installed, so that only the module inside it is missing."""
    top = module.partition(".")[0]
    if top in sys.modules:
        return True
    try:
        return bool(top) and find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _writer(place: Place) -> tuple[str, str]:
    """A pickle file of the archive and the scikit-learn version that wrote it, as far as its bytes tell."""
    for folder, _, names in os.walk(place.model_dir):
        for name in sorted(names):
            if name.endswith(_PICKLE_FILES):
                found = _WRITER.search(_head_of(os.path.join(folder, name)))
                if found:
                    return name, found.group(1).decode()
    return "", ""


def _head_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_SCANNED)
    except OSError:
        return b""
    if data[:1] != b"\x78":
        return data
    try:  # joblib's compress=… is zlib
        return zlib.decompressobj().decompress(data, _SCANNED)
    except zlib.error:
        return data


def _installed(distribution: str, module: str) -> str:
    loaded: Any = sys.modules.get(module)
    if loaded is not None and hasattr(loaded, "__version__"):
        return str(loaded.__version__)
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _near_modules(name: str, place: Place) -> str:
    present = {
        entry[:-3] if entry.endswith(".py") else entry
        for folder in place.code_dirs()
        for entry in os.listdir(folder)
        if entry.endswith(".py") or os.path.isdir(os.path.join(folder, entry))
    }
    by_lower = {entry.lower(): entry for entry in present}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.8)
    return by_lower[near[0]] if near else ""


def _required(package: str, place: Place) -> bool:
    pattern = re.compile(rf"^\s*{re.escape(package)}\b", re.IGNORECASE | re.MULTILINE)
    return any(pattern.search(memory.read(os.path.join(folder, "requirements.txt"))) for folder in place.code_dirs())
