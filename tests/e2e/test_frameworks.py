"""Framework images end to end, by boto3: XGBoost's algorithm mode in every type, and images that cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway_host import recordio
from slipway_host.recordio import Record, Tensor
from tests import sparkml
from tests.e2e import answers
from tests.e2e.deployments import IDENTITY, SCRIPT_MODE, SKLEARN, Deployments, archive, script
from tests.e2e.sdk import ask_sdk_3
from tests.e2e.test_models import trained

SPARKML = "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-sparkml-serving:3.3"
XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
SLIPWAY = (sys.executable, "-m", "slipway.cli.main")
TRAIN = """
import sys, numpy as np, xgboost as xgb
x = np.random.RandomState(0).rand(200, 2)
b = xgb.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, xgb.DMatrix(x, x[:, 0] > x[:, 1]), 20)
b.save_model(sys.argv[1])
print(*b.predict(xgb.DMatrix(np.array([[0., 1.], [1., 0.]], "float32"))))
"""


def test_xgboost_selects_outputs_and_reads_recordio(server: Deployments, tmp_path: Path) -> None:
    shown = subprocess.run([*SLIPWAY, "images", "show", "--python", XGBOOST], check=True, capture_output=True, text=True)
    booster = tmp_path / "xgboost-model"
    train = subprocess.run([shown.stdout.strip(), "-c", TRAIN, str(booster)], check=True, capture_output=True, text=True)
    truth = [float(word) for word in train.stdout.split()]
    chosen = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label,probability"}
    server.deploy("boosted", archive({"xgboost-model": booster.read_bytes()}), image=XGBOOST, environment=chosen)
    body = recordio.write([Record({"values": Tensor(row)}, {}) for row in ([0.0, 1.0], [1.0, 0.0])])
    answer = server.runtime.invoke_endpoint(
        EndpointName="boosted", Body=body, ContentType=recordio.CONTENT_TYPE, Accept="application/jsonlines"
    )
    rows = [json.loads(line) for line in answer["Body"].read().decode().splitlines()]
    assert [row["predicted_label"] for row in rows] == [0, 1]
    assert [row["probability"] for row in rows] == pytest.approx(truth, rel=1e-5)
    listed = subprocess.run([*SLIPWAY, "images", "list"], check=True, capture_output=True, text=True).stdout
    assert any("XGBoost 1.7.6" in line and "boosted/" in line for line in listed.splitlines()), listed


def test_the_nearest_release_says_so_in_the_log_on_the_terminal_and_in_describe(server: Deployments) -> None:
    image = XGBOOST.replace("1.7-1", "1.6-1")
    server.deploy("nearest", script(IDENTITY), image=image)
    note = "XGBoost 1.6 has no wheels for an installed Python: 1.7.6 on Python"
    assert note in server.log("nearest")
    assert f"nearest: {note}" in (server.launched.data_dir / "up.log").read_text()
    told = server.sagemaker.describe_endpoint(EndpointName="nearest")
    (deployed,) = told["ProductionVariants"][0]["DeployedImages"]
    assert deployed["SpecifiedImage"] == image
    assert deployed["ResolvedImage"].startswith("XGBoost 1.7.6")
    server.delete("nearest")


def test_sparkml_by_an_mleap_bundle(server: Deployments) -> None:
    """No environment but Python is built, nothing is fetched; a bundle that cannot be evaluated fails by name."""
    columns = [{"name": "x", "type": "double"}, {"name": "y", "type": "double"}]
    schema = {"input": columns, "output": {"name": "prediction", "type": "double"}}
    shapes = {"input_shapes": {"type": "list", "data_shape": [{"base": "scalar"}, {"base": "scalar"}]}}
    weights = {"type": "tensor", "double": [2.0, -1.0], "shape": {"dimensions": [{"size": 2, "name": ""}]}}
    files = sparkml.bundle(
        sparkml.node("vector_assembler", shapes, {"input0": "x", "input1": "y"}, {"output": "f"}),
        sparkml.node(
            "linear_regression", {"coefficients": weights, "intercept": {"double": 0.5}}, {"features": "f"},
            {"prediction": "prediction"},
        ),
    )  # fmt: skip
    environment = {"SAGEMAKER_SPARKML_SCHEMA": json.dumps(schema)}
    server.deploy("spark", archive(dict(files)), image=SPARKML, environment=environment)
    assert server.invoke("spark", "1.5,2", ContentType="text/csv") == b"1.5"
    assert server.invoke("spark", {"data": [0, 0]}, Accept="application/jsonlines") == b"0.5"
    with pytest.raises(ClientError) as caught:
        server.invoke("spark", b"<xml/>", ContentType="application/xml")
    assert caught.value.response["OriginalStatusCode"] == 415
    with pytest.raises(ClientError) as caught:
        server.invoke("spark", {"data": [0, 0]}, Accept="application/json")
    assert caught.value.response["OriginalStatusCode"] == 400
    assert "Accept value passed via request" in str(caught.value.response["OriginalMessage"])
    unknown = sparkml.bundle(sparkml.node("word_to_vector", {}, {"input": "x"}, {"output": "f"}))
    told = server.fail("unsupported", archive(dict(unknown)), image=SPARKML, environment=environment)
    assert "'word_to_vector' (root/stage0.node), a transformer that is not supported" in told


LINEAR = """
import sys, joblib, numpy as np
from sklearn.linear_model import LinearRegression
x = np.arange(20.0).reshape(10, 2) ** 1.5
joblib.dump(LinearRegression().fit(x, x @ [1.0, 2.0] + 3.0), sys.argv[1])
"""
MODEL_FN = "import joblib, os\ndef model_fn(d): return joblib.load(os.path.join(d, 'model.joblib'))\n"
ALGORITHM: dict[str, str] = {}


@pytest.fixture(scope="module")
def trained_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """scikit-learn's and XGBoost's archives, saved as their users save them, and what XGBoost scores."""
    folder = tmp_path_factory.mktemp("trained")
    trained(SKLEARN, LINEAR, folder / "model.joblib")
    scores = [float(word) for word in trained(XGBOOST, TRAIN, folder / "xgboost-model").split()]
    fitted = archive({"model.joblib": (folder / "model.joblib").read_bytes(), "code/inference.py": MODEL_FN})
    return {"sklearn": fitted, "xgboost": archive({"xgboost-model": (folder / "xgboost-model").read_bytes()}), "scores": scores}


def test_every_type_of_scikit_learn(server: Deployments, trained_models: dict[str, Any]) -> None:
    server.deploy("fitted", trained_models["sklearn"], image=SKLEARN)
    answers.ask_boto3(server.runtime, "fitted", answers.SKLEARN_ASKS)


def test_every_type_of_xgboosts_algorithm_mode(server: Deployments, trained_models: dict[str, Any]) -> None:
    server.deploy("scores", trained_models["xgboost"], image=XGBOOST, environment=ALGORITHM)
    answers.ask_boto3(server.runtime, "scores", answers.xgboost_asks(trained_models["scores"]))
    empty = server.runtime.invoke_endpoint(EndpointName="scores", Body=b"", ContentType="text/csv")
    assert empty["Body"].read() == b""  # the container's 204


@pytest.mark.sdk
def test_sdk_3(trained_models: dict[str, Any], tmp_path: Path) -> None:
    """The same through the SDK's resource classes."""
    asked = {
        "fitted": (SKLEARN, trained_models["sklearn"], SCRIPT_MODE, answers.SKLEARN_ASKS),
        "scores": (XGBOOST, trained_models["xgboost"], ALGORITHM, answers.xgboost_asks(trained_models["scores"])),
    }
    ask_sdk_3(tmp_path, asked)


def test_images_without_a_runtime_fail_by_name(server: Deployments) -> None:
    image = "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"
    assert "built-in algorithm kmeans" in server.fail("kmeans", archive({"model_algo-1": b"?"}), image=image, environment={})
