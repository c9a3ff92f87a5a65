"""scikit-learn's defaults: every row of containers.md 3.6, and what stands in for a missing script."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from pathlib import Path

import pytest

from .running import Host

MODEL_FN = "import joblib, os\ndef model_fn(d): return joblib.load(os.path.join(d, 'model.joblib'))\n"
TRAIN = """
import sys, joblib, numpy as np
from sklearn.linear_model import LinearRegression
X = np.arange(20.0).reshape(10, 2) ** 1.5
joblib.dump(LinearRegression().fit(X, X @ [1.0, 2.0] + 3.0), sys.argv[1])
"""
CSV = "text/csv; charset=utf-8"


@pytest.fixture(scope="module")
def trained(sklearn_env: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("trained") / "model.joblib"
    subprocess.run([sklearn_env, "-c", TRAIN, str(path)], check=True)
    return path.read_bytes()


@pytest.fixture
def model(host: Host, sklearn_env: str, trained: bytes) -> Host:
    host.python = sklearn_env
    (host.model / "model.joblib").write_bytes(trained)
    host.script(MODEL_FN)
    return host


def npy(rows: list[list[float]]) -> bytes:
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    head += " " * (64 - (10 + len(head) + 1) % 64) + "\n"
    values = [value for row in rows for value in row]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + struct.pack(f"<{len(values)}d", *values)


def test_the_default_functions(model: Host) -> None:
    model.start()
    reply = model.invoke(b"[[1, 1], [2, 2]]", content_type="application/json")
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.text) == pytest.approx([6.0, 9.0], rel=1e-4)
    wanted = pytest.approx([6.0], rel=1e-4)
    assert json.loads(model.invoke(b"[1, 1]", content_type="application/json").text) == wanted
    assert json.loads(model.invoke(b"1,1", content_type="text/csv").text) == wanted
    assert json.loads(model.invoke(b"1,1\n", content_type="text/csv; charset=utf-8").text) == wanted
    assert json.loads(model.invoke(b"[[1, 1]]").text) == wanted
    assert json.loads(model.invoke(npy([[1, 1]]), content_type="application/x-npy").text) == wanted
    csv = model.invoke(b"1,1\n2,2", content_type="text/csv", accept="text/csv")
    assert csv.headers["content-type"] == CSV
    assert [float(line) for line in csv.text.splitlines()] == pytest.approx([6.0, 9.0], rel=1e-4)
    assert csv.text.endswith("\n")
    answer = model.invoke(b"1,1", content_type="text/csv", accept="application/x-npy")
    assert answer.headers["content-type"] == "application/x-npy"
    assert answer.body.startswith(b"\x93NUMPY")
    assert model.invoke(b"1,1", content_type="text/csv", accept="a/b, text/csv").headers["content-type"] == CSV
    assert model.invoke(b"1,1", content_type="text/csv", accept="*/*").headers["content-type"] == "application/json"


def test_errors_of_the_default_functions(model: Host) -> None:
    model.start()
    unknown = model.invoke(b"x", content_type="application/x-what")
    assert unknown.status == 415
    assert "application/x-what is not supported" in json.loads(unknown.text)["error-message"]
    assert model.invoke(b"1,1", content_type="text/csv", accept="application/x-what").status == 406
    assert model.invoke(b"1,a", content_type="text/csv").status == 500
    wrong = model.invoke(b"1,2,3", content_type="text/csv")
    assert wrong.status == 500
    assert wrong.text.startswith("X has 3 features, but LinearRegression is expecting 2 features")
    buffer = io.BytesIO()
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    head += b" " * (64 - (10 + len(head) + 1) % 64) + b"\n"
    buffer.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + b"cos\nsystem\n(S'touch pwned'\ntR.")
    evil = model.invoke(buffer.getvalue(), content_type="application/x-npy")
    assert evil.status == 500
    assert "allow_pickle=False" in evil.text
    assert not (model.model / "pwned").exists()


def test_aws_errors_can_be_had(model: Host) -> None:
    model.start({"SLIPWAY_STRICT_AWS_ERRORS": "1"})
    assert model.invoke(b"[[1, 1]]").status == 200
    for body, content_type, accept in (
        (b"[1, 1]", "application/json", ""),
        (b"1,1", "text/csv", ""),
        (b"1,1\n1,1", "text/csv; charset=utf-8", ""),
        (b"x", "x/y", ""),
        (b"[[1, 1]]", "", "text/csv, application/json"),
    ):
        reply = model.invoke(body, content_type=content_type, accept=accept)
        assert (reply.status, reply.headers["content-type"]) == (500, "text/html; charset=utf-8"), (body, content_type)
        assert "Internal Server Error" in reply.text


def test_a_script_may_replace_one_function(model: Host) -> None:
    model.script(MODEL_FN + "def predict_fn(data, model): return ['a', 'b'][:len(data)]\n")
    model.start()
    assert model.invoke(b"[[1, 1], [2, 2]]", accept="text/csv").text == "a\nb\n"


@pytest.mark.parametrize("name", ["model.joblib", "anything.pkl"])
def test_without_a_script_the_one_pickle_is_the_model(model: Host, name: str) -> None:
    (model.model / "code" / "inference.py").unlink()
    (model.model / "model.joblib").rename(model.model / name)
    model.start()
    assert model.invoke(b"1,1", content_type="text/csv").status == 200


def test_without_a_script_several_pickles_are_a_question(model: Host, trained: bytes) -> None:
    (model.model / "code" / "inference.py").unlink()
    (model.model / "second.pkl").write_bytes(trained)
    report = model.fails()
    assert report["kind"] == "no-model"
    assert "2 *.joblib or *.pkl files" in report["message"]


def test_a_model_of_an_incompatible_version(model: Host, trained: bytes) -> None:
    (model.model / "model.joblib").write_bytes(trained.replace(b"sklearn.linear_model._base", b"sklearn.linear_model._gone"))
    report = model.fails()
    assert report["kind"] == "pickle-version"
    assert "model.joblib was written by scikit-learn 1.7" in report["message"]


def test_workers_share_a_model_of_scikit_learn(model: Host) -> None:
    model.start(workers=2, cpus=2)
    for index in range(2):
        assert model.invoke(b"1,1", content_type="text/csv", index=index).status == 200
    assert len(model.children()) == 1  # numeric libraries with one thread each leave the loader single-threaded
    assert Path(model.worker(1)).is_socket()
