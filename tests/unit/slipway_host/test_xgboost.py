"""XGBoost: algorithm mode and script mode, the rows of containers.md 3.7."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .running import Host, ask

TRAIN = """
import sys, pickle, numpy as np, xgboost as xgb
folder = sys.argv[1]
X = np.arange(60.0).reshape(20, 3); y = X[:, 0] * 2
matrix = xgb.DMatrix(X, y)
booster = xgb.train({"max_depth": 2, "nthread": 1}, matrix, 10)
booster.save_model(folder + "/model.json")
booster.save_model(folder + "/model.ubj")
pickle.dump(booster, open(folder + "/model.pkl", "wb"))
xgb.train({"nthread": 1}, xgb.DMatrix(X, y * 0 + 100), 5).save_model(folder + "/other.json")
soft = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
xgb.train(soft, xgb.DMatrix(X, np.arange(20) % 3), 5).save_model(folder + "/soft.json")
prob = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
xgb.train(prob, xgb.DMatrix(X, np.arange(20) % 3), 5).save_model(folder + "/prob.json")
print(float(booster.predict(xgb.DMatrix(X[:1]))[0]))
"""
CSV = "text/csv"


@pytest.fixture(scope="module")
def trained(sklearn_env: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boosted")
    done = subprocess.run([sklearn_env, "-c", TRAIN, str(folder)], check=True, capture_output=True, text=True)
    (folder / "expected").write_text(done.stdout)
    return folder


def algorithm(host: Host, python: str, trained: Path, *names: str) -> float:
    host.python = python
    host.config["flavour"] = "xgboost"
    for name in names:
        (host.model / name).write_bytes((trained / name).read_bytes())
    return float((trained / "expected").read_text())


@pytest.mark.parametrize("name", ["model.json", "model.ubj", "model.pkl"])
def test_each_format_of_a_model(host: Host, sklearn_env: str, trained: Path, name: str) -> None:
    expected = algorithm(host, sklearn_env, trained, name)
    host.start()
    assert float(host.invoke(b"0,1,2\n", content_type=CSV).text) == pytest.approx(expected, rel=1e-5)


def test_types_in_and_out(host: Host, sklearn_env: str, trained: Path) -> None:
    expected = algorithm(host, sklearn_env, trained, "model.json")
    (host.model / ".hidden").write_text("not a model")
    host.start()
    reply = host.invoke(b"0,1,2\n57,58,59", content_type=CSV)
    assert reply.headers["content-type"].startswith("text/csv")
    assert [float(line) for line in reply.text.splitlines()] == [
        pytest.approx(expected, rel=1e-5),
        pytest.approx(104.5, abs=0.1),
    ]
    for content_type in ("", "text/libsvm", "text/x-libsvm", "libsvm"):
        single = host.invoke(b"0 1:0 2:1 3:2\n", content_type=content_type, accept="application/json")
        assert json.loads(single.text) == {"predictions": [{"score": pytest.approx(expected, rel=1e-5)}]}
        assert single.headers["content-type"] == "application/json"
    assert host.invoke(b"1:0 2:1 3:2", content_type="libsvm").status == 200
    assert host.invoke(b"0,,2", content_type="csv").status == 200
    assert host.invoke(b"0,1,2", content_type="text/csv; label_size=1").status == 200


def test_refusals(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "model.json")
    host.start({"MAX_CONTENT_LENGTH": "1000"})
    assert host.invoke(b"").status == 204
    assert host.invoke(b"0,1,2", content_type="text/csv; label_size=2").status == 415
    assert host.invoke(b"{}", content_type="application/json").status == 415
    recordio = host.invoke(b"x", content_type="application/x-recordio-protobuf")
    assert recordio.status == 415
    assert "not supported by slipway yet" in recordio.text
    assert host.invoke(b"a,b", content_type=CSV).status == 415
    assert host.invoke(b"0,1,2", content_type=CSV, accept="x/y").status == 406
    assert host.invoke(b"0,1,2", content_type=CSV, accept="application/jsonlines").status == 406
    wide = host.invoke(b"0,1,2,3,4", content_type=CSV)
    assert (wide.status, wide.text[:36]) == (400, "Unable to evaluate payload provided:")
    assert host.invoke(b"1," * 600, content_type=CSV).status == 413
    parameters = json.loads(ask(host.worker(), "GET", "/execution-parameters").text)
    assert (parameters["BatchStrategy"], parameters["MaxPayloadInMB"]) == ("MULTI_RECORD", 6)


def test_a_pickled_model_checks_the_features_of_csv(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "model.pkl")
    host.start()
    reply = host.invoke(b"0,1", content_type=CSV)
    assert reply.status == 400
    assert "Feature size of csv inference data 2 is not consistent with feature size of trained model 3." in reply.text


def test_ensembles(host: Host, sklearn_env: str, trained: Path) -> None:
    expected = algorithm(host, sklearn_env, trained, "model.json", "other.json")
    host.start()
    together = float(host.invoke(b"0,1,2", content_type=CSV).text)
    assert together == pytest.approx((expected + 100) / 2, rel=0.05)
    host.stop()
    host.start({"SAGEMAKER_INFERENCE_ENSEMBLE": "false"})
    assert float(host.invoke(b"0,1,2", content_type=CSV).text) != pytest.approx(together, rel=0.01)


def test_several_classes_and_batches(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "prob.json")
    host.start()
    lines = host.invoke(b"0,1,2\n3,4,5", content_type=CSV).text.splitlines()
    assert [len(line.split(",")) for line in lines] == [3, 3]
    host.stop()
    host.start({"SAGEMAKER_BATCH": "True"})
    batch = host.invoke(b"0,1,2\n3,4,5", content_type=CSV).text
    assert batch.startswith("[")
    assert batch.count("\n") == 2


def test_votes_of_labels(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "soft.json")
    (host.model / "soft2.json").write_bytes((trained / "soft.json").read_bytes())
    host.start()
    assert host.invoke(b"0,1,2", content_type=CSV).text in ("0.0\n", "1.0\n", "2.0\n")


def test_what_is_no_model(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "model.json")
    (host.model / "README.txt").write_text("read me")
    report = host.fails()
    assert report["kind"] == "pickle-version"
    assert "README.txt is no XGBoost model" in report["message"]
    for name in ("README.txt", "model.json"):
        (host.model / name).unlink()
    report = host.fails()
    assert report["kind"] == "no-model"
    assert "it holds code" in report["message"]


def test_inference_output_is_refused_by_name(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "model.json")
    assert "SAGEMAKER_INFERENCE_OUTPUT" in host.fails({"SAGEMAKER_INFERENCE_OUTPUT": "probabilities"})["message"]


def test_script_mode(host: Host, sklearn_env: str, trained: Path) -> None:
    expected = algorithm(host, sklearn_env, trained, "model.ubj")
    host.script(
        "import os, xgboost\n"
        "from sagemaker_xgboost_container import encoder\n"
        "from sagemaker_xgboost_container.data_utils import get_content_type\n"
        "def model_fn(d):\n    assert get_content_type('text/csv') == 'csv'\n"
        "    b = xgboost.Booster(); b.load_model(os.path.join(d, 'model.ubj')); return b\n",
        "serve.py",
    )
    host.start({"SAGEMAKER_PROGRAM": "serve.py"})
    wanted = [pytest.approx(expected, rel=1e-5)]
    assert json.loads(host.invoke(b"0,1,2", content_type="text/csv; charset=utf-8").text) == wanted
    assert json.loads(host.invoke(b"0;1;2", content_type=CSV).text) == wanted
    assert json.loads(host.invoke(b"0 1:0 2:1 3:2", content_type="text/libsvm").text) == wanted
    assert float(host.invoke(b"0,1,2", content_type=CSV, accept=CSV).text) == wanted[0]
    assert host.invoke(b"0,1,2\n", content_type=CSV).status == 500  # as in the container: script mode does not strip
    assert host.invoke(b"[1]").status == 500
