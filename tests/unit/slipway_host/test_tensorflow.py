"""TensorFlow (containers.md 3.8): what becomes of bodies is tested as it is; what needs TensorFlow is `heavy`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from slipway_host.flavours.tensorflow_bodies import UnknownType, to_request
from tests.deadlines import LONG

from .running import Host, ask, children_of

MAKE = Path(__file__).parents[2] / "models" / "make_tensorflow.py"
JSON = "application/json"
HANDLERS = """
import json
import os
def input_handler(data, context):
    assert context.request_content_type == "application/x-mine", context
    rows = [[float(v) for v in line.split()] for line in data.read().decode().splitlines()]
    return json.dumps({"instances": rows})
def output_handler(response, context):
    if response.status_code != 200:
        raise ValueError(response.json()["error"])
    return json.dumps([context.model_name, response.json()["predictions"]]), "application/x-yours"
"""


@pytest.mark.parametrize(
    ("body", "content_type", "request_"),
    [
        (b'{"instances": [1]}', JSON, {"instances": [1]}),
        (b'{"signature_name": "s", "inputs": {"x": 1}}', JSON, {"signature_name": "s", "inputs": {"x": 1}}),
        (b"[1, 2]", JSON, {"instances": [[1, 2]]}),
        (b"[[1, 2], [3, 4]]", JSON, {"instances": [[1, 2], [3, 4]]}),
        (b"[1, 2]\n[3, 4]\n", "application/jsonlines", {"instances": [[1, 2], [3, 4]]}),
        (b'{"x": 1}\n{"x": 2}', "application/jsons", {"instances": [{"x": 1}, {"x": 2}]}),
        (b'{"x": 1}', JSON, {"instances": [{"x": 1}]}),
        (b"1,2\n3,4\n", "text/csv", {"instances": [[1, 2], [3, 4]]}),
        (b"1.5\n-2e3\n", "text/csv", {"instances": [1.5, -2000.0]}),
        (b"a,b,c\nd,e,f", "text/csv", {"instances": [["a", "b", "c"], ["d", "e", "f"]]}),
        (b'"a, b",2', "text/csv", {"instances": [["a, b", 2]]}),
        (b"", "text/csv", {"instances": []}),
    ],
)
def test_bodies(body: bytes, content_type: str, request_: Any) -> None:
    assert to_request(body, content_type) == request_


def test_bodies_that_are_none() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        to_request(b"{nonsense", JSON)
    for content_type in ("", "application/xml", "application/json; charset=utf-8"):
        with pytest.raises(UnknownType, match=content_type or "Unknown"):
            to_request(b"1", content_type)


@pytest.fixture
def model(host: Host) -> Host:
    host.config["flavour"] = "tensorflow"
    return host


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("variables/x", "it holds"),
        ("export/saved_model.pb", "saved_model.pb is there, but not in a folder whose name is a number"),
    ],
)
def test_no_model(model: Host, path: str, words: str) -> None:
    (model.model / path).parent.mkdir()
    (model.model / path).touch()
    report = model.fails()
    assert report["kind"] == "no-model"
    assert "There is no <version>/saved_model.pb" in report["message"]
    assert words in report["message"]
    assert "tar -czf" in report["mend"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def input_handler(data, context): return 1\n", "both input_handler and output_handler"),
        ("def output_handler(response, context): return 1\n", "both input_handler and output_handler"),
        ("handle = 1\n", "must define handler"),
    ],
)
def test_scripts_that_are_refused(model: Host, script: str, words: str) -> None:
    model.script(script)
    assert words in model.fails()["message"]


@pytest.fixture(scope="module")
def made(tensorflow_env: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([tensorflow_env, str(MAKE), str(folder)], check=True, capture_output=True)
    return folder


def with_models(model: Host, python: str, made: Path, *names: str) -> Host:
    model.python = python
    model.patience = time.monotonic() + LONG
    for name in names:
        shutil.copytree(made / name, model.model / name)
    return model


@pytest.mark.heavy
def test_rows_columns_versions_and_models(model: Host, tensorflow_env: str, made: Path) -> None:
    with_models(model, tensorflow_env, made, "half", "words").start({"SAGEMAKER_TFS_ENABLE_BATCHING": "true"})
    assert "SAGEMAKER_TFS_ENABLE_BATCHING has no effect" in model.output()

    def asks(body: Any, attributes: str = "", status: int = 200) -> Any:
        headers = {"Content-Type": JSON, "X-Amzn-SageMaker-Custom-Attributes": attributes}
        reply = ask(model.worker(), "POST", "/invocations", json.dumps(body).encode(), headers)
        assert (reply.status, reply.headers["content-type"]) == (status, JSON), reply.text
        return json.loads(reply.text)

    assert asks([[2, 4], [6, 8]]) == {"predictions": [[2.0, 3.0], [4.0, 5.0]]}  # the newest version
    assert asks({"inputs": [[2, 4]]}) == {"outputs": [[2.0, 3.0]]}
    assert asks({"instances": [{"x": [2, 4]}]}) == {"predictions": [[2.0, 3.0]]}
    words = asks({"instances": [{"word": "a", "n": 1}, {"word": {"b64": "Yg=="}, "n": 2}]}, "tfs-model-name=words")
    assert words == {"predictions": [{"upper": "A", "next": 2}, {"upper": "B", "next": 3}]}
    columns = asks({"inputs": {"word": ["a"], "n": [1]}}, "tfs-model-name=words, tfs-model-version=1")
    assert columns == {"outputs": {"upper": ["A"], "next": [2]}}
    assert "Servable not found" in asks([[1, 2]], "tfs-model-name=half,tfs-model-version=7", 404)["error"]
    assert "classify" in asks([[1, 2]], "tfs-method=classify", 400)["error"]
    assert "shape" in asks([[1, 2, 3]], status=400)["error"]
    assert "word" in asks({"instances": [{"word": "a"}]}, "tfs-model-name=words", 400)["error"]
    assert "signature" in asks({"signature_name": "gone", "instances": [[1, 2]]}, status=400)["error"]
    assert "cannot be read as float32" in asks([["a", "b"]], status=400)["error"]
    assert asks([[2, 4]], "tfs-model-name=half,tfs-model-version=1") == {"predictions": [[1.0, 2.0]]}  # an older one
    assert "Specific(half, x)" in asks([[1, 2]], "tfs-model-version=x", 404)["error"]
    for accept, told in (
        ("application/jsonlines", "application/jsonlines"),
        ("text/csv", JSON),
        ("a/b, application/json", "a/b"),
    ):
        assert model.invoke(b"[[2, 4]]", content_type=JSON, accept=accept).headers["content-type"] == told
    for kind in ("application/jsonlines", "application/jsons"):
        assert json.loads(model.invoke(b"[2, 4]\n[6, 8]\n", kind).text) == {"predictions": [[2.0, 3.0], [4.0, 5.0]]}
    assert model.invoke(b"[[2, 4]]").status == 415
    unknown = model.invoke(b"x", content_type="application/xml")
    assert (unknown.status, json.loads(unknown.text)) == (415, {"error": "Unsupported Media Type: application/xml"})
    assert json.loads(model.invoke(b"2,4", content_type="text/csv").text) == {"predictions": [[2.0, 3.0]]}
    assert model.invoke(b"{nonsense", content_type=JSON).status == 400


@pytest.mark.heavy
def test_two_handlers(model: Host, tensorflow_env: str, made: Path) -> None:
    with_models(model, tensorflow_env, made, "half").script(HANDLERS)
    model.start()
    reply = model.invoke(b"2 4\n6 8", content_type="application/x-mine")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-yours")
    assert json.loads(reply.text) == ["half", [[2.0, 3.0], [4.0, 5.0]]]
    wrong = model.invoke(b"1 2 3", content_type="application/x-mine")
    assert wrong.status == 500
    assert "shape" in json.loads(wrong.text)["error"]
    assert model.invoke(b"x y", content_type="application/x-mine").status == 500


@pytest.mark.heavy
def test_a_handler_posts_to_the_model_itself(model: Host, tensorflow_env: str, made: Path) -> None:
    """With requests, as AWS's examples do; it is also told the model's state, and what is wrong with its requests."""
    with_models(model, tensorflow_env, made, "half").script(
        "import json, requests\n"
        "def handler(data, context):\n"
        "    if context.request_content_type == 'text/state':\n"
        "        return requests.get(context.rest_uri.rsplit(':', 1)[0]).content, 'application/json'\n"
        "    if context.request_content_type == 'text/elsewhere':\n"
        "        there = '/'.join(context.rest_uri.split('/')[:3]) + '/v1/models/half'\n"
        "        return str(requests.get(there).status_code), 'text/plain'\n"
        "    answer = requests.post(context.rest_uri, data=data.read())\n"
        "    return json.dumps([answer.status_code, answer.json()]), context.accept_header\n"
        "def input_handler(data, context): raise ValueError('handler goes first')\n"
    )
    model.start(workers=2, cpus=2)
    for index in (0, 1, 0):
        reply = model.invoke(b'{"instances": [[2, 4]]}', "text/x", "a/b", index)
        assert (json.loads(reply.text), reply.headers["content-type"]) == ([200, {"predictions": [[2.0, 3.0]]}], "a/b")
    old = ask(
        model.worker(),
        "POST",
        "/invocations",
        b'{"inputs": [[2, 4]]}',
        {"X-Amzn-SageMaker-Custom-Attributes": "tfs-model-version=1"},
    )
    assert json.loads(old.text) == [200, {"outputs": [[1.0, 2.0]]}]
    assert json.loads(model.invoke(b"{nonsense").text)[0] == 400
    assert json.loads(model.invoke(b'{"instances": [[1]]}').text)[0] == 400
    states = json.loads(model.invoke(b"", "text/state").text)["model_version_status"]
    assert [(each["version"], each["state"]) for each in states] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    assert model.invoke(b"", "text/elsewhere").text == "404"


@pytest.mark.heavy
def test_a_saved_model_that_was_cut_short(model: Host, tensorflow_env: str, made: Path) -> None:
    with_models(model, tensorflow_env, made, "half")
    pb = model.model / "half" / "2" / "saved_model.pb"
    pb.write_bytes(pb.read_bytes()[:100])
    report = model.fails()
    assert "half/2/saved_model.pb" in report["message"]


@pytest.mark.heavy
def test_workers_share_the_import_and_answer_also_after_one_died(host: Host, tensorflow_env: str, tmp_path: Path) -> None:
    subprocess.run([tensorflow_env, "-W", "ignore", str(MAKE), str(tmp_path)], check=True, capture_output=True)
    shutil.copytree(tmp_path / "half" / "1", host.model / "1")
    host.python = tensorflow_env
    host.patience = time.monotonic() + LONG
    host.start(flavour="tensorflow", workers=3, cpus=6)
    (sharing,) = host.children()
    workers = children_of(sharing)
    assert len(workers) == 3
    for _ in range(2):
        for index in range(3):
            assert json.loads(host.invoke(b'{"instances": [[2, 4]]}', JSON, index=index).text) == {"predictions": [[1.0, 2.0]]}
        os.kill(children_of(sharing)[0], signal.SIGKILL)
