"""PyTorch's defaults (containers.md 3.2, 3.4). What needs torch itself is `heavy`; the rest runs with numpy alone."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.deadlines import LONG

from .running import Host, ask
from .test_sklearn import npy

MAKE = Path(__file__).parents[2] / "models" / "make_torch.py"
EAGER = """
import os, torch
class Net(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.fc = torch.nn.Linear(width, 1)
    def forward(self, x):
        return self.fc(x)
def model_fn(model_dir):
    model = Net(WIDTH)
    model.load_state_dict(torch.load(os.path.join(model_dir, "state.pth")))
    return model
WIDTH = 2
"""
NO_TORCH = """
import json
SEEN = []
def pre_model_fn(model_dir): SEEN.append("before")
def model_fn(model_dir, context): SEEN.append(context.system_properties["model_dir"]); return {"factor": 2}
def model_warmup_fn(model_dir, model, context): model["warm"] = True
def input_fn(data, content_type): return json.loads(data)
def predict_fn(data, model, context):
    return [x * model["factor"] for x in data], model["warm"], SEEN, context.get_request_header(0, "X-Who")
def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Answer", "yes")
    return json.dumps(prediction)
"""


@pytest.fixture(scope="module")
def saved(torch_env: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([torch_env, "-W", "ignore", str(MAKE), str(folder)], check=True)
    return folder


@pytest.fixture
def model(host: Host) -> Host:
    host.config["flavour"] = "pytorch"
    return host


def with_files(model: Host, python: str, saved: Path, *names: str) -> Host:
    model.python = python
    model.patience = time.monotonic() + LONG
    for name in names:
        (model.model / name).write_bytes((saved / name).read_bytes())
    return model


def test_the_five_functions_and_their_context_without_torch(model: Host) -> None:
    model.script(NO_TORCH)
    model.start()
    reply = ask(model.worker(), "POST", "/invocations", b"[1, 2]", {"Content-Type": "application/json", "X-Who": "me"})
    assert json.loads(reply.text) == [[2, 4], True, ["before", str(model.model)], "me"]
    assert reply.headers["x-answer"] == "yes"
    assert reply.headers["content-type"] == "application/json"


def test_a_transform_fn_that_is_given_the_context(model: Host) -> None:
    model.script(
        "def model_fn(model_dir): return 1\n"
        "def transform_fn(model, data, content_type, accept, context):\n"
        "    context.set_response_status(201)\n    return data.upper(), 'text/plain'\n"
    )
    model.start()
    reply = model.invoke(b"a,b", content_type="text/csv")
    assert (reply.status, reply.text, reply.headers["content-type"]) == (201, "A,B", "text/plain")


def test_types_that_nobody_decodes_are_a_500_as_in_the_image(model: Host) -> None:
    model.script("def model_fn(model_dir): return 1\n")
    model.start()
    reply = model.invoke(b"x", content_type="application/x-what")
    assert reply.status == 500
    assert reply.text.startswith("Content type application/x-what is not supported by this framework.\n")
    assert "content-type" not in reply.headers


def test_no_model_file_and_no_script(model: Host) -> None:
    (model.model / "readme.txt").touch()
    report = model.fails()
    assert report["kind"] == "no-model"
    assert "Exactly one .pth or .pt file is required for PyTorch models" in report["message"]
    assert "readme.txt" in report["message"]
    assert "model_fn" in report["mend"]


def test_several_model_files_are_a_question(model: Host) -> None:
    for name in ("a.pt", "b.pth"):
        (model.model / name).touch()
    assert "there are 2 (a.pt, b.pth)" in model.fails()["message"]


def test_an_empty_model_file(model: Host) -> None:
    (model.model / "model.pt").touch()
    assert "model.pt is empty" in model.fails()["message"]


def test_functions_of_a_wrong_shape_are_named(model: Host) -> None:
    model.script("def model_fn(model_dir): return 1\ndef predict_fn(data): return 1\n")
    assert "predict_fn takes 2 arguments but 1 were given" in model.fails()["message"]


def test_variables_of_torchserve_are_answered_for(model: Host) -> None:
    model.script(NO_TORCH)
    model.start({"SAGEMAKER_TS_BATCH_SIZE": "8", "SAGEMAKER_TS_MAX_BATCH_DELAY": "1"})
    assert "SAGEMAKER_TS_BATCH_SIZE=8: the script gets its requests one by one, as from AWS's toolkit" in model.output()
    assert "MAX_BATCH_DELAY" not in model.output()


def test_torchserves_batches_for_a_script_that_declares_them(model: Host) -> None:
    model.script(
        "def model_fn(model_dir): return 1\ndef input_fn(data, content_type): return data\n"
        "def batch_predict_fn(inputs, model): return [f'{x} of {len(inputs)}' for x in inputs]\n"
        "def output_fn(prediction, accept): return prediction\n"
    )
    model.start({"SAGEMAKER_TS_BATCH_SIZE": "2", "SAGEMAKER_TS_MAX_BATCH_DELAY": "5000"})
    client = model.frames()
    for ident in (1, 2):
        client.send(ident, b"%d" % ident, {"Content-Type": "text/csv"})
    assert [client.frame()[3] for _ in range(3)][1:] == [b"1 of 2", b"2 of 2"]


@pytest.mark.heavy
def test_rows_of_several_requests_are_one_tensor(model: Host, torch_env: str, saved: Path) -> None:
    with_files(model, torch_env, saved, "model.pt")
    model.start({"SLIPWAY_MAX_BATCH_SIZE": "4", "SLIPWAY_MAX_BATCH_DELAY_MS": "5000"})
    client = model.frames()
    for ident, body in enumerate((b"[[1, 1], [2, 2]]", b"[[1, 1]]", b"[1, 1]", b"[[1, 1, 1]]")):
        client.send(ident, body, {"Content-Type": "application/json"})
    client.frame()
    found = [client.frame() for _ in range(4)]
    assert [json.loads(frame[3]) for frame in found[:3]] == [[[6.0], [9.0]], [[6.0]], [6.0]]
    assert found[3][2][0] == 500


@pytest.mark.parametrize("name", ["SAGEMAKER_TS_BATCH_SIZE", "SAGEMAKER_HANDLER"])
def test_variables_that_cannot_be_honoured_are_refused(model: Host, name: str) -> None:
    model.script(NO_TORCH)
    assert name in model.fails({name: "my_handler.py"})["message"]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["model.pt", "other.pth"])
def test_torchscript_without_a_script(model: Host, torch_env: str, saved: Path, name: str) -> None:
    with_files(model, torch_env, saved, "model.pt")
    (model.model / "model.pt").rename(model.model / name)
    model.start()
    reply = model.invoke(b"[[1, 1], [2, 2]]", content_type="application/json")
    assert json.loads(reply.text) == [[6.0], [9.0]]
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(model.invoke(b"[[1, 1]]").text) == [[6.0]]
    assert json.loads(model.invoke(b"1,1\n2,2", content_type="text/csv").text) == [[6.0], [9.0]]
    assert json.loads(model.invoke(b"1,1", content_type="text/csv; charset=utf-8").text) == [6.0]
    csv = model.invoke(b"[[1, 1], [2, 2]]", accept="text/csv")
    assert (csv.text, csv.headers["content-type"]) == ("6.0\n9.0\n", "text/csv")
    listed = model.invoke(b"[[1, 1]]", accept="text/html, application/x-npy")
    assert listed.headers["content-type"] == "application/x-npy"
    assert listed.body.startswith(b"\x93NUMPY")
    wrong = model.invoke(npy([[1, 1]]), content_type="application/x-npy")
    assert wrong.status == 500  # float64, as on AWS
    assert "Double" in wrong.text or "dtype" in wrong.text
    assert model.invoke(b"[[1, 1, 1]]").status == 500
    assert model.invoke(b"[[1, 1]]", accept="image/png").status == 500
    assert model.invoke(b"[[1, 1], [1]]").status == 500


@pytest.mark.heavy
def test_eager_with_model_fn_and_workers_that_share_it(model: Host, torch_env: str, saved: Path) -> None:
    with_files(model, torch_env, saved, "state.pth").script(EAGER)
    model.start(workers=2, cpus=2)
    for index in range(2):
        assert json.loads(model.invoke(b"[[1, 1]]", index=index).text) == [[6.0]]
    assert len(model.children()) == 1  # one process loaded it, and forked the workers


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("files", "script", "kind", "words"),
    [
        (["state.pth"], "", "model-fn-error", "Please ensure model is saved using torchscript"),
        (["whole.pth"], "", "model-fn-error", "Please ensure model is saved using torchscript"),
        (["whole.pth"], "torch.load(d + '/whole.pth')", "pickle-version", "since PyTorch 2.6 it reads tensors alone"),
        (["whole.pth"], "torch.load(d + '/whole.pth', weights_only=False)", "pickle-version", "needs the class Net"),
        (["state.pth"], "torch.load(d + '/gone.pth')", "no-model", "The model archive holds"),
        (["state.pth"], "open(d + '/x', 'rb')", "no-model", "state.pth"),
        ([], "torch.empty(1 << 50)", "out-of-memory", "PyTorch asked for 4,294,967,296 MiB more"),
        ([], "__import__('torchvision')", "import-error", "No module named 'torchvision'"),
    ],
)
def test_why_a_model_of_torch_does_not_load(
    model: Host, torch_env: str, saved: Path, files: list[str], script: str, kind: str, words: str
) -> None:
    with_files(model, torch_env, saved, *files)
    if script:
        model.script(f"import torch\ndef model_fn(d):\n    return {script}\n")
    report = model.fails()
    assert (report["kind"], words in report["message"]) == (kind, True), report
    assert report["mend"]


@pytest.mark.heavy
def test_weights_of_another_class(model: Host, torch_env: str, saved: Path) -> None:
    with_files(model, torch_env, saved, "state.pth").script(EAGER.replace("WIDTH = 2", "WIDTH = 5"))
    report = model.fails()
    assert "The weights do not fit the class Net: size mismatch for fc.weight" in report["message"]
    assert "Net in code/" in report["mend"]


@pytest.mark.heavy
def test_a_file_that_was_cut_short(model: Host, torch_env: str, saved: Path) -> None:
    with_files(model, torch_env, saved, "state.pth").script(EAGER)
    (model.model / "state.pth").write_bytes((saved / "state.pth").read_bytes()[:700])
    report = model.fails()
    assert report["kind"] == "no-model"
    assert "cut short" in report["message"]
