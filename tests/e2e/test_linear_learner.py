"""Linear Learner, really trained: by boto3, by the example, and by SDK 2 as it is."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import child_environment
from slipway_host import recordio
from slipway_host.recordio import Record, Tensor
from tests.e2e.deployments import SKLEARN, Deployments, archive
from tests.e2e.environments import SDK_2, client_python
from tests.e2e.test_clients import offline
from tests.e2e.test_models import interpreter
from tests.models.linear_learner import artifact

IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/linear-learner:1"


def trained() -> tuple[list[float], float, list[list[float]], list[int]]:
    """Weights, bias, some of the rows and their labels: logistic regression by gradient descent, of which side of a line
    points are on."""
    chance = random.Random(5)
    rows = [[chance.uniform(-2, 2), chance.uniform(-2, 2), chance.uniform(-2, 2)] for _ in range(200)]
    rows = [row for row in rows if abs(row[0] - 2 * row[1] + 0.5) > 0.3]
    labels = [int(row[0] - 2 * row[1] + 0.5 > 0) for row in rows]
    weights, bias = [0.0] * 3, 0.0
    for _ in range(300):
        for row, label in zip(rows, labels, strict=True):
            error = probability(weights, bias, row) - label
            weights = [w - 0.1 * error * x for w, x in zip(weights, row, strict=True)]
            bias -= 0.1 * error
    return weights, bias, rows[:20], labels[:20]


def probability(weights: list[float], bias: float, row: list[float]) -> float:
    return 1 / (1 + math.exp(-bias - sum(w * x for w, x in zip(weights, row, strict=True))))


def test_by_boto3(server: Deployments) -> None:
    weights, bias, rows, labels = trained()
    content = archive({"model_algo-1": artifact([[w] for w in weights], [bias], "binary_classifier")})
    server.deploy("linear", content, image=IMAGE, environment={})
    body = "\n".join(",".join(map(str, row)) for row in rows)
    told = json.loads(server.invoke("linear", body, ContentType="text/csv"))["predictions"]
    assert [each["predicted_label"] for each in told] == labels
    truth = [probability(weights, bias, row) for row in rows]
    assert [each["score"] for each in told] == pytest.approx(truth, rel=1e-4, abs=1e-6)
    binary = recordio.write([Record({"values": Tensor(row)}, {}) for row in rows])
    more = {"ContentType": recordio.CONTENT_TYPE, "Accept": recordio.CONTENT_TYPE}
    records = recordio.read(server.invoke("linear", binary, **more))
    assert [record.label["score"].values[0] for record in records] == pytest.approx(truth, rel=1e-4, abs=1e-6)
    with pytest.raises(ClientError) as caught:
        server.invoke("linear", "1,2", ContentType="text/csv")
    response = caught.value.response
    assert (response["OriginalStatusCode"], "1 has 2 features" in response["OriginalMessage"]) == (400, True)
    reason = server.fail("no-linear", archive({"model_algo-1": b"?"}), image=IMAGE, environment={})
    assert "model_algo-1 is no zip archive" in reason


def test_the_example(server: Deployments) -> None:
    script = Path(__file__).parents[2] / "examples" / "linear_learner.py"
    told = subprocess.run(
        [interpreter(SKLEARN), script], env=child_environment(server.launched), capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert re.search(r"150 of 150 labels are scikit-learn's; scores differ by at most \de-0[67]", told.stdout)
    assert '"predicted_label": 1}' in told.stdout


@pytest.mark.sdk
def test_sdk_2(tmp_path: Path) -> None:
    """Without a way out of the machine, and so with an environment that is there."""
    subprocess.run([sys.executable, "-m", "slipway.cli.main", "images", "pull", IMAGE], check=True, capture_output=True)
    weights, bias, rows, _ = trained()
    (tmp_path / "model_algo-1").write_bytes(artifact([[w] for w in weights], [bias], "binary_classifier"))
    truth = [probability(weights, bias, row) for row in rows]
    script = str(Path(__file__).parent / "clients" / "sdk_v2_linear_learner.py")
    told = offline(
        client_python(*SDK_2),
        script,
        ARTIFACT=str(tmp_path / "model_algo-1"),
        ROWS=json.dumps(rows),
        EXPECTED=json.dumps(truth),
    )
    assert told.endswith("done\n")
