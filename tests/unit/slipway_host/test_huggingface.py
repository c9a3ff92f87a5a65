"""Hugging Face (containers.md 3.5): tasks, bodies, statuses. What needs transformers is `heavy`; its models are made here."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.deadlines import LONG

from .running import Host

ECHO = """
def model_fn(model_dir):
    def call(inputs, **parameters):
        if inputs == "nan": return [float("nan")]
        if inputs == "boom": raise RuntimeError("no words for it")
        return [{"inputs": inputs, "parameters": parameters}]
    return call
"""
JSON = "application/json"
MAKE = Path(__file__).parents[2] / "models" / "make_transformers.py"


@pytest.fixture(scope="module")
def made(transformers_env: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `pegasus` and `bert`: random models of a few thousand weights, with tokenizers trained on two sentences."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([transformers_env, "-W", "ignore", str(MAKE), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def model(host: Host) -> Host:
    host.config["flavour"] = "huggingface"
    return host


def with_files(model: Host, python: str, folder: Path, without: str = "") -> Host:
    model.python = python
    model.patience = time.monotonic() + LONG
    for file in folder.iterdir():
        if not without or not file.name.startswith(without):
            (model.model / file.name).write_bytes(file.read_bytes())
    return model


def message(model: Host, body: bytes, content_type: str = JSON, accept: str = "") -> str:
    reply = model.invoke(body, content_type=content_type, accept=accept)
    assert reply.status == 400
    assert reply.headers["content-type"] == JSON
    told = json.loads(reply.text)
    assert (told["code"], told["type"]) == (400, "InternalServerException")
    return str(told["message"])


def test_the_dialect_of_inputs_and_parameters(model: Host) -> None:
    model.script(ECHO)
    model.start()
    reply = model.invoke('{"inputs": "grüße", "parameters": {"top_k": 2}}'.encode(), content_type=JSON)
    assert (reply.status, reply.headers["content-type"]) == (200, JSON)
    assert reply.text == '[{"inputs":"grüße","parameters":{"top_k":2}}]'
    assert json.loads(model.invoke(b'{"inputs": ["a", "b"]}').text)[0]["inputs"] == ["a", "b"]
    whole = model.invoke(b'{"question": "q", "context": "c"}', content_type="application/json; charset=utf-8")
    assert json.loads(whole.text)[0]["inputs"] == {"question": "q", "context": "c"}
    rows = model.invoke(b"question,context\nq1,c1\nq2,c2\n", content_type="text/csv")
    assert json.loads(rows.text)[0]["inputs"] == [{"question": "q1", "context": "c1"}, {"question": "q2", "context": "c2"}]
    column = model.invoke(b"inputs\none\ntwo\n", content_type="text/csv")
    assert json.loads(column.text)[0]["inputs"] == ["one", "two"]
    csv = model.invoke(b'{"inputs": 1}', content_type=JSON, accept="text/csv")
    assert csv.text == "inputs,parameters\r\n1,{}\r\n"


def test_every_failure_is_a_400_in_the_model_servers_frame(model: Host) -> None:
    model.script(ECHO)
    model.start({"HF_TASK": "table-question-answering"})
    assert "Expecting property name" in message(model, b"{nonsense")
    assert "must be a JSON object" in message(model, b'["a"]')
    assert "is not supported" in message(model, b"x", "application/x-what")
    assert "is not supported" in message(model, b'{"inputs": 1}', accept="application/json, text/csv")
    assert message(model, b'{"inputs": "boom"}') == "no words for it"
    assert "no words for it" in model.output()  # with its traceback
    assert "JSON compliant" in message(model, b'{"inputs": "nan"}')
    assert "cannot carry what table-question-answering needs" in message(model, b"inputs\na\n", "text/csv")
    assert "parameters" in message(model, b'{"inputs": 1, "parameters": [2]}')


def test_csv_without_a_header(model: Host) -> None:
    model.script(ECHO)
    model.start()
    assert "one of question, context, inputs must be among them" in message(model, b"1,2\n3,4\n", "text/csv")


def test_nothing_to_load(model: Host) -> None:
    (model.model / "weights.bin").touch()
    report = model.fails()
    assert report["kind"] == "no-model"
    assert "There is no config.json at the top of the model archive" in report["message"]
    assert "weights.bin" in report["message"]


def test_a_folder_too_high(model: Host) -> None:
    (model.model / "mine").mkdir()
    (model.model / "mine" / "config.json").touch()
    report = model.fails()
    assert "there is mine/config.json" in report["message"]
    assert "-C mine ." in report["mend"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"architectures": ["BertModel"]}', "Task couldn't be inferenced from BertModel"),
        ("{}", "names no architecture"),
        ("{nonsense", "config.json cannot be read"),
    ],
)
def test_a_task_that_cannot_be_told(model: Host, config: str, words: str) -> None:
    (model.model / "config.json").write_text(config)
    report = model.fails()
    assert words in report["message"]
    assert "HF_TASK" in report["mend"] or "save_pretrained" in report["mend"]


def test_images_from_text_need_a_script(model: Host) -> None:
    (model.model / "model_index.json").write_text("{}")
    assert "diffusers" in model.fails()["message"]


@pytest.mark.heavy
def test_summaries_of_a_pegasus_without_a_script(model: Host, transformers_env: str, made: Path) -> None:
    with_files(model, transformers_env, made / "pegasus").start({"HF_TASK": "summarization"})
    body = {"inputs": "the quick brown fox jumps over the lazy dog", "parameters": {"max_new_tokens": 6}}
    (answer,) = json.loads(model.invoke(json.dumps(body), content_type=JSON).text)
    assert set(answer) == {"summary_text"}
    several = json.loads(model.invoke(json.dumps({**body, "inputs": [body["inputs"]] * 3}), content_type=JSON).text)
    assert several == [answer] * 3
    assert "temperature" in message(model, b'{"inputs": "a", "parameters": {"do_sample": true, "temperature": -1.0}}')


@pytest.mark.heavy
def test_the_task_is_told_by_the_architecture_and_workers_share_the_model(
    model: Host, transformers_env: str, made: Path
) -> None:
    with_files(model, transformers_env, made / "bert").start(workers=2, cpus=2)
    for index in range(2):
        (answer,) = json.loads(model.invoke(b'{"inputs": "a short text"}', index=index).text)
        assert set(answer) == {"label", "score"}
    assert len(model.children()) == 1
    (rows,) = (json.loads(model.invoke(b'{"inputs": "a text", "parameters": {"top_k": 2}}').text),)
    assert len(rows) == 2
    csv = model.invoke(b'{"inputs": ["a", "the dog"]}', accept="text/csv").text.splitlines()
    assert csv[0] == "label,score"
    assert len(csv) == 3


@pytest.mark.heavy
def test_a_script_may_bring_model_and_prediction(model: Host, transformers_env: str, made: Path) -> None:
    with_files(model, transformers_env, made / "bert").script(
        "import os\nfrom transformers import AutoModel, AutoTokenizer\n"
        "def model_fn(model_dir, context=None):\n"
        "    return AutoModel.from_pretrained(model_dir), AutoTokenizer.from_pretrained(model_dir)\n"
        "def predict_fn(data, model):\n"
        "    network, tokenizer = model\n"
        "    found = network(**tokenizer(data['inputs'], return_tensors='pt'))[0]\n"
        "    return {'width': found.shape[-1], 'offline': os.environ['HF_HUB_OFFLINE']}\n"
    )
    model.start()
    assert json.loads(model.invoke(b'{"inputs": "a text"}', content_type=JSON).text) == {"width": 16, "offline": "1"}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("without", "environment", "kind", "words"),
    [
        ("model.safetensors", {}, "no-model", "lacks the weights"),
        ("tokenizer", {}, "no-model", "lacks the tokenizer's files"),
        ("", {"HF_TASK": "mind-reading"}, "model-fn-error", "HF_TASK is 'mind-reading', which transformers 4."),
    ],
)
def test_why_a_model_of_transformers_does_not_load(
    model: Host, transformers_env: str, made: Path, without: str, environment: dict[str, str], kind: str, words: str
) -> None:
    with_files(model, transformers_env, made / "bert", without)
    (model.model / "special_tokens_map.json").unlink(missing_ok=True)
    if without == "tokenizer":
        (model.model / "vocab.txt").unlink(missing_ok=True)
    report = model.fails(environment)
    assert (report["kind"], words in report["message"]) == (kind, True), report
    assert report["mend"]


@pytest.mark.heavy
def test_an_architecture_that_is_not_known(model: Host, transformers_env: str, made: Path) -> None:
    with_files(model, transformers_env, made / "bert")
    config = json.loads((model.model / "config.json").read_text())
    (model.model / "config.json").write_text(json.dumps({**config, "model_type": "future"}))
    assert "does not know the architecture 'future'" in model.fails()["message"]


@pytest.mark.heavy
def test_a_model_of_the_hub_without_a_network(model: Host, transformers_env: str) -> None:
    model.python = transformers_env
    secret = "hf_" + "s" * 34
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HOME": str(model.folder)}
    report = model.fails({"HF_MODEL_ID": "somebody/something", "HF_API_TOKEN": secret, **nowhere})
    assert report["kind"] == "no-model"
    assert "HF_MODEL_ID names somebody/something, which could not be downloaded" in report["message"]
    assert "ModelDataUrl" in report["mend"]
    assert secret not in json.dumps(report) + model.output()
