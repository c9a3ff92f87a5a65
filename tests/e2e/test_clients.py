"""Unchanged clients, each in an environment of its own, with nothing set but what `slipway env` prints, and no way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.deployments import SKLEARN, XGBOOST
from tests.e2e.environments import AWS_CLI, BOTO3_2024, SDK_2, SDK_3, client_python

HERE = Path(__file__).parent / "clients"
SLIPWAY = [sys.executable, "-m", "slipway.cli.main"]

pytestmark = [pytest.mark.sdk]


def offline(*command: str, seconds: float = 300, **more: str) -> str:
    """Runs slipway and a client of it together in a network namespace of their own; the client's output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_"))}
    wrapped = [*SLIPWAY, "run", "--", *command]
    if os.getuid() == 0:
        wrapped = [sys.executable, str(HERE / "offline.py"), *wrapped]
    elif os.environ.get("CI"):
        pytest.fail("the proof that no call leaves the machine needs root in CI")
    told = subprocess.run(wrapped, env={**kept, **more}, capture_output=True, text=True, timeout=seconds, check=False)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    return told.stdout


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    for image in (SKLEARN, XGBOOST):
        subprocess.run([*SLIPWAY, "images", "pull", image], check=True, capture_output=True)


@pytest.mark.parametrize("packages", [("boto3",), BOTO3_2024], ids=["newest", "of-2024"])
def test_boto3(packages: tuple[str, ...]) -> None:
    assert offline(client_python(*packages), str(HERE / "boto3_script.py")).endswith("done\n")


def test_aws_cli() -> None:
    aws = Path(client_python(*AWS_CLI)).parent / "aws"
    assert offline("sh", str(HERE / "cli.sh"), AWS=str(aws)).endswith("done\n")


def test_aws_cli_asynchronous() -> None:
    aws = Path(client_python(*AWS_CLI)).parent / "aws"
    assert offline("sh", str(HERE / "cli_async.sh"), AWS=str(aws)).endswith("done\n")


def test_sdk_2_asynchronous() -> None:
    assert offline(client_python(*SDK_2), str(HERE / "sdk_v2_async.py")).endswith("done\n")


def test_sdk_3_asynchronous() -> None:
    assert offline(client_python(*SDK_3), str(HERE / "sdk_v3_async.py")).endswith("done\n")


@pytest.mark.heavy
def test_sdk_2_transform() -> None:
    told = offline(client_python(*SDK_2), str(HERE / "sdk_v2_transform.py"))
    assert told.endswith("done\n")
    assert "MaxConcurrentTransforms=" in told, "its logs are shown"


@pytest.mark.heavy
def test_sdk_3_transform() -> None:
    assert offline(client_python(*SDK_3), str(HERE / "sdk_v3_transform.py")).endswith("done\n")


def test_aws_cli_transform() -> None:
    aws = Path(client_python(*AWS_CLI)).parent / "aws"
    assert offline("sh", str(HERE / "cli_transform.sh"), AWS=str(aws)).endswith("done\n")


def test_sdk_2_scikit_learn() -> None:
    assert offline(client_python(*SDK_2), str(HERE / "sdk_v2.py")).endswith("done\n")


@pytest.fixture(scope="module")
def booster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A trained booster, and what it says of two rows."""
    shown = subprocess.run([*SLIPWAY, "images", "show", "--python", XGBOOST], check=True, capture_output=True, text=True)
    train = (
        "import sys, numpy as np, xgboost as xgb\n"
        "x = np.random.RandomState(0).rand(200, 2); y = x[:, 0] * 2 - x[:, 1]\n"
        "b = xgb.train({'max_depth': 3, 'nthread': 1}, xgb.DMatrix(x, y), 20); b.save_model(sys.argv[1])\n"
        "print(','.join(str(v) for v in b.predict(xgb.DMatrix(np.array([[0., 1.], [1., 0.]])))))\n"
    )
    path = tmp_path_factory.mktemp("booster") / "xgboost-model.ubj"
    told = subprocess.run([shown.stdout.strip(), "-c", train, str(path)], check=True, capture_output=True, text=True)
    return {"BOOSTER": str(path), "EXPECTED": told.stdout.strip()}


def test_sdk_2_xgboost(booster: dict[str, str]) -> None:
    script = str(HERE / "sdk_v2_xgboost.py")
    assert offline(client_python(*SDK_2), script, BOOSTER=booster["BOOSTER"], EXPECTED=booster["EXPECTED"]).endswith("done\n")


@pytest.mark.heavy
def test_sdk_2_pipeline(booster: dict[str, str]) -> None:
    assert offline(
        client_python(*SDK_2), str(HERE / "sdk_v2_pipeline.py"), BOOSTER=booster["BOOSTER"], EXPECTED=booster["EXPECTED"]
    ).endswith("done\n")


@pytest.mark.heavy
def test_sdk_2_many_models() -> None:
    assert offline(client_python(*SDK_2), str(HERE / "sdk_v2_many_models.py")).endswith("done\n")


@pytest.mark.heavy
def test_aws_cli_several_containers() -> None:
    aws = Path(client_python(*AWS_CLI)).parent / "aws"
    assert offline("sh", str(HERE / "cli_several.sh"), AWS=str(aws)).endswith("done\n")


def test_sdk_3() -> None:
    assert offline(client_python(*SDK_3), str(HERE / "sdk_v3.py")).endswith("done\n")
