"""The Triton image as a directory image of our own: the server that PyPI's nvidia-pytriton carries, in its own environment.

Its Python backend links the interpreter's shared library, so that the environment needs an interpreter that has one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence

import slipway_host
from slipway.core.images import Image, parse_image
from slipway.replicas.directory_images import DirectoryImage
from slipway.replicas.failures import cannot
from slipway.replicas.images import Interpreter, find_interpreters

VERSION = "2.51"
"""Of the server; NVIDIA's container of the same is 24.10."""
CONTAINER = "24.10"
REQUIREMENTS = ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime<2", "boto3")
PYTHONS = ((3, 9), (3, 12))
"""Oldest and newest with a stub of the Python backend and a numpy of that age."""
_ASK = (
    "import os, sysconfig as s; get = s.get_config_var; name = get('INSTSONAME') or ''; places = [get('LIBDIR') or '', "
    "os.path.join(get('LIBDIR') or '', get('MULTIARCH') or '')]; "
    "print(name.endswith('.so.1.0') and any(os.path.isfile(os.path.join(place, name)) for place in places))"
)


def is_triton(uri: str) -> bool:
    return parse_image(uri).framework == "triton"


def directory_image(uri: str, own: Interpreter) -> DirectoryImage:
    """What stands in for the image. Blocking: interpreters are asked, slipway's own first, until one serves. CannotRun."""
    python = _usable((lambda: [own], find_interpreters, _of_the_system))
    if python is None:
        message = (
            "Triton's Python backend needs a Python from 3.9 to 3.12 with a shared library (libpython3.x.so): there is none."
        )
        raise cannot(
            "environment", message, "install one (Debian, Ubuntu: apt-get install python3 libpython3-dev python3-venv)"
        )
    image = parse_image(uri)
    return DirectoryImage(
        name=image.repository,
        folder=os.path.join(os.path.dirname(slipway_host.__file__), "triton"),
        command=("python3", "serve.py"),
        interpreter=python.path,
        python=python.version,
        requirements=REQUIREMENTS,
        notes=tuple(_notes(image)),
    )


def _notes(image: Image) -> Iterable[str]:
    yield f"Triton {VERSION} runs ({CONTAINER}), with the backends python and onnxruntime; other backends need Docker"
    if image.version and image.version != CONTAINER:
        yield f"the image is of {image.version}"
    if image.device != "cpu":
        yield "the image asks for gpu; onnxruntime runs on the CPU"


def _of_the_system() -> list[Interpreter]:
    """Those that others of the same name hide on PATH."""
    versions = ((3, minor) for minor in range(PYTHONS[1][1], PYTHONS[0][1] - 1, -1))
    found = ((f"/usr/bin/python{major}.{minor}", (major, minor)) for major, minor in versions)
    return [Interpreter(path, version) for path, version in found if os.path.exists(path)]


def _usable(groups: Iterable[Callable[[], Sequence[Interpreter]]]) -> Interpreter | None:
    for group in groups:
        for each in group():
            if PYTHONS[0] <= each.version <= PYTHONS[1] and _shared(each.path):
                return each
    return None


def _shared(python: str) -> bool:
    """Whether the interpreter's shared library is where it says."""
    try:
        done = subprocess.run([python, "-I", "-c", _ASK], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout.strip() == "True"
