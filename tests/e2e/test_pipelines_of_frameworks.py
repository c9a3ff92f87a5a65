"""Pipelines of different frameworks, as AWS's own examples have them: a scikit-learn script, then Linear Learner."""

from __future__ import annotations

import json

import pytest

from tests.e2e.deployments import SCRIPT_MODE, SKLEARN, Deployments, archive, script
from tests.e2e.test_linear_learner import IMAGE, probability, trained
from tests.models.linear_learner import artifact

pytestmark = pytest.mark.heavy

FEATURIZER = """
import io, json
import numpy as np
from sagemaker_containers.beta.framework import encoders, worker

def model_fn(model_dir):
    return 2.0

def input_fn(body, content_type):
    if content_type != "text/csv":
        raise ValueError(f"{content_type} not supported by script!")
    return np.loadtxt(io.StringIO(body), delimiter=",", ndmin=2)

def predict_fn(rows, scale):
    return rows / scale

def output_fn(rows, accept):
    # JSON is the default between the containers of a serial inference pipeline.
    if accept != "application/json":
        raise RuntimeError(f"{accept} accept type is not supported by this script.")
    instances = [{"features": row} for row in rows.tolist()]
    return worker.Response(json.dumps({"instances": instances}), mimetype=accept)
"""


def test_scikit_learn_then_linear_learner(server: Deployments) -> None:
    weights, bias, rows, labels = trained()
    linear = archive({"model_algo-1": artifact([[w] for w in weights], [bias], "binary_classifier")})
    parts = [
        {"data": script(FEATURIZER), "Image": SKLEARN, "Environment": SCRIPT_MODE},
        {"data": linear, "Image": IMAGE, "Environment": {}},
    ]
    server.several("inference-pipeline", parts)
    server.config("inference-pipeline")
    server.sagemaker.create_endpoint(EndpointName="inference-pipeline", EndpointConfigName="inference-pipeline")
    server.settle("inference-pipeline", "InService")
    body = "\n".join(",".join(str(2 * value) for value in row) for row in rows)
    told = json.loads(server.invoke("inference-pipeline", body, ContentType="text/csv", Accept="application/json"))
    assert [each["predicted_label"] for each in told["predictions"]] == labels
    truth = [probability(weights, bias, row) for row in rows]
    assert [each["score"] for each in told["predictions"]] == pytest.approx(truth, rel=1e-4, abs=1e-6)
