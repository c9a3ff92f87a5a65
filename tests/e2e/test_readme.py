"""Every block of README.md runs, in its order, in one shell session of a new user."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from slipway.cli.environment import client_environment, running
from tests.deadlines import PATIENCE
from tests.e2e.deployments import SKLEARN, archive
from tests.e2e.environments import AWS_CLI, SDK_2, client_python

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.sdk]

TRAIN = """
import sys, joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
x, y = load_iris(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=1000).fit(x, y), sys.argv[1])
"""
LOAD = "import joblib, os\ndef model_fn(d):\n    return joblib.load(os.path.join(d, 'model.joblib'))\n"


def blocks() -> list[tuple[str, str]]:
    found = [(match[1], match[2]) for match in BLOCK.finditer((ROOT / "README.md").read_text())]
    languages = [language for language, _ in found]
    assert languages == ["sh", "sh", "sh", "python", "python", "python", "sh"], "a block without a test"
    return found


def test_make_targets_of_the_readme_exist() -> None:
    for line in blocks()[0][1].splitlines():
        subprocess.run([*line.split("#")[0].split(), "-n"], cwd=ROOT, check=True, capture_output=True)


def test_the_first_session(tmp_path: Path) -> None:
    (_, _), (_, up), (_, shell), (_, boto), (_, later), (_, sdk), (_, more) = blocks()
    tools = f"{BIN}:{Path(client_python(*AWS_CLI)).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_", "SLIPWAY_"))}
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    environment = {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": cache, "PATH": tools, "SLIPWAY_PORT": "0"}

    def here(text: str) -> str:
        return text.replace(".venv/bin/slipway", "slipway")

    data_dir = tmp_path / ".slipway"
    with (tmp_path / "up.log").open("wb") as log:
        server = subprocess.Popen(here(up), shell=True, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not running(data_dir):
            assert server.poll() is None, (tmp_path / "up.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client = {**environment, **client_environment(data_dir, "")}
        told = subprocess.run(here(shell), shell=True, env=environment, capture_output=True, text=True, check=True)
        assert "123456789012" in told.stdout
        for script in (boto, later):
            told = subprocess.run([sys.executable, "-c", script], env=client, capture_output=True, text=True, check=False)
            assert told.stdout == "b'42.0'\n", told.stderr
        prepare_iris(client, tmp_path)
        told = subprocess.run(
            [client_python(*SDK_2), "-c", sdk], env=client, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr
        assert told.stdout.strip().endswith("[0]")
        told = subprocess.run(more, shell=True, env=client, capture_output=True, text=True, check=True)
        assert '"EndpointName": "double"' in told.stdout
        assert "InService" in told.stdout
        assert "succeeded" in told.stdout
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(PATIENCE)


def prepare_iris(client: dict[str, str], folder: Path) -> None:
    """The trained model and the script that the SDK's block speaks of."""
    show = [str(BIN / "slipway"), "images", "show", "--python", SKLEARN]
    python = subprocess.run(show, env=client, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([python, "-c", TRAIN, str(folder / "model.joblib")], check=True)
    (folder / "inference.py").write_text(LOAD)
    s3 = boto3.client(
        "s3",
        endpoint_url=client["AWS_ENDPOINT_URL"],
        aws_access_key_id=client["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=client["AWS_SECRET_ACCESS_KEY"],
        region_name=client["AWS_REGION"],
    )
    data = archive({"model.joblib": (folder / "model.joblib").read_bytes()})
    s3.put_object(Bucket="first-models", Key="iris/model.tar.gz", Body=data)
