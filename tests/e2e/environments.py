"""Python environments for clients under test: each SDK in one of its own, built once by uv and cached by its packages."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway" / "test-environments"

BOTO3_2024 = ("boto3==1.34.162", "botocore==1.34.162")
AWS_CLI = ("awscli",)
SDK_2 = ("sagemaker==2.257.*", "numpy<2", "scikit-learn==1.2.2", "setuptools<81")
SDK_3 = ("sagemaker==3.27.*",)
MXNET_TOOLKIT = ("sagemaker-mxnet-inference==1.5.5", "sagemaker-inference==1.5.11", "mxnet==1.9.1", "numpy<1.24")
"""AWS's own, to compare with. With newer releases of the common toolkit it cannot load its default model."""
EXAMPLE = ("boto3", "scikit-learn==1.2.2", "numpy<2", "matplotlib>=3.7")
"""What the head of examples/async_autoscaling.py asks `uv run` for."""


def client_python(*packages: str) -> str:
    """The interpreter of an environment that holds `packages`."""
    key = hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:12]
    folder = CACHE / key
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = Path(sys.executable).parent / "uv"
            subprocess.run([str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
            command = [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "bin/python")]
            subprocess.run([*command, *packages], check=True)
            (folder / "done").touch()
    return str(folder / "bin" / "python")


def client_packages(python: str, *packages: str) -> str:
    """A folder for PYTHONPATH that holds just these packages, and not what they depend on; wheels for `python`."""
    key = hashlib.sha256(" ".join((python, *packages)).encode()).hexdigest()[:12]
    folder = CACHE / f"{key}-packages"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            command = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--no-deps", "--python", python]
            subprocess.run([*command, "--target", str(folder), *packages], check=True)
            (folder / "done").touch()
    return str(folder)
