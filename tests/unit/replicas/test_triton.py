"""Which interpreter Triton's environment is made with, and what is said of the image."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from slipway.replicas import triton
from slipway.replicas.environments import Environments
from slipway.replicas.failures import CannotRun
from slipway.replicas.images import Interpreter

CPU = "763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:24.10-py3-cpu"
GPU = "301217895009.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tritonserver:22.07-py3"


def python(tmp_path: Path, name: str, says: str) -> Interpreter:
    """One that answers the question for its shared library so."""
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Interpreter(str(path), (3, 11))


def alone(monkeypatch: pytest.MonkeyPatch, *others: Interpreter) -> None:
    monkeypatch.setattr(triton, "find_interpreters", lambda: list(others))
    monkeypatch.setattr(triton, "_of_the_system", list)


def test_an_interpreter_with_a_shared_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = python(tmp_path, "good", "True"), python(tmp_path, "bad", "False")
    new = Interpreter(good.path, (3, 14))
    alone(monkeypatch, new, bad, good)
    image = triton.directory_image(CPU, bad)
    assert (image.interpreter, image.python) == (good.path, (3, 11))
    assert os.path.isfile(os.path.join(image.folder, image.command[1]))
    assert not image.bind_to_port
    assert image.notes == ("Triton 2.51 runs (24.10), with the backends python and onnxruntime; other backends need Docker",)
    alone(monkeypatch, bad, Interpreter("/nowhere/python3", (3, 11)))
    with pytest.raises(CannotRun, match="a shared library"):
        triton.directory_image(CPU, new)


def test_what_differs_from_the_image_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    image = triton.directory_image(GPU, python(tmp_path, "good", "True"))
    assert "the image is of 22.07" in image.notes
    assert "the image asks for gpu; onnxruntime runs on the CPU" in image.notes


async def test_the_image_is_a_directory_image_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    environments = Environments(str(tmp_path), own=python(tmp_path, "good", "True"))
    runtime = await environments.runtime(CPU)
    assert runtime.flavour == "container"
    assert runtime.directory is not None
    assert runtime.directory.name == "sagemaker-tritonserver"
