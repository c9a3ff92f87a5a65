"""Many models of other frameworks than scikit-learn behind one endpoint, by boto3."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.e2e.deployments import XGBOOST, Deployments, archive
from tests.e2e.test_linear_learner import IMAGE as LINEAR_LEARNER
from tests.e2e.test_models import interpreter, trained
from tests.e2e.test_multi_model import Fleet
from tests.models.linear_learner import artifact

MAKERS = Path(__file__).parents[1] / "models"
DEEP = "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
MXNET = f"{DEEP}mxnet-inference:1.9-cpu-py38"
TENSORFLOW = f"{DEEP}tensorflow-inference:2.16-cpu"
HUGGING_FACE = f"{DEEP}huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04"
PYTORCH = f"{DEEP}pytorch-inference:2.3-cpu-py311"
BOOSTED = """
import sys, numpy as np, xgboost as xgb
x = np.random.RandomState(0).rand(200, 2)
for name, y in (("more", x[:, 0] > x[:, 1]), ("less", x[:, 0] < x[:, 1])):
    b = xgb.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, xgb.DMatrix(x, y), 20)
    b.save_model(sys.argv[1] + "-" + name)
    print(*b.predict(xgb.DMatrix(np.array([[0., 1.], [1., 0.]], "float32"))))
"""
SCALED = """
import sys, torch
for factor in (2, 3):
    net = torch.nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.fill_(factor)
        net.bias.zero_()
    torch.jit.script(net).save(sys.argv[1] + f"-{factor}.pt")
"""
SCRIPT = """
import os, torch
def model_fn(model_dir):
    return torch.jit.load(os.path.join(model_dir, "model.pt"))
"""
GLUON = """
import mxnet as mx, os
def model_fn(model_dir):
    return mx.gluon.SymbolBlock.imports(os.path.join(model_dir, "block-symbol.json"), ["data"],
                                        os.path.join(model_dir, "block-0000.params"))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    with temporary(("--model-load-limit", "60")) as launched:
        yield Deployments(launched)


def test_xgboosts_algorithm_mode(server: Deployments, tmp_path: Path) -> None:
    """Without a script; a file that is no booster is an answer of its own."""
    told = trained(XGBOOST, BOOSTED, tmp_path / "booster").splitlines()
    truth = {name: [float(word) for word in line.split()] for name, line in zip(("more", "less"), told, strict=True)}
    files = {f"{name}.tar.gz": archive({"xgboost-model": (tmp_path / f"booster-{name}").read_bytes()}) for name in truth}
    files["broken.tar.gz"] = archive({"xgboost-model": b"not a booster"})
    fleet = Fleet(server, "boosters", image=XGBOOST, environment={}, files=files)
    for name in ("more", "less", "more"):
        scores = [float(word) for word in fleet.ask(f"{name}.tar.gz", "0,1\n1,0").replace(",", "\n").split()]
        assert scores == pytest.approx(truth[name], rel=1e-5)
    code, status, message, _ = fleet.refused("broken.tar.gz")
    assert (code, status) == ("ModelError", 424)
    assert "xgboost-model" in message


def test_linear_learner(server: Deployments) -> None:
    """Each archive holds a `model_algo-1`."""
    models = {"up": ([[1.0], [2.0]], [0.5]), "down": ([[-1.0], [0.0]], [0.0])}
    files = {
        f"{name}.tar.gz": archive({"model_algo-1": artifact(weights, bias, "regressor")})
        for name, (weights, bias) in models.items()
    }
    fleet = Fleet(server, "lines", image=LINEAR_LEARNER, environment={}, files=files)

    def scores(name: str) -> list[float]:
        return [each["score"] for each in json.loads(fleet.ask(f"{name}.tar.gz", "1,2\n3,4"))["predictions"]]

    assert scores("up") == pytest.approx([5.5, 11.5])
    assert scores("down") == pytest.approx([-1.0, -3.0])
    with pytest.raises(ClientError, match="record 1 has 3 features, and the model takes 2"):
        fleet.ask("up.tar.gz", "1,2,3")


@pytest.mark.heavy
def test_pytorch(server: Deployments, tmp_path: Path) -> None:
    """TorchScript without a script, and with one."""
    trained(PYTORCH, SCALED, tmp_path / "net")
    two, three = ((tmp_path / f"net-{factor}.pt").read_bytes() for factor in (2, 3))
    files = {
        "two.tar.gz": archive({"model.pt": two}),
        "three.tar.gz": archive({"model.pt": three, "code/inference.py": SCRIPT}),
        "none.tar.gz": archive({"words.txt": "no model"}),
    }
    fleet = Fleet(server, "nets", image=PYTORCH, environment={}, files=files)

    def answer(name: str) -> object:
        body = server.invoke("nets", [[1, 1], [2, 2]], TargetModel=f"{name}.tar.gz")
        return json.loads(body)

    assert [answer(name) for name in ("two", "three", "two")] == [[[4.0], [8.0]], [[6.0], [12.0]], [[4.0], [8.0]]]
    assert "Exactly one .pth or .pt file is required" in fleet.refused("none.tar.gz")[2]
    assert set(fleet.loaded()) == {"two.tar.gz", "three.tar.gz"}


def in_folders(folder: Path, *names: str) -> bytes:
    """An archive of these files and folders of `folder`."""
    found = [file for name in names for file in ([folder / name] if (folder / name).is_file() else (folder / name).rglob("*"))]
    return archive({str(file.relative_to(folder)): file.read_bytes() for file in found if file.is_file()})


def make(image: str, maker: str, folder: Path) -> Path:
    command = [interpreter(image), "-W", "ignore", str(MAKERS / maker), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.heavy
def test_mxnet(server: Deployments, tmp_path: Path) -> None:
    """A Module by the defaults beside a Gluon block with a script."""
    made = make(MXNET, "make_mxnet.py", tmp_path)
    truth = json.loads((made / "truth.json").read_text())
    block = {name: (made / name).read_bytes() for name in ("block-symbol.json", "block-0000.params")}
    files = {
        "module.tar.gz": in_folders(made, "model-symbol.json", "model-0000.params", "model-shapes.json"),
        "block.tar.gz": archive({**block, "code/inference.py": GLUON}),
    }
    fleet = Fleet(server, "mxnets", image=MXNET, environment={}, files=files)
    for name in ("module", "block", "module"):
        rows = json.loads(server.invoke("mxnets", truth["rows"], TargetModel=f"{name}.tar.gz"))
        assert rows == [pytest.approx(row, rel=1e-5) for row in truth[name]]
    assert len(fleet.loaded()) == 2


@pytest.mark.heavy
def test_tensorflow(server: Deployments, tmp_path: Path) -> None:
    """Each process has a runtime of its own, since TensorFlow's cannot be forked."""
    made = make(TENSORFLOW, "make_tensorflow.py", tmp_path)
    first = {f"1/{file.relative_to(made / 'half' / '1')}": file for file in (made / "half" / "1").rglob("*") if file.is_file()}
    files = {
        "both.tar.gz": in_folders(made, "half"),
        "first.tar.gz": archive({name: file.read_bytes() for name, file in first.items()}),
        "none.tar.gz": archive({"words.txt": "no model"}),
    }
    fleet = Fleet(server, "saved", image=TENSORFLOW, environment={}, files=files)

    def answer(name: str) -> object:
        return json.loads(server.invoke("saved", {"instances": [[2, 4]]}, TargetModel=f"{name}.tar.gz"))["predictions"]

    assert [answer(name) for name in ("both", "first", "both")] == [[[2.0, 3.0]], [[1.0, 2.0]], [[2.0, 3.0]]]
    assert "saved_model.pb" in fleet.refused("none.tar.gz")[2]


@pytest.mark.heavy
def test_hugging_face(server: Deployments, tmp_path: Path) -> None:
    """Two tasks, each by its model's config."""
    made = make(HUGGING_FACE, "make_transformers.py", tmp_path)
    files = {
        f"{name}.tar.gz": archive({file.name: file.read_bytes() for file in (made / name).iterdir() if file.is_file()})
        for name in ("bert", "pegasus")
    }
    Fleet(server, "texts", image=HUGGING_FACE, environment={}, files=files)
    (label,) = json.loads(server.invoke("texts", {"inputs": "a short text"}, TargetModel="bert.tar.gz"))
    assert set(label) == {"label", "score"}
    asked = {"inputs": "the quick brown fox", "parameters": {"max_new_tokens": 6}}
    (text,) = json.loads(server.invoke("texts", asked, TargetModel="pegasus.tar.gz"))
    assert set(text) <= {"summary_text", "generated_text"}
