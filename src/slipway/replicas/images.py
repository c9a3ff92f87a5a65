"""What really runs for an image: which release of a framework, on which interpreter, with what beside it.

A release is *exact* when its major and minor version are the image's. Where no installed interpreter has wheels for it, the
next newer release stands in (it can usually read the older one's models), and a note says so.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slipway.core.images import BUILT_IN, Image, parse_image
from slipway.replicas.directory_images import DirectoryImage
from slipway.replicas.failures import cannot

TABLE = 1
"""Raise it when a row below changes: environments built from the old rows are then not reused."""
OLDEST_PYTHON = (3, 9)
"""What slipway_host runs on."""
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Interpreter:
    path: str
    version: Version


@dataclass(frozen=True, slots=True)
class Release:
    """A framework release that PyPI has wheels of."""

    requirement: str
    pythons: tuple[Version, Version]
    """Oldest and newest Python with wheels."""
    beside: tuple[str, ...] = ()
    on: str = ""
    """What it runs on, in words (`PyTorch 2.13.0`)."""
    otherwise: tuple[str, ...] = ()
    """Options of a second try, where the configured indexes lack it."""
    algorithm: str = ""
    """The version of AWS's own algorithm that it computes for; no user code runs beside."""

    @property
    def version(self) -> str:
        return self.algorithm or self.requirement.partition("==")[2].partition("+")[0]

    @property
    def minor(self) -> Version:
        return _minor(self.version)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The answer: an environment to build and the flavour of slipway_host that runs in it."""

    flavour: str
    """One of slipway_host's: `sklearn`, `xgboost`, `pytorch`, `huggingface`, `tensorflow`, `mxnet`, `linear_learner`,
    `sparkml`; `container`: a directory image."""
    title: str
    """`scikit-learn 1.2.2 (python 3.11)`."""
    requirements: tuple[str, ...]
    interpreter: Interpreter
    notes: tuple[str, ...] = ()
    directory: DirectoryImage | None = None
    """A directory image: its own server runs, none of ours."""
    otherwise: tuple[str, ...] = ()
    """uv's options of a second try, where the configured indexes lack a requirement."""
    from_source: tuple[str, ...] = ()
    """Packages that indexes have as source only; they are built."""
    engine: Runtime | None = None
    """What must run instead if the model archive needs it: Spark, for a pipeline that Spark saved itself."""
    gpu: bool = False
    """The image asks for a GPU, and what runs uses one."""


_OLD_NUMPY = ("numpy<2", "pandas<3")
_SKLEARN = (
    Release("scikit-learn==0.24.2", ((3, 9), (3, 9)), ("numpy<1.24", "scipy<1.8", "pandas<2")),
    Release("scikit-learn==1.0.2", ((3, 9), (3, 10)), ("numpy<1.24", "scipy<1.10", "pandas<2")),
    Release("scikit-learn==1.1.3", ((3, 9), (3, 11)), (*_OLD_NUMPY, "scipy<1.12")),
    Release("scikit-learn==1.2.2", ((3, 9), (3, 11)), (*_OLD_NUMPY, "scipy<1.12")),
    Release("scikit-learn==1.3.2", ((3, 9), (3, 12)), (*_OLD_NUMPY, "scipy<1.12")),
    Release("scikit-learn==1.4.2", ((3, 9), (3, 12)), (*_OLD_NUMPY, "scipy<1.14")),
    Release("scikit-learn==1.5.2", ((3, 9), (3, 13)), ("numpy", "pandas<3", "scipy")),
    Release("scikit-learn==1.7.2", ((3, 10), (3, 14)), ("numpy", "pandas<3", "scipy")),
)
_XGB_BESIDE = (*_OLD_NUMPY, "scipy<1.12", "scikit-learn<1.4")
_XGBOOST = (
    Release("xgboost==0.90", ((3, 9), (3, 11)), (*_XGB_BESIDE, "setuptools<81")),
    Release("xgboost==1.0.2", ((3, 9), (3, 11)), (*_XGB_BESIDE, "setuptools<81")),
    Release("xgboost==1.2.1", ((3, 9), (3, 11)), (*_XGB_BESIDE, "setuptools<81")),
    Release("xgboost==1.3.3", ((3, 9), (3, 11)), (*_XGB_BESIDE, "setuptools<81")),
    Release("xgboost==1.5.2", ((3, 9), (3, 11)), (*_XGB_BESIDE, "setuptools<81")),
    Release("xgboost==1.7.6", ((3, 9), (3, 12)), _XGB_BESIDE),
    Release("xgboost-cpu==2.1.4", ((3, 9), (3, 13)), ("numpy", "pandas<3", "scipy", "scikit-learn<1.6")),
    Release("xgboost-cpu==3.0.5", ((3, 10), (3, 14)), ("numpy", "pandas<3", "scipy", "scikit-learn<1.8")),
)
_TORCH = "torch==2.13.0+cpu"
"""PyPI's own build carries 3 GB of CUDA. PyTorch's index has this one, or a folder in UV_FIND_LINKS or PIP_FIND_LINKS."""
_TORCH_BESIDE = ("numpy", "scipy", "pandas<3", "pillow", "requests")
_CUDA = "torch==2.13.0,!=2.13.0+cpu"
"""Where the image asks for gpu and there is one: PyPI's own build."""
_CUDA_INDEX = ("--torch-backend", "auto")
_CPU_INDEX = ("--torch-backend", "cpu")
_PYTORCH = (Release(_TORCH, ((3, 10), (3, 14)), _TORCH_BESIDE, otherwise=_CPU_INDEX),)
_TRANSFORMERS = (
    Release(
        "transformers==4.57.6",  # the last before 5, which took out summarization, translation and question-answering
        ((3, 10), (3, 14)),
        (_TORCH, *_TORCH_BESIDE, "sentencepiece", "protobuf"),
        "PyTorch 2.13.0",
        _CPU_INDEX,
    ),
)
_TENSORFLOW = (Release("tensorflow-cpu==2.21.0", ((3, 10), (3, 13)), ("numpy", "pillow", "requests")),)
_MXNET = (Release("mxnet==1.9.1", ((3, 9), (3, 11)), ("numpy<1.24", "scipy<1.12", "pandas<2.2", "pillow", "requests")),)
"""The last release: the project has ended."""
_LINEAR_LEARNER = (Release("numpy==2.4.6", ((3, 11), (3, 14)), on="numpy 2.4.6", algorithm="1"),)
_SPARK = (Release("pyspark==4.3.0", ((3, 11), (3, 14)), ("numpy",)),)
_FRAMEWORKS = {
    "sklearn": ("scikit-learn", _SKLEARN),
    "xgboost": ("XGBoost", _XGBOOST),
    "pytorch": ("PyTorch", _PYTORCH),
    "huggingface": ("transformers", _TRANSFORMERS),
    "tensorflow": ("TensorFlow", _TENSORFLOW),
    "mxnet": ("MXNet", _MXNET),
    "linear-learner": ("Linear Learner", _LINEAR_LEARNER),
}
_ALSO = ("joblib", "boto3")
"""What AWS's images of both carry beside, at any version."""


def runtime_of(uri: str, own: Interpreter, others: Callable[[], Sequence[Interpreter]], *, gpu: bool = False) -> Runtime:
    """What runs for the image `uri`. `others` (asked only when `own` has no exact release) finds further interpreters.

    `gpu`: this machine has one.

    CannotRun, kind unknown-image, for an image that nothing here can run.
    """
    image = parse_image(uri)
    if image.framework == "sparkml":
        return _sparkml(image, own, others)
    if image.framework not in _FRAMEWORKS:
        raise cannot("unknown-image", *_why_unknown(image))
    name, releases = _FRAMEWORKS[image.framework]
    asked = image.transformers if image.framework == "huggingface" else image.version
    wanted = _minor(asked) if asked else releases[-1].minor
    release, interpreter = _choose(releases, wanted, own, others)
    python = ".".join(map(str, interpreter.version))
    requirements = (release.requirement, *release.beside, *(() if release.algorithm else _ALSO))
    cuda = gpu and image.device == "gpu" and _TORCH in requirements
    title = (
        f"{name} {release.version} " + (f"on {release.on} " if release.on else "") + "with CUDA " * cuda + f"(python {python})"
    )
    notes = tuple(_notes(image, name, release, wanted, f"{release.version} on Python {python}", len(releases) == 1))
    flavour = image.framework.replace("-", "_")
    if not cuda:
        notes += tuple(_device_notes(image, release.on or name, gpu))
        return Runtime(flavour, title, requirements, interpreter, notes, otherwise=release.otherwise)
    requirements = tuple(_CUDA if each == _TORCH else each for each in requirements)
    return Runtime(flavour, title, requirements, interpreter, notes, otherwise=_CUDA_INDEX, gpu=True)


def _device_notes(image: Image, name: str, gpu: bool) -> Iterator[str]:
    if image.device == "gpu" and not gpu:
        yield f"the image asks for gpu, and no CUDA device is present on this machine; the CPU build of {name} runs"
    elif image.device != "cpu":
        yield f"the image asks for {image.device}; the CPU build of {name} runs"


def _sparkml(image: Image, own: Interpreter, others: Callable[[], Sequence[Interpreter]]) -> Runtime:
    """MLeap bundles of every version are evaluated by slipway_host alone, on any Python; Spark is the engine beside."""
    wanted = _minor(image.version) if image.version else _SPARK[-1].minor
    release, interpreter = _choose(_SPARK, wanted, own, others)
    python = ".".join(map(str, interpreter.version))
    notes = tuple(_notes(image, "Spark", release, wanted, f"{release.version} on Python {python}", only=True))
    requirements = (release.requirement, *release.beside)
    title = f"Spark {release.version} (python {python})"
    engine = Runtime("sparkml", title, requirements, interpreter, notes, from_source=("pyspark",))
    python = ".".join(map(str, own.version))
    return Runtime("sparkml", f"SparkML, MLeap bundles (python {python})", (), own, engine=engine)


def _notes(image: Image, name: str, release: Release, wanted: Version, runs: str, only: bool) -> Iterator[str]:
    """What is not as the image asks. `only`: we have no other release."""
    if release.minor != wanted:
        shown = ".".join(map(str, wanted))
        why = "is asked for" if only else "has no wheels for an installed Python"
        yield f"{name} {shown} {why}: {runs} runs instead"
    if image.framework == "huggingface" and image.base != "pytorch":
        yield f"the image is built on {image.base}; {release.on} runs instead, and reads the weights of PyTorch"


def runtime_of_directory(image: DirectoryImage, own: Interpreter) -> Runtime:
    """What runs for a directory image; one that was registered without a Python brings its own or needs none."""
    if not image.interpreter:
        return Runtime("container", f"directory image {image.name}", (), own, image.notes, image)
    version = (image.python[0], image.python[1])
    title = f"directory image {image.name} (python {version[0]}.{version[1]})"
    return Runtime("container", title, (), Interpreter(image.interpreter, version), image.notes, image)


def _why_unknown(image: Image) -> tuple[str, str]:
    known = (
        "images of scikit-learn (sagemaker-scikit-learn), XGBoost (sagemaker-xgboost), PyTorch (pytorch-inference), Hugging "
        "Face (huggingface-pytorch-inference), TensorFlow (tensorflow-inference), MXNet (mxnet-inference), SparkML "
        "(sagemaker-sparkml-serving), Linear Learner (linear-learner) and Triton (sagemaker-tritonserver) run here"
    )
    if image.framework == "byoc":
        message = f"The image {image.uri!r} is neither one that slipway knows nor registered as a directory image."
        return message, f"register its folder: slipway images add {image.repository} DIR; or use another: {known}"
    if image.framework in BUILT_IN:
        return f"The image {image.uri!r} is AWS's built-in algorithm {image.framework}, which is not supported.", known
    name = " ".join(filter(None, (image.framework, image.version)))
    return f"The image {image.uri!r} ({name} for {image.device}) is not supported yet.", known


def _choose(
    releases: Sequence[Release], wanted: Version, own: Interpreter, others: Callable[[], Sequence[Interpreter]]
) -> tuple[Release, Interpreter]:
    """An exact release on our own interpreter, else on another, else the nearest that any can have."""
    exact = [release for release in releases if release.minor == wanted]
    if found := _fitting(exact, [own]):
        return found
    interpreters = [own, *others()]
    if found := _fitting(exact, interpreters):
        return found
    newer = sorted((r for r in releases if r.minor > wanted), key=lambda r: r.minor)
    older = sorted((r for r in releases if r.minor < wanted), key=lambda r: r.minor, reverse=True)
    if found := _fitting([*newer, *older], interpreters):
        return found
    version = ".".join(map(str, own.version))
    raise cannot("environment", f"No release of the framework has wheels for Python {version}.", "install Python 3.11 or 3.12")


def _fitting(releases: Sequence[Release], interpreters: Sequence[Interpreter]) -> tuple[Release, Interpreter] | None:
    for release in releases:
        for interpreter in interpreters:
            if release.pythons[0] <= interpreter.version <= release.pythons[1]:
                return release, interpreter
    return None


def _minor(version: str) -> Version:
    numbers = [int(n) for n in re.findall(r"\d+", version)[:2]]
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def own_interpreter() -> Interpreter:
    """The one that runs slipway, outside of its virtual environment."""
    base: str = getattr(sys, "_base_executable", None) or sys.executable
    return Interpreter(os.path.realpath(base), sys.version_info[:2])


def find_interpreters() -> list[Interpreter]:
    """Installed Pythons: on PATH, of pyenv, of uv. Runs each once (blocking, some 20 ms each): a name proves nothing."""
    candidates = [path for minor in range(OLDEST_PYTHON[1], 15) if (path := shutil.which(f"python3.{minor}"))]
    home = os.path.expanduser("~")
    roots = [os.environ.get("PYENV_ROOT", f"{home}/.pyenv") + "/versions", f"{home}/.local/share/uv/python"]
    for root in roots:
        candidates += sorted(glob.glob(f"{glob.escape(root)}/*/bin/python3"))
    found: dict[str, Interpreter] = {}
    for path in candidates:
        code = "import sys, os; print(*sys.version_info[:2], os.path.realpath(sys.executable))"
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            result = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, timeout=10, check=True)
            major, minor, real = result.stdout.strip().split(" ", 2)
            if (int(major), int(minor)) >= OLDEST_PYTHON:
                found.setdefault(real, Interpreter(real, (int(major), int(minor))))
    return list(found.values())
