"""Fixtures: a host in a temporary folder, and a Python that has scikit-learn and XGBoost."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import Host

REQUIREMENTS = ("scikit-learn==1.7.*", "xgboost-cpu==3.*", "pandas", "joblib")


@pytest.fixture
def host() -> Iterator[Host]:
    """Not started yet. Its folder's path is short: a unix socket's address holds some 100 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="sh"))
    running = Host(folder)
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sklearn_env() -> str:
    """Path of a Python with scikit-learn, XGBoost, numpy and pandas: SLIPWAY_TEST_SKLEARN_PYTHON, or one made once by uv."""
    given = os.environ.get("SLIPWAY_TEST_SKLEARN_PYTHON")
    if given:
        return given
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        pytest.skip("no uv to make an environment with scikit-learn, and SLIPWAY_TEST_SKLEARN_PYTHON is not set")
    key = hashlib.sha256(repr((REQUIREMENTS, sys.version_info[:2])).encode()).hexdigest()[:16]
    base = Path.home() / ".cache" / "slipway" / "test-environments"
    base.mkdir(parents=True, exist_ok=True)
    python = base / key / "bin" / "python"
    with (base / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / key / "complete").exists():
            shutil.rmtree(base / key, ignore_errors=True)
            commands = (
                [uv, "venv", "-q", "-p", sys.executable, str(base / key)],
                [uv, "pip", "install", "-q", "--compile-bytecode", "-p", str(python), *REQUIREMENTS],
            )
            for command in commands:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"scikit-learn cannot be installed here: {done.stderr[-300:]}")
            (base / key / "complete").touch()
    return str(python)


def image_python(image: str) -> str:
    """The interpreter that `slipway` runs an image with, built if it is not there."""
    command = [sys.executable, "-m", "slipway.cli.main", "images", "show", "--python", image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the environment cannot be built here: {done.stderr[-300:]}")
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def torch_env() -> str:
    """Path of a Python with PyTorch: that of the image."""
    return image_python("pytorch-inference:2.3-cpu-py311")


@pytest.fixture(scope="session")
def tensorflow_env() -> str:
    """Path of a Python with TensorFlow: that of the image."""
    return image_python("tensorflow-inference:2.16-cpu")


@pytest.fixture(scope="session")
def transformers_env() -> str:
    """Path of a Python with transformers on PyTorch: that of the image."""
    return image_python("huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04")


@pytest.fixture(scope="session")
def mxnet_env() -> str:
    """Path of a Python with MXNet: that of the image."""
    return image_python("mxnet-inference:1.9-cpu-py38")
