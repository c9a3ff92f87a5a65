"""XGBoost: algorithm mode and script mode, the rows of containers.md 3.7."""

from __future__ import annotations

import csv
import json
import math
import subprocess
from pathlib import Path

import pytest

from slipway_host import recordio
from slipway_host.recordio import Record, Tensor
from tests.e2e.environments import client_python

from .running import Host, Reply, ask

TRAIN = """
import sys, json, pickle, numpy as np, xgboost as xgb
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
boosters = {"prob.json": None, "soft.json": None, "model.json": None}
y2 = np.arange(20) % 2
for name, objective in (("binary", "binary:logistic"), ("raw", "binary:logitraw"), ("hinge", "binary:hinge")):
    xgb.train({"objective": objective, "nthread": 1}, xgb.DMatrix(X, y2), 5).save_model(folder + f"/{name}.json")
    boosters[name + ".json"] = None
ranked = xgb.DMatrix(X, y2); ranked.set_group([20])
xgb.train({"objective": "rank:pairwise", "nthread": 1}, ranked, 2).save_model(folder + "/rank.json")
rows = xgb.DMatrix(np.array([[0., 1., 2.], [57., 58., 59.]]))
truth = {n: xgb.Booster(model_file=folder + "/" + n).predict(rows).tolist() for n in boosters}
json.dump(truth, open(folder + "/truth.json", "w"))
print(float(booster.predict(xgb.DMatrix(X[:1]))[0]))
"""
TRAIN_OLD = """
import json, pickle, sys, numpy as np, xgboost as xgb
X = np.arange(60.0).reshape(20, 3)
booster = xgb.train({"objective": "binary:logistic", "nthread": 1}, xgb.DMatrix(X, X[:, 0] > 30), 5)
pickle.dump(booster, open(sys.argv[1] + "/xgboost-model", "wb"))
json.dump(booster.predict(xgb.DMatrix(np.array([[0., 1., 2.], [57., 58., 59.]]))).tolist(), open(sys.argv[1] + "/.truth", "w"))
"""
CSV = "text/csv"
RECORDIO = recordio.CONTENT_TYPE


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


def test_delimiters_and_indices(host: Host, sklearn_env: str, trained: Path) -> None:
    """As the container's own decoders have it: the delimiter is found in the first line; indices begin at 1 unless one is 0."""
    algorithm(host, sklearn_env, trained, "model.json")
    host.start()
    wanted = host.invoke(b"0,1,2\n57,58,59", content_type=CSV).text
    for body in (b"0;1;2\n57;58;59", b"0\t1\t2\n57\t58\t59", b"0 1 2\n57 58 59\n"):
        assert host.invoke(body, content_type=CSV).text == wanted
    from_one = host.invoke(b"0 1:57 3:59", content_type="libsvm").text
    assert host.invoke(b"0 0:57 2:59", content_type="text/libsvm").text == from_one
    assert host.invoke(b"0 -1:57", content_type="text/libsvm").status == 415
    short = recordio.write([Record({"values": Tensor([57.0, 58.0, 59.0])}, {})])
    assert host.invoke(short, content_type="recordio-protobuf").text == wanted.splitlines()[1] + "\n"


def test_refusals(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "model.json")
    host.start({"MAX_CONTENT_LENGTH": "1000"})
    assert host.invoke(b"").status == 204
    assert host.invoke(b"0,1,2", content_type="text/csv; label_size=2").status == 415
    assert host.invoke(b"{}", content_type="application/json").status == 415
    broken = host.invoke(b"xxxxxxxxx", content_type=RECORDIO)
    assert (broken.status, "this is not RecordIO" in broken.text) == (415, True)
    assert host.invoke(b"a,b", content_type=CSV).status == 415
    assert host.invoke(b"0,1,2", content_type=CSV, accept="x/y").status == 406
    for accept, status in (("application/jsonlines", 500), (RECORDIO, 500), ("json", 406), ("csv", 406), ("TEXT/CSV", 200)):
        assert host.invoke(b"0,1,2", content_type=CSV, accept=accept).status == status
    assert (
        host.invoke(b"0,1,2", content_type=CSV, accept="image/png, application/json").headers["content-type"]
        == "application/json"
    )
    wide = host.invoke(b"0,1,2,3,4", content_type=CSV)
    assert (wide.status, wide.text[:36]) == (400, "Unable to evaluate payload provided:")
    assert host.invoke(b"1," * 600, content_type=CSV).status == 413
    parameters = json.loads(ask(host.worker(), "GET", "/execution-parameters").text)
    assert (parameters["BatchStrategy"], parameters["MaxPayloadInMB"]) == ("MULTI_RECORD", 0)


def test_a_pickled_model_checks_the_features_of_csv(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "model.pkl")
    host.start()
    words = "is not consistent with feature size of trained model 3."
    record = recordio.write([Record({"values": Tensor([0.0] * 5)}, {})])
    for body, kind, told in (
        (b"0", CSV, f"Feature size of csv inference data 1 {words}"),
        (b"0,1,2,3", CSV, f"Feature size of csv inference data 4 {words}"),
        (record, RECORDIO, f"Feature size of recordio-protobuf inference data 5 {words}"),
        (b"1:1 5:1", "libsvm", "Feature size of libsvm inference data 5 is larger than feature size of trained model 3."),
    ):
        reply = host.invoke(body, content_type=kind)
        assert (reply.status, told in reply.text) == (400, True), reply.text
    assert host.invoke(b"0,1", content_type=CSV).status == 200  # as if the label's column were missing


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
    asked = host.invoke(b"0,1,2\n3,4,5", content_type=CSV, accept="application/json")
    assert (asked.text, asked.headers["content-type"]) == (batch, "application/json")  # as the image's, which says JSON of it


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


def test_recordio_is_what_libsvm_and_csv_are(host: Host, sklearn_env: str, trained: Path) -> None:
    expected = algorithm(host, sklearn_env, trained, "model.json")
    host.start()
    wanted = host.invoke(b"0 1:0 3:2", content_type="libsvm").text, host.invoke(b"0,1,2\n57,58,59", content_type=CSV).text
    sparse = recordio.write([Record({"values": Tensor([0.0, 2.0], [0, 2], [3])}, {"values": Tensor([1.0])})])
    dense = recordio.write([Record({"values": Tensor(row)}, {}) for row in ([0.0, 1.0, 2.0], [57.0, 58.0, 59.0])])
    assert (host.invoke(sparse, content_type=RECORDIO).text, host.invoke(dense, content_type=RECORDIO).text) == wanted
    mixed = recordio.write([Record({"values": each}, {}) for each in (Tensor([0.0, 1.0, 2.0]), Tensor([1.0], [0], [3]))])
    one, two = host.invoke(mixed, content_type=RECORDIO).text.splitlines()
    assert float(one) == pytest.approx(expected, rel=1e-5)
    assert two == host.invoke(b"1:1", content_type="libsvm").text.strip()
    uneven = recordio.write([Record({"values": Tensor([1.0] * n)}, {}) for n in (3, 2)])
    assert "different numbers of features" in host.invoke(uneven, content_type=RECORDIO).text
    wide = recordio.write([Record({"values": Tensor([1.0], [1], [1 << 60])}, {})])
    refused = host.invoke(wide, content_type=RECORDIO)
    assert (refused.status, "columns" in refused.text) == (415, True)


ALL = "predicted_label, labels, probability, probabilities, raw_score, raw_scores, predicted_score"


@pytest.mark.parametrize("name", ["prob.json", "soft.json", "binary.json", "raw.json", "hinge.json", "model.json"])
def test_selected_outputs_are_xgboosts_own(host: Host, sklearn_env: str, trained: Path, name: str) -> None:
    """Every key, against what xgboost itself predicts for the same rows."""
    algorithm(host, sklearn_env, trained, name)
    host.start({"SAGEMAKER_INFERENCE_OUTPUT": ALL})
    reply = host.invoke(b"0,1,2\n57,58,59", content_type=CSV, accept="application/json")
    rows = json.loads(reply.text)["predictions"]
    truth = json.loads((trained / "truth.json").read_text())[name]
    impossible = {key for key, value in rows[0].items() if isinstance(value, float) and math.isnan(value)}
    assert (
        impossible
        == {
            "prob.json": {"predicted_score"},
            "soft.json": {"predicted_score", "probability", "probabilities"},
            "binary.json": {"predicted_score"},
            "raw.json": {"predicted_score", "probability", "probabilities"},
            "hinge.json": {"predicted_score", "probability", "probabilities"},
            "model.json": set(ALL.split(", ")) - {"predicted_score"},
        }[name]
    )
    assert ", ".join(key for key in ALL.split(", ") if key in impossible) in host.output()
    for row, value in zip(rows, truth, strict=True):
        if name == "model.json":
            assert row["predicted_score"] == pytest.approx(value)
        elif name == "prob.json":
            assert row["probabilities"] == pytest.approx(value)
            assert (row["labels"], row["predicted_label"]) == ([0, 1, 2], value.index(max(value)))
            assert row["probability"] == row["raw_score"] == pytest.approx(max(value))
        else:
            assert row["labels"] == ([0, 1, 2] if name == "soft.json" else [0, 1])
            assert row["raw_score"] == pytest.approx(value)
            decided = {"binary.json": value > 0.5, "raw.json": value > 0}.get(name, value)
            assert row["predicted_label"] == decided
            whole = name in ("binary.json", "raw.json")
            assert type(row["predicted_label"]) is (int if whole else float)
            assert row["raw_scores"] == pytest.approx([1 - value, value])
    if name == "binary.json":
        assert rows[1]["probabilities"] == pytest.approx([1 - truth[1], truth[1]])


def test_selected_outputs_in_every_type(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "prob.json")
    host.start(
        {"SAGEMAKER_INFERENCE_OUTPUT": "Predicted_Label,probabilities", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}
    )

    def ask_for(accept: str) -> Reply:
        return host.invoke(b"0,1,2\n3,4,5", content_type=CSV, accept=accept)

    rows = json.loads(ask_for("application/json").text)["predictions"]
    lines = ask_for("application/jsonlines")
    assert [json.loads(line) for line in lines.text.splitlines()] == rows
    assert lines.headers["content-type"] == "application/jsonlines"
    table = list(csv.reader(ask_for("*/*").text.splitlines()))
    assert [[json.loads(cell) for cell in row] for row in table] == [
        [row["predicted_label"], row["probabilities"]] for row in rows
    ]
    text = ask_for("*/*").text
    assert text.count("\n") == 1
    assert text.splitlines()[0] == f'{rows[0]["predicted_label"]},"{rows[0]["probabilities"]}"'
    binary = ask_for(RECORDIO)
    assert binary.headers["content-type"] == RECORDIO
    for record, row in zip(recordio.read(binary.body), rows, strict=True):
        assert list(record.label["predicted_label"].values) == [row["predicted_label"]]
        assert list(record.label["probabilities"].values) == pytest.approx(row["probabilities"])
    refused = ask_for("image/png")
    assert (refused.status, "application/jsonlines" in refused.text) == (406, True)


def test_an_objective_without_selectable_outputs(host: Host, sklearn_env: str, trained: Path) -> None:
    algorithm(host, sklearn_env, trained, "rank.json")
    host.start({"SAGEMAKER_INFERENCE_OUTPUT": "predicted_score"})
    reply = host.invoke(b"0,1,2", content_type=CSV)
    assert reply.status == 500
    assert "Objective `rank:pairwise` unsupported for selectable inference predictions." in reply.text


@pytest.mark.heavy
@pytest.mark.parametrize("release", ["0.90", "1.2.1"])
def test_an_old_release_and_its_pickles(host: Host, release: str) -> None:
    """Training images up to 1.2 wrote pickles; calls that newer releases have are not there."""
    python = client_python(f"xgboost=={release}", "numpy<2", "scipy<1.12", "setuptools<81")
    subprocess.run([python, "-W", "ignore", "-c", TRAIN_OLD, str(host.model)], check=True)
    expected = json.loads((host.model / ".truth").read_text())
    host.python = python
    host.config["flavour"] = "xgboost"
    host.start({"SAGEMAKER_INFERENCE_OUTPUT": "probability,probabilities"})
    rows = json.loads(host.invoke(b"0,1,2\n57,58,59", content_type=CSV, accept="application/json").text)["predictions"]
    assert [row["probability"] for row in rows] == pytest.approx(expected, rel=1e-5)
    assert host.invoke(b"0:0 1:1 2:2", content_type="libsvm").status == 200  # its indices are columns as they are
    assert host.invoke(b"0,1", content_type=CSV).status == 200  # the first one may be missing, as if it were a label
    assert "Feature size of csv inference data 1" in host.invoke(b"0", content_type=CSV).text


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
    record = recordio.write([Record({"values": Tensor([0.0, 1.0, 2.0])}, {})])
    assert json.loads(host.invoke(record, content_type=RECORDIO).text) == wanted
    assert json.loads(host.invoke(b"0,1,2", content_type="text/csv; charset=utf-8").text) == wanted
    assert json.loads(host.invoke(b"0;1;2", content_type=CSV).text) == wanted
    assert json.loads(host.invoke(b"0 1:0 2:1 3:2", content_type="text/libsvm").text) == wanted
    assert float(host.invoke(b"0,1,2", content_type=CSV, accept=CSV).text) == wanted[0]
    assert host.invoke(b"0,1,2\n", content_type=CSV).status == 500  # as in the container: script mode does not strip
    assert host.invoke(b"[1]").status == 500
