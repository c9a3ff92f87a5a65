"""The examples, each run as its own first lines say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.cli.launch import child_environment, temporary
from tests.deadlines import LONG
from tests.e2e.deployments import SKLEARN, XGBOOST, Deployments
from tests.e2e.environments import EXAMPLE, client_python

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_realtime(server: Deployments) -> None:
    show = [sys.executable, "-m", "slipway.cli.main", "images", "show", "--python", SKLEARN]
    python = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    environment = child_environment(server.launched)
    told = subprocess.run(
        [python, EXAMPLES / "realtime.py"], env=environment, capture_output=True, text=True, check=False, timeout=LONG
    )
    assert told.returncode == 0, told.stderr
    assert re.search(r"deployed: (29|30) of 30 rows", told.stdout)
    assert re.search(r"updated to two variants: 0 of \d+ calls failed", told.stdout)
    assert "traffic: forest 100 %" in told.stdout
    moments = [float(found) for found in re.findall(r"([\d.]+) s  data: ", told.stdout)]
    assert len(moments) == 5
    assert moments[-1] - moments[0] > 0.1  # it came in pieces
    assert server.sagemaker.list_models()["Models"] == []


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        ("batch_transform", SKLEARN, "patients-pipeline: 569 patients, 56"),
        ("pipeline_of_many_models", SKLEARN, "Boston_MA, uploaded just now: 1,190 thousand dollars\nAtlantis: ValidationError"),
        pytest.param(
            "pipeline_xgboost", XGBOOST, "of 30 rows are right; scores as computed here: True", marks=pytest.mark.heavy
        ),
        pytest.param("pipeline_one_container", SKLEARN, "20 of 20 digits are right", marks=pytest.mark.heavy),
        pytest.param("pipeline_image_ensemble", SKLEARN, "6 of 8 are right, 3 scans were mended", marks=pytest.mark.heavy),
    ],
)
def test_pipelines(server: Deployments, name: str, image: str, words: str) -> None:
    show = [sys.executable, "-m", "slipway.cli.main", "images", "show", "--python", image]
    python = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    command = [python, str(EXAMPLES / f"{name}.py")]
    environment = child_environment(server.launched)
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LONG)
    assert told.returncode == 0, told.stderr[-4000:]
    assert words in told.stdout


def test_many_models(server: Deployments) -> None:
    command = [sys.executable, str(EXAMPLES / "many_models.py")]
    environment = child_environment(server.launched)
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LONG)
    assert told.returncode == 0, told.stderr[-4000:]
    assert "100 square metres in NewYork_NY: 1,040,000" in told.stdout


def test_async_autoscaling_in_its_short_form(tmp_path: Path) -> None:
    """Some hundred requests instead of ten thousand; a minute of CloudWatch in a third of a second."""
    picture = tmp_path / "picture.png"
    for count in (300, 1500):  # a busy machine may have done the few before its second instance has started
        with temporary(["--time-scale", "180"]) as launched:
            environment = {**child_environment(launched), "PICTURE": str(picture), "MPLCONFIGDIR": str(tmp_path)}
            command = [client_python(*EXAMPLE), str(EXAMPLES / "async_autoscaling.py"), str(count)]
            told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LONG)
        assert told.returncode == 0, told.stdout[-4000:] + told.stderr[-4000:]
        assert "BROKEN" not in told.stdout
        assert re.search(rf"outputs +{count:,} +{count:,}", told.stdout)
        assert re.search(rf"notifications of success +{count:,} +{count:,}", told.stdout)
        assert all(int(number) <= 5 for number in re.findall(r"done, (\d+) instances", told.stdout))
        # The picture's are samples in a minute: two of one instance may be in the same third of a second.
        most = re.search(r"at most (\d+) instances", told.stdout)
        assert most is not None
        instances = int(most[1])
        if instances >= 2:
            break
    assert instances >= 2
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.heavy
def test_own_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """spaCy behind Flask and gunicorn; heavy for its packages."""
    if "UV_CACHE_DIR" not in os.environ:
        monkeypatch.setenv("UV_CACHE_DIR", str(Path.home() / ".cache/slipway/uv"))
    folder, cache = EXAMPLES / "spacy_container", ["--cache-dir", str(tmp_path / "cache")]
    images = [sys.executable, "-m", "slipway.cli.main", "images", *cache]
    packages = ["--python", "3.11", "--requirements", str(folder / "requirements.txt")]
    subprocess.run([*images, "add", "spacy-ner", str(folder), *packages], check=True, timeout=LONG)
    show = [*images, "show", "--python", "spacy-ner"]
    python = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    with temporary(cache) as launched:
        environment = {**child_environment(launched), "ARCHIVE": str(tmp_path / "model.tar.gz")}
        script = str(EXAMPLES / "own_container.py")
        subprocess.run([python, script, "make"], env=environment, check=True, timeout=LONG)
        told = subprocess.run(
            [sys.executable, script, "deploy"], env=environment, capture_output=True, text=True, check=False, timeout=LONG
        )
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.splitlines() == ["Amazon: ORG", "Berlin: GPE"]
