"""Cold starts of PyTorch and Hugging Face: from CreateEndpoint, the environment being cached, to the first answer, and how much
of that is the framework's own import.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench import report
from bench.load import post
from bench.serving import Deployment, image_python
from slipway.cli import launch

MAKERS = Path(__file__).parents[1] / "tests" / "models"
JSON = {"Content-Type": "application/json"}


class _Case(NamedTuple):
    name: str
    image: str
    maker: str
    """The program that writes the model into a folder."""
    files: str
    """What of it is the model: a file, or a folder whose files are."""
    environment: Mapping[str, str]
    body: bytes
    imports: str
    """What the host must import before it can load such a model."""


CASES = (
    _Case("PyTorch", "pytorch-inference:2.3-cpu-py311", "make_torch.py", "model.pt", {}, b"[[1, 1]]", "import torch"),
    _Case(
        "Hugging Face",
        "huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04",
        "make_transformers.py",
        "bert",
        {"HF_TASK": "text-classification"},
        json.dumps({"inputs": "a short text"}).encode(),
        "import torch, transformers; transformers.pipeline; transformers.BertForSequenceClassification",
    ),
)


def run(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        launched = launch.start(folder / "data", ["--auth", "none"])
        stack.callback(launch.stop, launched)
        deployment = Deployment(launched)
        for case in CASES:
            _cold(arguments.rounds, deployment, case, folder)


def _cold(rounds: int, deployment: Deployment, case: _Case, folder: Path) -> None:
    python = image_python(case.image)
    data = _archive(python, case, folder)
    totals, imports = [], []
    _seconds([python, "-c", case.imports])  # its files are in memory from here on, for both sides
    for number in range(rounds):
        imports.append(_seconds([python, "-c", case.imports]))
        name = f"{case.name.replace(' ', '-').lower()}-{number}"
        in_service = deployment.deploy(name, data, image=case.image, environment=case.environment)
        begun = time.perf_counter()
        post(deployment.url(name), case.body, JSON)
        totals.append(in_service + time.perf_counter() - begun)
        deployment.sagemaker.delete_endpoint(EndpointName=name)
    total, imported = statistics.median(totals), statistics.median(imports)
    print(f"    {case.name}: CreateEndpoint to first answer {min(totals):.2f} to {max(totals):.2f} s; a bare process that only")
    print(f"    imports the framework {imported:.2f} s, which is {imported / total:.0%} of the median {total:.2f} s")
    report.verdict(f"{case.name}: first answer, against the import alone", total / imported, 2.0, 1.4, at_most=True)


def _archive(python: str, case: _Case, folder: Path) -> bytes:
    made = folder / case.maker
    made.mkdir()
    quiet = {**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
    subprocess.run([python, "-W", "ignore", str(MAKERS / case.maker), str(made)], check=True, capture_output=True, env=quiet)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        chosen = made / case.files
        for path in sorted(chosen.iterdir()) if chosen.is_dir() else [chosen]:
            tar.add(path, path.name)
    return out.getvalue()


def _seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun
