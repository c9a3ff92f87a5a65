"""MXNet's defaults (containers.md 3.9). What needs mxnet itself is `heavy`, and held against AWS's own toolkit there."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from slipway_host import mxnet_arrays
from tests.deadlines import LONG
from tests.e2e.environments import MXNET_TOOLKIT, client_python
from tests.models.linear_learner import artifact

from .running import Host, ask, children_of
from .test_sklearn import npy

MODELS = Path(__file__).parents[2] / "models"
JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
FILES = ("model-symbol.json", "model-0000.params", "model-shapes.json")
BLOCK = """
import mxnet as mx, os
def model_fn(model_dir):
    return mx.gluon.SymbolBlock.imports(os.path.join(model_dir, "block-symbol.json"), ["data"],
                                        os.path.join(model_dir, "block-0000.params"))
"""


@pytest.fixture
def model(host: Host) -> Host:
    host.config["flavour"] = "mxnet"
    return host


def test_a_transform_fn_needs_no_mxnet(model: Host) -> None:
    model.script(
        "import os\n"
        "def model_fn(model_dir, context): return 2\n"
        "def transform_fn(model, data, content_type, accept, context):\n"
        "    threads = os.environ['MXNET_CPU_WORKER_NTHREADS'] + os.environ['OMP_NUM_THREADS']\n"
        "    context.set_response_header(0, 'X-Threads', threads)\n"
        "    return str(model * int(data)), 'text/plain'\n"
    )
    model.start({"OMP_NUM_THREADS": "5"})
    reply = ask(model.worker(), "POST", "/invocations", b"21", {"Content-Type": "application/json"})
    assert (reply.text, reply.headers["x-threads"], reply.headers["content-type"]) == ("42", "15", "text/plain")


@pytest.mark.parametrize("missing", FILES)
def test_a_file_of_the_default_model_is_missing(model: Host, missing: str) -> None:
    for name in FILES:
        if name != missing:
            (model.model / name).write_bytes(b"{}")
    report = model.fails()
    assert report["kind"] == "no-model"
    assert f"Failed to load model with default model_fn: missing file {missing}." in report["message"]
    assert "Module.save_checkpoint" in report["mend"]
    assert "AWS's image for MXNet does not start without one" in model.output()


@pytest.mark.parametrize("shapes", [b"{", b"3", b'[{"name": "data"}]', b'[{"name": "data", "shape": [1, "a"]}]'])
def test_shapes_that_are_none(model: Host, shapes: bytes) -> None:
    for name in FILES:
        (model.model / name).write_bytes(shapes)
    assert "model-shapes.json is no list of inputs" in model.fails()["message"]


@pytest.fixture(scope="module")
def made(mxnet_env: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([mxnet_env, "-W", "ignore", str(MODELS / "make_mxnet.py"), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def truth(made: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((made / "truth.json").read_text())
    return content


def with_files(model: Host, python: str, made: Path, *names: str) -> Host:
    model.python = python
    model.patience = time.monotonic() + LONG
    for name in names:
        (model.model / name).write_bytes((made / name).read_bytes())
    return model


ROWS = [[0.1, -0.2, 0.3, 0.4], [1.0, 0.5, -1.0, 0.0], [-1.0, -0.5, 1.0, 0.25]]
TABLE = "".join(",".join(map(str, row)) + "\n" for row in ROWS).encode()
REQUESTS: list[tuple[bytes, dict[str, str]]] = [
    (json.dumps(ROWS).encode(), {"Content-Type": JSON, "Accept": JSON}),
    (json.dumps(ROWS).encode(), {"Content-Type": JSON, "Accept": "*/*"}),
    (json.dumps(ROWS).encode(), {"Content-Type": JSON, "Accept": CSV}),
    (json.dumps(ROWS).encode(), {"Content-Type": JSON, "Accept": NPY}),
    (npy(ROWS), {"Content-Type": NPY, "Accept": JSON}),
    (TABLE, {"Content-Type": CSV, "Accept": CSV}),
    (b"1,2,3,4", {"Content-Type": CSV, "Accept": JSON}),
    (b"[1, 2, 3, 4]", {"Content-Type": JSON}),
    (b"{nonsense", {"Content-Type": JSON}),
    (b"a,b,c,d", {"Content-Type": CSV}),
    (b"<xml/>", {"Content-Type": "application/xml"}),
    (json.dumps(ROWS).encode(), {"Content-Type": JSON, "Accept": "application/xml"}),
]
SCRIPTS = {
    "module": "",
    "block": BLOCK,
    "module, input_fn with the model": (
        "import json, mxnet as mx\n"
        "def input_fn(data, content_type, model):\n"
        "    (name, shape), = [each[:2] for each in model.data_shapes]\n"
        "    return mx.io.NDArrayIter(mx.nd.array(json.loads(data)) * 0 + shape[0], batch_size=shape[0])\n"
        "def output_fn(prediction, accept):\n    return str(prediction.asnumpy().tolist()), 'text/plain'\n"
    ),
    "block, predict_fn": BLOCK + "def predict_fn(data, block):\n    return block(data) * 2\n",
    "transform_fn": "def model_fn(d): return 3\ndef transform_fn(m, data, ct, to): return str(len(data) * m) + ct + to\n",
}


def asked(folder: Path, requests: list[tuple[bytes, dict[str, str]]]) -> Any:
    """What AWS's toolkit answers with the model in `folder`."""
    coded = [{"body": base64.b64encode(body).decode(), "headers": headers} for body, headers in requests]
    command = [client_python(*MXNET_TOOLKIT), "-W", "ignore", str(MODELS / "ask_mxnet_toolkit.py"), str(folder)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SAGEMAKER_")}
    done = subprocess.run(command, input=json.dumps(coded), capture_output=True, text=True, check=True, env=clean)
    return json.loads(done.stdout)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SCRIPTS)
def test_answers_are_those_of_the_toolkit_of_aws(
    model: Host, mxnet_env: str, made: Path, truth: dict[str, Any], name: str
) -> None:
    """Status, content type and body of each request; of a failure, the first line of its message."""
    model.script(SCRIPTS[name])
    with_files(model, mxnet_env, made, *FILES, "block-symbol.json", "block-0000.params").start()
    wanted = asked(model.model, REQUESTS)
    for (body, headers), (status, content_type, answer) in zip(REQUESTS, wanted, strict=True):
        reply = ask(model.worker(), "POST", "/invocations", body, headers)
        told = base64.b64decode(answer)
        assert reply.status == status, (headers, reply.text, told)
        if status != 200:
            assert reply.text.splitlines()[0] == told.decode().splitlines()[0].replace("b'", "'")  # numpy quotes its bytes
            continue
        assert (reply.headers["content-type"], reply.body) == (content_type, told)
    if name in ("module", "block"):
        body = json.dumps(truth["rows"]).encode()
        assert [pytest.approx(row, rel=1e-5) for row in truth[name]] == json.loads(model.invoke(body, JSON).text)


@pytest.mark.heavy
def test_a_model_of_another_kind_is_refused_as_by_the_toolkit(model: Host, mxnet_env: str, made: Path) -> None:
    model.script("def model_fn(d): return {}\n")
    with_files(model, mxnet_env, made)
    told = "Unsupported model type: dict. Did you forget to implement `transform_fn` or `model_fn` in your entry-point?"
    assert asked(model.model, [])["refused"] == told
    assert model.fails()["message"] == told


@pytest.mark.heavy
def test_broken_files_and_a_list_of_types(model: Host, mxnet_env: str, made: Path) -> None:
    with_files(model, mxnet_env, made, *FILES)
    (model.model / "model-0000.params").write_bytes(b"?" * 40)
    assert "MXNet cannot load model-symbol.json" in model.fails()["message"]
    with_files(model, mxnet_env, made, *FILES).start()  # no script: the defaults, where AWS's image would not start
    reply = model.invoke(TABLE, f"{CSV}; charset=utf-8", accept=f"application/xml, {JSON}")
    assert (reply.status, reply.headers["content-type"]) == (200, JSON)


LOAD = """
import json, sys, warnings
import mxnet as mx, numpy as np
rows = mx.nd.array(json.loads(sys.argv[2]))
module = mx.mod.Module.load(sys.argv[1] + "/mx-mod", 0, label_names=["out_label"])
module.bind(data_shapes=[("data", rows.shape)], for_training=False)
module.forward(mx.io.DataBatch([rows]), is_train=False)
print(json.dumps(module.get_outputs()[0].asnumpy().tolist()))
"""


@pytest.mark.heavy
@pytest.mark.parametrize(("predictor", "outputs"), [("binary_classifier", 1), ("multiclass_classifier", 3), ("regressor", 1)])
def test_linear_learners_artifact_is_one_of_mxnets_modules(
    host: Host, mxnet_env: str, sklearn_env: str, tmp_path: Path, predictor: str, outputs: int
) -> None:
    """MXNet's own Module loads the symbol and the parameters that we write, and gives the scores that we give."""
    weights = [[0.7 * k - 0.3 * j for k in range(outputs)] for j in range(4)]
    content = artifact(weights, [0.25] * outputs, predictor)
    host.python, host.config["flavour"] = sklearn_env, "linear_learner"
    (host.model / "model_algo-1").write_bytes(content)
    host.start()
    subprocess.run([mxnet_env, "-m", "zipfile", "-e", str(host.model / "model_algo-1"), str(tmp_path)], check=True)
    command = [mxnet_env, "-W", "ignore", "-c", LOAD, str(tmp_path), json.dumps(ROWS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told = json.loads(host.invoke(TABLE, CSV).text)["predictions"]
    scores = [each["score"] if outputs > 1 else [each["score"]] for each in told]
    assert [pytest.approx(row, rel=1e-5) for row in scores] == json.loads(done.stdout)


SAVE = """
import sys, mxnet as mx, numpy as np
rows = mx.nd.sparse.row_sparse_array((np.array([[1, 2], [3, 4.0]]), [1, 4]), shape=(6, 2))
arrays = {"rows": rows.astype("float32")}
for kind in ("float32", "float64", "float16", "uint8", "int32", "int8", "int64"):
    arrays[kind] = mx.nd.array([[1, 2, 3]], dtype=kind)
mx.nd.save(sys.argv[1], arrays)
mx.npx.set_np()
mx.npx.save(sys.argv[1] + ".np", {"np": mx.np.array([[1.0, 2.0]])})
"""
READ = """
import json, sys
sys.path.insert(0, sys.argv[2])
from slipway_host import mxnet_arrays
files = (sys.argv[1], sys.argv[1] + ".np")
print(json.dumps({a.name: a.values().tolist() for file in files for a in mxnet_arrays.read(open(file, "rb").read())}))
"""


@pytest.mark.heavy
def test_arrays_that_mxnet_wrote(mxnet_env: str, tmp_path: Path) -> None:
    file = str(tmp_path / "arrays")
    subprocess.run([mxnet_env, "-W", "ignore", "-c", SAVE, file], check=True)
    source = str(Path(mxnet_arrays.__file__).parents[1])
    done = subprocess.run([mxnet_env, "-c", READ, file, source], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    assert told.pop("rows") == [[0, 0], [1, 2], [0, 0], [0, 0], [3, 4], [0, 0]]
    assert told.pop("np") == [[1.0, 2.0]]
    kinds = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")
    assert [told[kind] for kind in kinds] == [[[1, 2, 3]]] * 7


@pytest.mark.heavy
def test_workers_share_the_import_and_answer(model: Host, mxnet_env: str, made: Path) -> None:
    with_files(model, mxnet_env, made, *FILES).start(workers=2, cpus=4)
    (sharing,) = model.children()
    assert len(children_of(sharing)) == 2
    answers = [ask(model.worker(index), "POST", "/invocations", *REQUESTS[0]) for index in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].text == answers[1].text
