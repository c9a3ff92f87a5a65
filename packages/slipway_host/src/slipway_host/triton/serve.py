"""Starts Triton as AWS's image does (containers.md 3.12): the server that nvidia-pytriton carries, with its SageMaker front.

Runs as a program, in the environment that holds nvidia-pytriton. What cannot be served is refused before the server starts.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

BACKENDS = ("python", "onnxruntime")
"""The first is nvidia-pytriton's, the second ours (`onnxruntime/model.py`)."""
PLATFORMS = {"onnxruntime_onnx": "onnxruntime", "ensemble": "ensemble"}
FILES = {"model.py": "python", "model.onnx": "onnxruntime"}
"""What a model without a config.pbtxt is, by its file."""
DEFAULT_MODEL = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
ARGUMENTS = {
    "SAGEMAKER_SAFE_PORT_RANGE": "--sagemaker-safe-port-range={}",
    "SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT": "--buffer-manager-thread-count={}",
    "SAGEMAKER_TRITON_THREAD_COUNT": "--sagemaker-thread-count={}",
    "SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE": "--backend-config=python,shm-default-byte-size={}",
    "SAGEMAKER_TRITON_SHM_GROWTH_BYTE_SIZE": "--backend-config=python,shm-growth-byte-size={}",
    "SAGEMAKER_TRITON_LOG_VERBOSE": "--log-verbose={}",
    "SAGEMAKER_TRITON_LOG_INFO": "--log-info={}",
    "SAGEMAKER_TRITON_LOG_WARNING": "--log-warning={}",
    "SAGEMAKER_TRITON_LOG_ERROR": "--log-error={}",
    "SAGEMAKER_TRITON_MODEL_LOAD_GPU_LIMIT": "--model-load-gpu-limit={}",
}
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_FIELD = r'^\s*{}\s*:\s*"([^"]*)"'
_STEP = re.compile(r'\bmodel_name\s*:\s*"([^"]*)"')


class Refused(Exception):
    """The repository cannot be served; the text says why and what to do."""


def default_model(repository: str, environment: Mapping[str, str]) -> str:
    """The model that /invocations asks. Raises Refused."""
    folders = sorted(entry.name for entry in os.scandir(repository) if entry.is_dir() and entry.name != "code")
    if os.path.isfile(os.path.join(repository, "config.pbtxt")):
        raise Refused("config.pbtxt is at the top of the model archive. Put it into a folder of the model's name")
    name = environment.get(DEFAULT_MODEL, "")
    if name:
        if name not in folders:
            shown = ", ".join(folders) or "no folder"
            raise Refused(f"{DEFAULT_MODEL} is {name}, and the model archive has {shown}. Correct it, or add that model")
        return name
    if len(folders) != 1:
        shown = f"{len(folders)} models ({', '.join(folders)})" if folders else "no folder of a model"
        raise Refused(f"The model archive has {shown}. Set {DEFAULT_MODEL} to the one that answers, in a folder of that name")
    return folders[0]


def check(repository: str, name: str, seen: frozenset[str] = frozenset()) -> None:
    """Whether the model, and those of its ensemble, have a backend here. Raises Refused."""
    if name in seen:
        return
    folder = os.path.join(repository, name)
    if not _NAME.fullmatch(name) or not os.path.isdir(folder):
        raise Refused(f"An ensemble names {name}, and there is no such model in the archive. Add it, or correct the ensemble")
    path = os.path.join(folder, "config.pbtxt")
    text = ""
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"#[^\n]*", "", file.read(1 << 20))
    backend = _field(text, "backend") or PLATFORMS.get(_field(text, "platform"), _field(text, "platform")) or _by_file(folder)
    if backend == "ensemble":
        for step in _STEP.findall(text):
            check(repository, step, seen | {name})
    elif backend not in BACKENDS:
        what = f"backend {backend}" if backend else "a backend that its files do not tell"
        raise Refused(
            f"Model {name} needs {what}. Triton runs here with the backends {' and '.join(BACKENDS)}; any other needs "
            "Docker and NVIDIA's image. Export the model to ONNX, or write a model.py for the python backend"
        )


def _field(text: str, name: str) -> str:
    found = re.search(_FIELD.format(name), text, re.MULTILINE)
    return found[1] if found else ""


def _by_file(folder: str) -> str:
    for version in sorted(os.listdir(folder)):
        for file, backend in FILES.items():
            if version.isdigit() and os.path.exists(os.path.join(folder, version, file)):
                return backend
    return ""


def arguments(environment: Mapping[str, str], repository: str, name: str, backends: str) -> Iterable[str]:
    """The server's, by the image's variables."""
    yield from ("--allow-sagemaker=true", "--allow-http=false", "--allow-grpc=false", "--allow-metrics=false")
    yield f"--sagemaker-port={environment.get('SAGEMAKER_BIND_TO_PORT') or 8080}"
    yield from (f"--model-repository={repository}", "--model-control-mode=explicit", f"--load-model={name}")
    yield f"--backend-directory={backends}"
    for variable, argument in ARGUMENTS.items():
        if environment.get(variable):
            yield argument.format(environment[variable])
    yield from environment.get("SAGEMAKER_TRITON_ADDITIONAL_ARGS", "").split()


def backend_folder(carried: str, ours: str, folder: str) -> str:
    """`folder` with the backends: that of nvidia-pytriton (at `carried`), with the stub of this Python, and our own.

    Copies of 3 MB: the server follows no links out of the folder.
    """
    python = os.path.join(folder, "python")
    shutil.copytree(os.path.join(carried, "backends", "python"), python)
    version = "{}.{}".format(*sys.version_info)
    shutil.copy(os.path.join(carried, "python_backend_stubs", version, "triton_python_backend_stub"), python)
    shutil.copytree(ours, os.path.join(folder, "onnxruntime"), ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def main() -> None:
    repository = os.environ.get("SM_MODEL_DIR") or "/opt/ml/model"
    try:
        name = default_model(repository, os.environ)
        check(repository, name)
    except (OSError, Refused) as error:
        sys.exit(f"ERROR: {error}.")
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        sys.exit("ERROR: this environment has no nvidia-pytriton.")
    package = os.path.dirname(spec.origin)
    carried = os.path.join(package, "tritonserver")
    libraries = os.path.join(os.path.dirname(package), "nvidia_pytriton.libs")
    folder = f"/tmp/triton-{os.getpid()}"  # noqa: S108  private to the sandbox
    ours = os.path.join(os.path.dirname(os.path.abspath(__file__)), "onnxruntime")
    server = os.path.join(carried, "bin", "tritonserver")
    command = [server, *arguments(os.environ, repository, name, backend_folder(carried, ours, folder))]
    known = os.environ.get("LD_LIBRARY_PATH", "")
    python = sysconfig.get_config_var("LIBDIR") or ""
    paths = ":".join(filter(None, (libraries, python, known)))
    sys.stdout.flush()
    os.execve(server, command, {**os.environ, DEFAULT_MODEL: name, "LD_LIBRARY_PATH": paths})  # noqa: S606  this is what it is for


if __name__ == "__main__":
    main()
