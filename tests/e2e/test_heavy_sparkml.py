"""SparkML with Spark itself: our evaluator against it on new rows, pipelines that it saved, the SDK, XGBoost behind it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from slipway.replicas.environments import Environments
from slipway_host.flavours import sparkml_pipeline
from tests import sparkml
from tests.e2e.deployments import XGBOOST, Deployments, archive, until
from tests.e2e.environments import CACHE, SDK_2, client_python
from tests.e2e.test_clients import offline
from tests.e2e.test_frameworks import SPARKML
from tests.e2e.test_models import interpreter

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

MAKERS = Path(__file__).parents[1] / "models"
JSON_LINES = "application/jsonlines"
SCORED = """
import json, sys, numpy as np, xgboost as xgb
row = np.array([json.loads(sys.argv[2])])
x = np.random.RandomState(0).rand(200, row.shape[1]) * 4 - 2
b = xgb.train({"max_depth": 3, "nthread": 1}, xgb.DMatrix(x, x.sum(axis=1)), 10)
b.save_model(sys.argv[1])
print(float(b.predict(xgb.DMatrix(row))[0]))
"""


@pytest.fixture(scope="module")
def spark_python() -> str:
    """The environment that pipelines saved by Spark run in."""
    if shutil.which("java") is None and not os.environ.get("CI"):
        pytest.skip("there is no Java here; CI installs one")
    found = asyncio.run(Environments(str(CACHE.parent)).ensure(SPARKML, lambda line: None, engine=True))
    return found.python


@pytest.fixture(scope="module")
def made(spark_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`made.json`: cases with rows that nobody has seen before; `pipeline`: one of them, saved by Spark."""
    folder = tmp_path_factory.mktemp("spark")
    seed = str(time.time_ns() % 1_000_000)
    command = [spark_python, "-W", "ignore", str(MAKERS / "make_sparkml.py"), str(folder / "made.json"), seed, "6"]
    done = subprocess.run([*command, str(folder / "pipeline")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def cases(made: Path) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in json.loads((made / "made.json").read_text())["cases"]}


@pytest.fixture(scope="module")
def site() -> Iterator[Deployments]:
    with temporary() as launched:
        yield Deployments(launched)


def packed(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in sorted(os.listdir(folder)):
            tar.add(folder / name, name)
    return out.getvalue()


def schema(case: dict[str, Any], output: int) -> str:
    return json.dumps({"input": case["input"], "output": case["outputs"][output]})


def test_every_transformer_as_spark_computes_it_today(cases: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    found = [line for name, case in cases.items() for line in sparkml.differences(case, tmp_path / name)]
    assert found == []


def test_bundles_of_mleaps_own_exporter(tmp_path: Path) -> None:
    python = client_python("mleap==0.25.3", "scikit-learn==1.9.*", "setuptools<81")
    subprocess.run([python, "-W", "ignore", str(MAKERS / "make_mleap_sklearn.py"), str(tmp_path / "made.json")], check=True)
    made = json.loads((tmp_path / "made.json").read_text())["cases"]
    assert len(made) == 11
    assert [line for case in made for line in sparkml.differences(case, tmp_path / case["name"])] == []


def test_a_pipeline_that_spark_saved(site: Deployments, made: Path, cases: dict[str, dict[str, Any]]) -> None:
    case = cases["served"]
    environment = {"SAGEMAKER_SPARKML_SCHEMA": schema(case, 0)}
    site.start("saved", packed(made / "pipeline"), image=SPARKML, environment=environment)
    site.settle("saved", "InService")
    body = "\n".join(json.dumps({"data": row}) for row in case["rows"])
    answer = site.invoke("saved", body, ContentType=JSON_LINES).decode()
    shown = [[float(value) for value in row.split(",")] for row in answer.removeprefix("[[").removesuffix("]]").split("], [")]
    assert sparkml.same([row[0] for row in case["expected"]], shown)
    kind, x, y = case["rows"][0]
    for number in (1, 2):
        own = json.dumps({"schema": json.loads(schema(case, number)), "data": [kind, x, y]})
        values = [float(value) for value in site.invoke("saved", own).decode().split(",")]
        expected = case["expected"][0][number]
        assert sparkml.same(expected if isinstance(expected, list) else [expected], values)
    assert json.loads(site.invoke("saved", f"{kind},{x},{y}", ContentType="text/csv", Accept=JSON_LINES)).keys() == {"features"}
    with pytest.raises(ClientError) as caught:
        site.invoke("saved", "one,two", ContentType="text/csv")
    assert caught.value.response["OriginalStatusCode"] == 400
    with pytest.raises(ClientError) as caught:
        site.invoke("saved", json.dumps({"schema": {**json.loads(schema(case, 0)), "input": []}, "data": []}))
    assert caught.value.response["OriginalStatusCode"] == 400
    assert "No such struct field" in str(caught.value.response["OriginalMessage"])
    begun = time.monotonic()
    for _ in range(5):
        site.invoke("saved", f"{kind},{x},{y}", ContentType="text/csv")
    print(f"{(time.monotonic() - begun) / 5:.3f} s a row")
    _a_jvm_that_dies_is_replaced(site, f"{kind},{x},{y}")


def _a_jvm_that_dies_is_replaced(site: Deployments, row: str) -> None:
    (jvm,) = site.processes("org.apache.spark.deploy.SparkSubmit")
    jvm.kill()
    with pytest.raises(ClientError):
        site.invoke("saved", row, ContentType="text/csv")

    def answers() -> bool:
        try:
            return bool(site.invoke("saved", row, ContentType="text/csv"))
        except ClientError:
            return False

    until(answers, 480, "another worker")
    site.delete("saved")


def test_archives_that_spark_cannot_load(site: Deployments, spark_python: str) -> None:
    assert spark_python
    environment = {"SAGEMAKER_SPARKML_SCHEMA": "{}"}
    named = json.dumps({"class": "org.apache.spark.ml.classification.LogisticRegressionModel"})
    site.start("stage", archive({"metadata/part-00000": named}), image=SPARKML, environment=environment)
    reason = site.settle("stage", "Failed")["FailureReason"]
    assert "holds a LogisticRegressionModel that Spark saved, and no PipelineModel" in reason
    assert "Pipeline(stages=[…])" in reason
    site.start("empty", archive({"metadata/_SUCCESS": "", "stages/a": ""}), image=SPARKML, environment=environment)
    assert "a folder metadata/ without the description" in site.settle("empty", "Failed")["FailureReason"]


@pytest.mark.sdk
def test_sdk_2(cases: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """SparkMLModel, and a PipelineModel in which XGBoost reads what it answers."""
    case = cases["served"]
    bundle = sparkml.write(tmp_path / "bundle", case["files"])
    interpreter(SPARKML)
    vector = sparkml_pipeline.read(str(bundle)).evaluate({"kind": "a", "x": 1.5, "y": -2.0}, "features")
    booster, features = tmp_path / "xgboost-model", json.dumps(vector.array())
    command = [interpreter(XGBOOST), "-c", SCORED, str(booster), features]
    score = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    script = str(Path(__file__).parent / "clients" / "sdk_v2_sparkml.py")
    told = {"BUNDLE": str(bundle), "BOOSTER": str(booster), "SCHEMA": schema(case, 2), "FEATURES": features, "SCORE": score}
    assert offline(client_python(*SDK_2), script, seconds=500, **told).endswith("done\n")
