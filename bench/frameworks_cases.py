"""The models of `bench frameworks`: one small one of each framework, made by a program in that framework's environment."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MAKERS = Path(__file__).parents[1] / "tests" / "models"
DEEP = "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
OWN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/"
_SKLEARN = """
import sys, joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
x, y = load_breast_cancer(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=10000).fit(x, y), sys.argv[1] + "/model.joblib")
"""
_XGBOOST = """
import sys, numpy as np, xgboost as xgb
x = np.random.RandomState(0).rand(2000, 30)
xgb.train({"max_depth": 6, "nthread": 1}, xgb.DMatrix(x, x[:, 0] > x[:, 1]), 100).save_model(sys.argv[1] + "/model.json")
"""


class Case(NamedTuple):
    name: str
    image: str
    flavour: str
    maker: str
    """A file below tests/models, or the program itself: it writes the model into the folder it is given."""
    files: str
    """What of it is the model: a file, or a folder whose files are."""
    environment: Mapping[str, str]
    body: bytes
    content_type: str
    imports: str
    """What the host must import before it can load such a model."""


ROW = b"[[" + b",".join(b"%.3f" % (number / 30) for number in range(30)) + b"]]"
JSON = "application/json"
CASES = (
    Case(
        "scikit-learn",
        f"{OWN}sagemaker-scikit-learn:1.2-1-cpu-py3",
        "sklearn",
        _SKLEARN,
        "model.joblib",
        {},
        ROW,
        JSON,
        "import joblib, sklearn.linear_model",
    ),
    Case(
        "XGBoost",
        f"{OWN}sagemaker-xgboost:1.7-1",
        "xgboost",
        _XGBOOST,
        "model.json",
        {},
        ROW.strip(b"[]"),
        "text/csv",
        "import xgboost",
    ),
    Case(
        "PyTorch",
        f"{DEEP}pytorch-inference:2.3-cpu-py311",
        "pytorch",
        "make_torch.py",
        "model.pt",
        {},
        b"[[1, 1]]",
        JSON,
        "import torch",
    ),
    Case(
        "Hugging Face",
        f"{DEEP}huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04",
        "huggingface",
        "make_transformers.py",
        "bert",
        {"HF_TASK": "text-classification"},
        json.dumps({"inputs": "a short text"}).encode(),
        JSON,
        "import torch, transformers; transformers.pipeline; transformers.BertForSequenceClassification",
    ),
    Case(
        "TensorFlow",
        f"{DEEP}tensorflow-inference:2.16-cpu",
        "tensorflow",
        "make_tensorflow.py",
        "half",
        {},
        b'{"instances": [[2, 4]]}',
        JSON,
        "import tensorflow",
    ),
)


def make(case: Case, python: str, folder: Path) -> Path:
    """The model's own folder, as it is unpacked for a host."""
    made = folder / f"made-{case.flavour}"
    model = folder / f"model-{case.flavour}"
    made.mkdir()
    model.mkdir()
    program = [str(MAKERS / case.maker)] if case.maker.endswith(".py") else ["-c", case.maker]
    quiet = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([python, "-W", "ignore", *program, str(made)], check=True, capture_output=True, env=quiet)
    chosen = made / case.files
    for path in sorted(chosen.iterdir()) if chosen.is_dir() else [chosen]:
        path.rename(model / path.name)
    return model


def archive(model: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path in sorted(model.iterdir()):
            tar.add(path, path.name)
    return out.getvalue()
