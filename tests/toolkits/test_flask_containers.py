"""Script mode of the scikit-learn and XGBoost containers, over AWS's own sagemaker-containers and Flask.

The containers themselves are not on PyPI: their default functions (`serving.py` of aws/sagemaker-scikit-learn-container and
aws/sagemaker-xgboost-container) are in the driver in our words; the toolkit under them is the real one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.toolkits import cases
from tests.toolkits.cases import CSV, JSON, MODEL, script
from tests.toolkits.differential import Choice, Request, Scenario, ask_aws, compare

TOOLKIT = (
    "sagemaker-containers==2.8.6.post2", "flask==2.2.5", "werkzeug==2.2.3", "jinja2==3.1.6", "markupsafe==3.0.2",
    "itsdangerous==2.2.0", "click==8.1.8", "six==1.17.0", "protobuf==3.20.3", "retrying==1.3.4", "inotify_simple==1.2.1",
)  # fmt: skip
FITTED = """
import numpy as np
class Model:
    def predict(self, data, **_): return np.asarray(data).sum(axis=1)
def model_fn(model_dir): return Model()
"""
ECHO = "def predict_fn(data, model): return data\n"
PROGRAM = {"SAGEMAKER_PROGRAM": "inference.py"}
PAGE = Choice("*", 500, 500, "Flask's page says nothing; ours is the message and the traceback")
NO_TYPE = Choice("*", 200, 200, "without a type the one that was asked for, not text/html", type_alone=True)
PICKLED = Choice("*/npy-pickled", 200, 500, "an array of pickled objects would run code of the sender's choice")
ROW = Choice("echo/json-row echo/json-n* echo/csv-row echo/csv-column echo/csv-empty", 200, 200, "a row is a table of one row")
LENIENT = (
    PAGE,
    NO_TYPE,
    PICKLED,
    ROW,
    Choice(
        "fitted/json-row fitted/json-n* fitted/csv-row fitted/csv-column fitted/csv-empty",
        500,
        200,
        "a row is a table of one row, as in the image's multi-model handler",
    ),
    Choice("*/json-charset */json-upper */csv-charset", 500, 200, "a type is compared without its parameters and case"),
    Choice("*/npz* */octets */xml", 500, 415, "the image has a branch for it, which is never reached"),
    Choice("*/accept-npz */accept-unknown", 500, 406, "the same"),
    Choice("*/accept-*", 500, 200, "of several types the first that there is; parameters and case aside"),
)
BOOSTED: tuple[Choice, ...] = ()


def environed(environment: dict[str, str], *scenarios: Scenario) -> list[Scenario]:
    return [Scenario(each.name, each.files, each.requests, environment) for each in scenarios]


RESPONSES = {
    "plain": "'x'",
    "typed": "b'x', mimetype='text/csv'",
    "deprecated": "'x', 'text/csv'",
    "both": "'x', accept, mimetype=accept",
    "status": "'made', status=201, mimetype='a/b'",
    "headers": "'x', headers={'X-Own': 'yes'}",
    "header-type": "'x', headers={'Content-Type': 'x/y'}",
    "failed": "'no such row', status=404",
    "empty": "",
    "list": "['a', 'b']",
}


def scikit_learn() -> list[Scenario]:
    given = {"input_fn": cases.SEEN, "predict_fn": "(data, model) return data"}
    framework = "__import__('sagemaker_containers.beta.framework', fromlist=['worker']).worker"
    return environed(
        PROGRAM,
        Scenario("fitted", {"code/inference.py": FITTED}, (*cases.CONTENT, *cases.ACCEPTS)),
        Scenario("echo", {"code/inference.py": FITTED + ECHO}, (*cases.CONTENT, *cases.ACCEPTS)),
        *cases.overrides(),
        *cases.broken(),
        *cases.returned("output_fn", **given),
        *cases.returned("transform_fn"),
        *(
            Scenario(
                f"response-{name}",
                script(model_fn=MODEL, output_fn=f"(prediction, accept) return {framework}.Response({text})", **given),
                cases.ACCEPTS[:3],
            )
            for name, text in RESPONSES.items()
        ),
    )


@pytest.fixture(scope="module")
def theirs(sklearn_env: str) -> list[dict[str, Any]]:
    return ask_aws("sklearn", sklearn_env, TOOLKIT, scikit_learn())


def test_scikit_learn(sklearn_env: str, theirs: list[dict[str, Any]]) -> None:
    compare("sklearn", sklearn_env, scikit_learn(), theirs, LENIENT)


def test_scikit_learn_strictly(sklearn_env: str, theirs: list[dict[str, Any]]) -> None:
    """The switch that restores the image's column."""
    compare("sklearn", sklearn_env, scikit_learn(), theirs, (PICKLED,), environment={"SLIPWAY_STRICT_AWS_ERRORS": "1"})


SHAPE = """
import numpy as np
class Model:
    def predict(self, data, validate_features=None):
        return np.array([[data.num_row(), data.num_col(), data.num_nonmissing(), int(validate_features is False)]])
def model_fn(model_dir): return Model()
"""
MATRICES = (
    Request("csv", b"1,2\n3,4", CSV),
    Request("csv-row", b"1,2,3", CSV),
    Request("csv-column", b"1\n2", CSV),
    Request("csv-line-end", b"1,2\n3,4\n", CSV),
    Request("csv-gap", b"1,,3", CSV),
    Request("csv-charset", b"1,2", "text/csv; charset=utf-8"),
    Request("csv-semicolons", b"1;2;3\n4;5;6", CSV),
    Request("csv-tabs", b"1\t2\t3", CSV),
    Request("csv-spaces", b"1 2 3", CSV),
    Request("csv-words", b"a,b", CSV),
    Request("csv-ragged", b"1,2\n3", CSV),
    Request("csv-empty", b"", CSV),
    Request("libsvm", b"0 1:1 3:2\n1 2:5", "text/libsvm"),
    Request("x-libsvm", b"1:1 3:2\n", "text/x-libsvm"),
    Request("libsvm-from-zero", b"0 0:1 3:2", "text/libsvm"),
    Request("libsvm-bad", b"0 a:b", "text/libsvm"),
    Request("json", b"[[1, 2]]", JSON),
    Request("none", b"1,2"),
    Request("xml", b"<a/>", "application/xml"),
    *(replace(each, body=b"1,2", content_type=CSV) for each in cases.ACCEPTS),
)


def test_xgboost(sklearn_env: str) -> None:
    given = {"predict_fn": "(data, model) return data", "input_fn": cases.SEEN}
    asked = environed(
        PROGRAM,
        Scenario("shape", {"code/inference.py": SHAPE}, MATRICES),
        *cases.overrides(),
        *cases.returned("output_fn", **given),
    )
    choices = (PAGE, NO_TYPE, *BOOSTED)
    compare("xgboost", sklearn_env, asked, ask_aws("xgboost", sklearn_env, TOOLKIT, asked), choices)
