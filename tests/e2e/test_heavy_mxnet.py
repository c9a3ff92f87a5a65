"""MXNet by boto3 and by SDK 2: modules and Gluon blocks, trained here; what failures say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.deployments import Deployments, archive
from tests.e2e.environments import SDK_2, client_python
from tests.e2e.test_clients import offline
from tests.e2e.test_models import interpreter

pytestmark = [pytest.mark.heavy]

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/mxnet-inference:1.9-cpu-py38"
OLD = "520713654638.dkr.ecr.us-east-1.amazonaws.com/sagemaker-mxnet-serving:1.4-cpu-py3"
FILES = ("model-symbol.json", "model-0000.params", "model-shapes.json")
SECONDS = 240.0
ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
BLOCK = """
import mxnet as mx, os
def model_fn(model_dir):
    return mx.gluon.SymbolBlock.imports(os.path.join(model_dir, "block-symbol.json"), ["data"],
                                        os.path.join(model_dir, "block-0000.params"))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    maker = Path(__file__).parents[1] / "models" / "make_mxnet.py"
    subprocess.run([interpreter(IMAGE), "-W", "ignore", str(maker), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def truth(made: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((made / "truth.json").read_text())
    return content


def packed(made: Path, *names: str, **more: str) -> bytes:
    files: dict[str, bytes | str] = {name: (made / name).read_bytes() for name in names}
    return archive(files | {f"code/{name}.py": text for name, text in more.items()})


def close(rows: list[list[float]]) -> list[Any]:
    return [pytest.approx(row, rel=1e-5) for row in rows]


def test_a_module_behind_the_defaults(server: Deployments, made: Path, truth: dict[str, Any]) -> None:
    server.start("module", packed(made, *FILES, inference="# the defaults"), image=OLD, environment=ONE_WORKER)
    server.settle("module", "InService", SECONDS)
    assert json.loads(server.invoke("module", truth["rows"])) == close(truth["module"])
    table = "\n".join(",".join(map(str, row)) for row in truth["rows"])
    told = server.invoke("module", table, ContentType="text/csv", Accept="text/csv").decode()
    assert [[float(cell) for cell in line.split(",")] for line in told.splitlines()] == close(truth["module"])
    assert "MXNet 1.4 is asked for: 1.9.1 on Python" in server.log("module")
    with pytest.raises(ClientError) as caught:
        server.invoke("module", b"<xml/>", ContentType="application/xml")
    assert caught.value.response["OriginalStatusCode"] == 500
    server.delete("module")


def test_a_gluon_block_on_two_workers(server: Deployments, made: Path, truth: dict[str, Any]) -> None:
    files = packed(made, "block-symbol.json", "block-0000.params", inference=BLOCK)
    server.start("block", files, image=IMAGE, environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "2"})
    server.settle("block", "InService", SECONDS)
    for _ in range(4):
        assert json.loads(server.invoke("block", truth["rows"])) == close(truth["block"])
    server.delete("block")


def test_what_failures_say(server: Deployments, made: Path) -> None:
    server.start("none", packed(made, FILES[0], inference=""), image=IMAGE, environment=ONE_WORKER)
    assert f"missing file {FILES[1]}" in server.settle("none", "Failed", SECONDS)["FailureReason"]
    server.start("kind", archive({"code/inference.py": "def model_fn(d): return 3\n"}), image=IMAGE, environment=ONE_WORKER)
    assert "Unsupported model type: int" in server.settle("kind", "Failed", SECONDS)["FailureReason"]


@pytest.mark.sdk
def test_sdk_2(made: Path) -> None:
    interpreter(IMAGE)
    script = str(Path(__file__).parent / "clients" / "sdk_v2_mxnet.py")
    assert offline(client_python(*SDK_2), script, MODEL=str(made), seconds=500).endswith("done\n")
