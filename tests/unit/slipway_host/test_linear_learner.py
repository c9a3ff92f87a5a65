"""Linear Learner: every type in and out for each kind of predictor, and artifacts that are none (containers.md 3.11)."""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway_host import recordio
from slipway_host.recordio import Record, Tensor
from tests.models.linear_learner import artifact, parameters, params, symbol

from .running import Host, Reply, ask

JSON, LINES, CSV, RECORDIO = "application/json", "application/jsonlines", "text/csv", recordio.CONTENT_TYPE
WEIGHTS = [[0.5, 1.0, -1.0], [-0.25, 0.0, 2.0], [1.5, -1.0, 0.125], [0.0, 3.0, 0.5]]
BIAS = [0.125, -0.5, 0.25]
ROWS = [[1.0, 2.0, 3.0, 4.0], [-1.5, 0.0, 0.25, 0.0]]
SUMS = [
    [sum(row[j] * WEIGHTS[j][k] for j in range(4)) + BIAS[k] for k in range(3)]
    for row in ROWS
]  # fmt: skip
FIRST = [[row[0]] for row in WEIGHTS]
LOGISTIC = [1 / (1 + math.exp(-each[0])) for each in SUMS]
SOFTMAX = [[math.exp(v) / sum(math.exp(w) for w in each) for v in each] for each in SUMS]


def close(value: Any) -> Any:
    return pytest.approx(value, rel=1e-5)


def running(python: str, content: bytes, **environment: str) -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="sh"))
    host = Host(folder, python)
    host.config["flavour"] = "linear_learner"
    (host.model / "model_algo-1").write_bytes(content)
    yield host.start(environment)
    host.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def binary(sklearn_env: str) -> Iterator[Host]:
    yield from running(sklearn_env, artifact(FIRST, BIAS[:1], "binary_classifier", 0.5))


@pytest.fixture(scope="module")
def multiclass(sklearn_env: str) -> Iterator[Host]:
    yield from running(sklearn_env, deflated(artifact(WEIGHTS, BIAS, "multiclass_classifier")))


@pytest.fixture(scope="module")
def regressor(sklearn_env: str) -> Iterator[Host]:
    environment = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": LINES, "MAX_CONTENT_LENGTH": "1000"}
    yield from running(sklearn_env, artifact(FIRST, BIAS[:1], "regressor"), **environment)


def sparse(row: list[float]) -> tuple[list[int], list[float]]:
    return [j for j, value in enumerate(row) if value], [value for value in row if value]


def data(row: list[float], shape: bool = True) -> dict[str, Any]:
    keys, values = sparse(row)
    return {"data": {"features": {"keys": keys, "values": values, **({"shape": [4]} if shape else {})}}}


def lines(values: list[Any]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


BODIES = {
    "csv": (CSV, "\n".join(",".join(map(str, row)) for row in ROWS).encode()),
    "csv with line ends of Windows": (CSV, "".join(",".join(map(str, row)) + "\r\n" for row in ROWS).encode()),
    "csv without labels": ("text/csv;label_size=0", b"1,2,3,4\n -1.5 ,0,2.5e-1,0\n"),
    "csv with labels": ("text/csv; label_size=1", b"7,1,2,3,4\n8,-1.5,0,0.25,0\n"),
    "json": (JSON, json.dumps({"instances": [{"features": row} for row in ROWS]}).encode()),
    "json with data": (JSON, json.dumps({"instances": [{"data": {"features": {"values": row}}} for row in ROWS]}).encode()),
    "json, data a list": (JSON, json.dumps({"instances": [{"data": {"features": row}} for row in ROWS]}).encode()),
    "json, sparse": (JSON, json.dumps({"instances": [data(row) for row in ROWS]}).encode()),
    "json, mixed": (JSON, json.dumps({"instances": [{"features": ROWS[0]}, data(ROWS[1], shape=False)]}).encode()),
    "no type is json": ("", json.dumps({"instances": [{"features": row} for row in ROWS]}).encode()),
    "json lines": (LINES, lines([{"features": row} for row in ROWS])),
    "json lines, sparse": (LINES, lines([data(row) for row in ROWS]) + b"\n"),
    "json lines, mixed": (LINES, lines([data(ROWS[0]), {"data": {"features": {"values": ROWS[1]}}}])),
    "recordio": (RECORDIO, recordio.write([Record({"values": Tensor(row)}, {}) for row in ROWS])),
    "recordio with labels": (
        RECORDIO,
        recordio.write([Record({"values": Tensor(row)}, {"values": Tensor([1.0]), "weight": Tensor([2.0])}) for row in ROWS]),
    ),
    "recordio, sparse": (
        RECORDIO,
        recordio.write([Record({"values": Tensor(sparse(row)[1], sparse(row)[0], [4])}, {}) for row in ROWS]),
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_requests(multiclass: Host, name: str) -> None:
    content_type, body = BODIES[name]
    reply = multiclass.invoke(body, content_type)
    assert (reply.status, reply.headers["content-type"]) == (200, JSON)
    predictions = json.loads(reply.text)["predictions"]
    assert [each["predicted_label"] for each in predictions] == [1, 2]
    assert [each["score"] for each in predictions] == [close(each) for each in SOFTMAX]


def test_predictions_of_a_binary_classifier(binary: Host) -> None:
    """A score that is the threshold is label 1."""
    body = json.dumps({"instances": [{"features": row} for row in [*ROWS, [-0.25, 0.0, 0.0, 0.0]]]})
    told = json.loads(binary.invoke(body, JSON).text)
    assert [list(each) for each in told["predictions"]] == [["score", "predicted_label"]] * 3
    assert [each["score"] for each in told["predictions"][:2]] == close(LOGISTIC)
    assert [each["predicted_label"] for each in told["predictions"]] == [1, 0, 1]
    assert told["predictions"][2]["score"] == 0.5


def test_answers_in_each_type(binary: Host, multiclass: Host) -> None:
    reply = binary.invoke(b"1,2,3,4\n-9,0,0,0\n", CSV, accept=LINES)
    assert reply.headers["content-type"] == LINES
    first, _ = reply.text.splitlines()
    assert json.loads(first) == {"score": close(LOGISTIC[0]), "predicted_label": 1}
    assert reply.text.endswith("}\n")
    reply = multiclass.invoke(BODIES["csv"][1], CSV, accept=f"application/x-what, {RECORDIO}")
    assert reply.headers["content-type"] == RECORDIO
    one, other = recordio.read(reply.body)
    assert (one.features, sorted(one.label)) == ({}, ["predicted_label", "score"])
    assert list(one.label["score"].values) == close(SOFTMAX[0])
    assert list(other.label["predicted_label"].values) == [2.0]
    for accept in ("*/*", CSV, "application/x-what"):  # what it does not write is JSON, as on AWS
        assert json.loads(multiclass.invoke(BODIES["csv"][1], CSV, accept=accept).text)["predictions"]


def test_a_regressor_and_its_variables(regressor: Host) -> None:
    reply = regressor.invoke(BODIES["csv"][1], CSV)
    assert reply.headers["content-type"] == LINES  # SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT
    assert [json.loads(line) for line in reply.text.splitlines()] == [{"score": close(each[0])} for each in SUMS]
    reply = regressor.invoke(b"1,2,3,4\n" * 200, CSV)
    assert (reply.status, "1600 bytes; at most 1000" in reply.text) == (413, True)


def test_nothing_in_nothing_out(binary: Host) -> None:
    assert binary.invoke(b"", CSV).status == 204
    assert json.loads(binary.invoke(b'{"instances": []}', JSON).text) == {"predictions": []}


def test_execution_parameters(binary: Host) -> None:
    reply = ask(binary.worker(), "GET", "/execution-parameters")
    told = json.loads(reply.text)
    assert (told["BatchStrategy"], told["MaxPayloadInMB"], told["MaxConcurrentTransforms"] > 0) == ("MULTI_RECORD", 6, True)


HUGE = {"data": {"features": {"keys": [1 << 70], "values": [1.0]}}}
WIDE = {"data": {"features": {"keys": [3], "values": [1.0], "shape": [1 << 40]}}}


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        (CSV, b"1,2,3\n", "record 1 has 3 features, and the model takes 4"),
        (CSV, b"1,2,3,4\na,b,c,d\n", "line 2 is not numbers"),
        (CSV, b"\xff\xfe", "decode"),
        ("text/csv;label_size=x", b"1,2,3,4", "label_size"),
        (JSON, b"{", "Expecting"),
        (JSON, b"[1, 2]", '{"instances": […]}'),
        (JSON, b'{"instances": 3}', '{"instances": […]}'),
        (JSON, b'{"instances": [{"other": 3}]}', "record 1 is neither"),
        (JSON, b'{"instances": [{"features": ["1", 2, 3, 4]}]}', "features must be a list of numbers"),
        (JSON, b'{"instances": [{"features": [true, 2, 3, 4]}]}', "features must be a list of numbers"),
        (JSON, json.dumps({"instances": [{"data": {"features": {"keys": [1, 2], "values": [1]}}}]}).encode(), "2 keys and 1"),
        (JSON, json.dumps({"instances": [{"data": {"features": {"keys": [-1], "values": [1]}}}]}).encode(), "outside"),
        (JSON, json.dumps({"instances": [{"data": {"features": {"keys": [9], "values": [1]}}}]}).encode(), "names feature 9"),
        (JSON, json.dumps({"instances": [HUGE]}).encode(), "unable to evaluate"),
        (JSON, json.dumps({"instances": [WIDE]}).encode(), "has 1099511627776 features"),
        (JSON, b"[" * 100_000, "unable to evaluate"),
        (LINES, b'{"features": [1, 2, 3, 4]}\n{"features"', "Expecting"),
        (RECORDIO, b"1,2,3,4", "the last record is cut off"),
        (RECORDIO, recordio.write([Record({"values": Tensor([1.0], [9], [])}, {})]), "names feature 9"),
    ],
)
def test_what_cannot_be_evaluated_is_400(binary: Host, content_type: str, body: bytes, told: str) -> None:
    reply = binary.invoke(body, content_type)
    assert (reply.status, reply.text.startswith("unable to evaluate payload provided: ")) == (400, True)
    assert told in reply.text


def test_a_content_type_it_does_not_read_is_415(binary: Host) -> None:
    reply: Reply = binary.invoke(b"x", "application/octet-stream")
    assert reply.status == 415
    assert reply.text.startswith("content-type application/octet-stream not supported")


def dumped(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def network(output: str, **changes: Any) -> bytes:
    """The symbol of FIRST, with some of its nodes replaced (`node4={"op": …}`)."""
    made = symbol(4, 1, output)
    for name, change in changes.items():
        made["nodes"][int(name.removeprefix("node"))] |= change
    return dumped(made)


FULLY = [
    {"op": "null", "name": "data", "inputs": []},
    {"op": "null", "name": "w", "inputs": []},
    {"op": "null", "name": "b", "inputs": []},
    {"op": "FullyConnected", "name": "fc", "param": {"num_hidden": "3"}, "inputs": [[0, 0], [1, 0], [2, 0]]},
    {"op": "SoftmaxActivation", "name": "out", "inputs": [[3, 0]]},
    {"op": "MakeLoss", "name": "loss", "inputs": [[4, 0]]},
]


@pytest.mark.parametrize("output", ["SVMOutput", "BlockGrad"])
def test_scores_that_are_no_probabilities(host: Host, sklearn_env: str, output: str) -> None:
    """Hinge loss: the weighted sum itself, and a threshold for it."""
    host.python, host.config["flavour"] = sklearn_env, "linear_learner"
    content = artifact(FIRST, BIAS[:1], "binary_classifier", 4.0, mx_mod_symbol_json=network(output))
    (host.model / "model_algo-1").write_bytes(content)
    host.start()
    told = json.loads(host.invoke(BODIES["csv"][1], CSV).text)["predictions"]
    assert told == [{"score": close(SUMS[0][0]), "predicted_label": 1}, {"score": close(SUMS[1][0]), "predicted_label": 0}]


def test_a_fully_connected_network_with_a_loss_beside(host: Host, sklearn_env: str) -> None:
    host.python, host.config["flavour"] = sklearn_env, "linear_learner"
    made = {"nodes": FULLY, "heads": [[5, 0, 0], [4, 0, 0]]}
    columns = [[row[k] for row in WEIGHTS] for k in range(3)]
    content = artifact(
        WEIGHTS,
        BIAS,
        "multiclass_classifier",
        mx_mod_symbol_json=dumped(made),
        mx_mod_0000_params=params({"arg:w": columns, "arg:b": [BIAS]}),
    )
    (host.model / "model_algo-1").write_bytes(content)
    host.start()
    told = json.loads(host.invoke(BODIES["csv"][1], CSV).text)["predictions"]
    assert [each["score"] for each in told] == [close(each) for each in SOFTMAX]


SMALL = "binary_classifier"
SIZE = len(params({"arg:fc0_weight": FIRST, "arg:fc0_bias": [[0.0]]}))


def deflated(content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The same members, compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as stored, zipfile.ZipFile(out, "w", kind) as made:
        for name in stored.namelist():
            made.writestr(name, stored.read(name))
    return out.getvalue()


BROKEN: dict[str, tuple[bytes | None, str]] = {
    "nothing": (None, "There is no file model_algo-1 at the top of the model archive (it holds code/)"),
    "no zip": (b"\x12\x01\0\0", "is no zip archive that can be read"),
    "no deflate": (deflated(artifact(FIRST, [0.0], SMALL)).replace(b".jsone", b".json\xff", 1), "is no zip archive"),
    "another compression": (deflated(artifact(FIRST, [0.0], SMALL), zipfile.ZIP_BZIP2), "in a way that AWS does not use"),
    "no symbol": (artifact(FIRST, [0.0], SMALL, mx_mod_symbol_json=None), "holds no mx-mod-symbol.json (it holds additional-"),
    "no json": (artifact(FIRST, [0.0], SMALL, additional_params_json=b"{"), "additional-params.json in model_algo-1 is"),
    "a list": (artifact(FIRST, [0.0], SMALL, additional_params_json=b"[]"), "is no JSON object"),
    "deep": (artifact(FIRST, [0.0], SMALL, mx_mod_symbol_json=b'{"a":' + b"[" * 10**6), "is no JSON"),
    "predictor": (
        artifact(FIRST, [0.0], SMALL, additional_params_json=dumped(parameters(SMALL, 0.5) | {"predictor_type": "kmeans"})),
        "predictor_type 'kmeans', which is none",
    ),
    "threshold": (
        artifact(FIRST, [0.0], SMALL, additional_params_json=dumped(parameters(SMALL, 0.5) | {"threshold": "high"})),
        "threshold 'high', which is no number",
    ),
    "arrays": (artifact(FIRST, [0.0], SMALL, mx_mod_0000_params=b"?" * 99), "no file of MXNet arrays"),
    "an array": (artifact(FIRST, [0.0], SMALL, mx_mod_0000_params=params({"arg:fc0_bias": [[0.0]]})), "holds no fc0_weight"),
    "shapes": (
        artifact(FIRST, [0.0], SMALL, mx_mod_0000_params=params({"arg:fc0_weight": FIRST, "arg:fc0_bias": [[0.0, 1.0]]})),
        "its bias has 2 numbers for 1 outputs",
    ),
    "outputs": (artifact(WEIGHTS, BIAS, SMALL), "it is a binary_classifier, and its network has 3 outputs"),
    "classes": (artifact(FIRST, [0.0], "multiclass_classifier"), "and its network has one output"),
    "operator": (
        artifact(FIRST, [0.0], SMALL, mx_mod_symbol_json=network("LogisticRegressionOutput", node4={"op": "Custom"})),
        "has the operator Custom (broadcast_plus0) where slipway knows none",
    ),
    "transposed": (
        artifact(FIRST, [0.0], SMALL, mx_mod_symbol_json=network("SVMOutput", node2={"attrs": {"transpose_b": "True"}})),
        "transposes",
    ),
    "a circle": (
        artifact(FIRST, [0.0], SMALL, mx_mod_symbol_json=network("SVMOutput", node2={"inputs": [[2, 0, 0], [1, 0, 0]]})),
        "depends on itself",
    ),
    "pointers": (
        artifact(FIRST, [0.0], SMALL, mx_mod_symbol_json=network("SVMOutput", node2={"inputs": [[99, 0, 0], [1, 0, 0]]})),
        "points to a node that is not there",
    ),
    "declared size": (
        artifact(FIRST, [0.0], SMALL).replace(struct.pack("<II", SIZE, SIZE), struct.pack("<II", 1 << 31, 1 << 31)),
        "has 2,147,483,648 bytes; at most",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_artifact_says_why(host: Host, sklearn_env: str, name: str) -> None:
    content, told = BROKEN[name]
    host.python, host.config["flavour"] = sklearn_env, "linear_learner"
    if content is not None:
        (host.model / "model_algo-1").write_bytes(content)
    report = host.fails()
    assert told in report["message"]
    assert "as AWS's training job wrote it" in report["mend"]
