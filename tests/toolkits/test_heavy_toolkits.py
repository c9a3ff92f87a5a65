"""AWS's PyTorch and Hugging Face toolkits, beside our flavours: in the images' own environments, with models made here."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.toolkits import cases
from tests.toolkits.cases import CSV, JSON, NPY, npy, script
from tests.toolkits.differential import Choice, Request, Scenario, ask_aws, compare

pytestmark = [pytest.mark.heavy]

MODELS = Path(__file__).parents[1] / "models"
SERVER = ("multi-model-server==1.1.11", "six==1.17.0", "psutil", "scipy==1.15.3")
PYTORCH = ("sagemaker-pytorch-inference==2.0.25", *SERVER)
HUGGING_FACE = ("sagemaker-huggingface-inference-toolkit==2.6.0", "sagemaker-inference==1.10.1", "pillow==11.3.0", *SERVER)
NO_TYPE = (
    Choice(
        "torchscript/no-type decoded/no-type by-*/no-type",
        500,
        200,
        "a body without Content-Type is JSON, as in the Flask images",
    ),
    Choice("*/no-type", 200, 200, "the same, told to a script that asks for the type"),
)
FIRST = Choice(
    "*/list */accept-list*", 200, 200, "of several types the first that there is, not the whole list", type_alone=True
)
STREAM = Choice("*-generator/*", 503, 200, "an iterator is a response stream, which the model server does not have")


@pytest.fixture(scope="module")
def made(torch_env: str, transformers_env: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for python, name in ((torch_env, "make_torch.py"), (transformers_env, "make_transformers.py")):
        subprocess.run([python, "-W", "ignore", str(MODELS / name), str(folder)], check=True, capture_output=True)
    return folder


LENIENT = (
    *NO_TYPE,
    FIRST,
    STREAM,
    Choice("*/json-charset */json-upper */csv-charset", 500, 200, "a type is compared without its parameters and case"),
    Choice("*/accept-list-any */accept-upper */accept-parameter */accept-quality", 500, 200, "the same, and */* in a list"),
    Choice("*/npy-no-magic */npy-pickled", 500, 500, "an array of pickled objects would run code of the sender's choice"),
    Choice("decoded/json-number", 200, 200, "the image takes the number for a size, and answers what was in memory"),
)


def test_pytorch(torch_env: str, made: Path) -> None:
    given = {"input_fn": cases.SEEN, "predict_fn": "(data, model) return data"}
    model: dict[str, bytes | str] = {"model.pt": (made / "model.pt").read_bytes()}
    echo = script(predict_fn="(data, model) return [str(data.dtype), data.tolist()]")
    asked = [
        Scenario(
            "torchscript", model, (*cases.CONTENT, *cases.ACCEPTS, Request("npy-floats", npy([1, 2], (1, 2), "<f4"), NPY, NPY))
        ),
        Scenario("decoded", {**model, **echo}, cases.CONTENT),
        Scenario("two-models", {"a.pt": model["model.pt"], "b.pth": model["model.pt"]}, cases.CONTENT[:1]),
        Scenario("other-name", {"net.pth": model["model.pt"]}, cases.CONTENT[:1]),
        Scenario("state-dict", {"state.pth": (made / "state.pth").read_bytes()}, cases.CONTENT[:1]),
        Scenario("nothing", {}, cases.CONTENT[:1]),
        *cases.overrides(),
        *cases.broken(),
        *cases.returned("output_fn", **given),
        *cases.returned("transform_fn"),
    ]
    compare("pytorch", torch_env, asked, ask_aws("pytorch", torch_env, PYTORCH, asked), LENIENT)


CALLED = """
import datetime, numpy as np
def model_fn(model_dir):
    def call(inputs, **parameters):
        if inputs == "boom": raise RuntimeError("no words for it")
        if inputs == "silent": raise ValueError
        if inputs == "nan": return [float("nan")]
        if inputs == "numpy": return {"a": np.float32(1.5), "b": np.int64(2), "c": np.arange(3)}
        if inputs == "time": return {"at": datetime.datetime(2020, 1, 2)}
        if inputs == "rows": return [{"a": 1, "b": "x,y"}, {"a": 2, "b": "ü"}]
        if inputs == "set": return {1}
        if hasattr(inputs, "size") and hasattr(inputs, "mode"): return [list(inputs.size), inputs.mode]
        if isinstance(inputs, bytes): return len(inputs)
        if isinstance(inputs, np.ndarray): return inputs.tolist()
        return [{"inputs": inputs, "parameters": parameters}]
    return call
"""


def asks(name: str, value: object, accept: str = "") -> Request:
    return Request(name, json.dumps(value, ensure_ascii=False).encode(), JSON, accept)


DIALECT = (
    asks("inputs", {"inputs": "grüße"}),
    asks("parameters", {"inputs": ["a", "b"], "parameters": {"top_k": 2}}),
    asks("parameters-null", {"inputs": "a", "parameters": None}),
    asks("parameters-list", {"inputs": "a", "parameters": [1]}),
    asks("whole", {"question": "q", "context": "c"}),
    asks("list", ["a"]),
    asks("text", "a"),
    asks("number", 3),
    *(asks(name, {"inputs": name}) for name in ("boom", "silent", "nan", "numpy", "time", "rows", "set")),
    asks("rows-csv", {"inputs": "rows"}, CSV),
    asks("dict-csv", {"inputs": "numpy"}, CSV),
    asks("rows-npy", {"inputs": "rows"}, NPY),
    asks("accept-list", {"inputs": "a"}, f"{JSON}, {CSV}"),
    asks("accept-charset", {"inputs": "a"}, f"{JSON}; charset=utf-8"),
    asks("accept-any", {"inputs": "a"}, "*/*"),
    asks("accept-image", {"inputs": "a"}, "image/png"),
    Request("bad", b"{nonsense", JSON),
    Request("empty", b"", JSON),
    Request("no-utf8", b"\xff", JSON),
    Request("charset", b'{"inputs": "a"}', f"{JSON}; charset=utf-8"),
    Request("no-type", b'{"inputs": "a"}'),
    Request("unknown", b"x", "application/x-what"),
    Request("csv-inputs", b"inputs\none\ntwo\n", CSV),
    Request("csv-columns", b"question,context\nq1,c1\nq2,c2\n", CSV),
    Request("csv-upper", b"Inputs\none\n", CSV),
    Request("csv-other-columns", b"my_context_id\none\n", CSV),
    Request("csv-no-header", b"1,2\n3,4\n", CSV),
    Request("csv-empty", b"", CSV),
    Request("csv-header-alone", b"inputs\n", CSV),
    Request("npy", npy([1, 2], (2,)), NPY),
    Request("image", bytes.fromhex("474946383761010001008000000000000000002c00000000010001000002024401003b"), "image/gif"),
    Request("image-bad", b"junk", "image/png"),
    Request("audio", b"RIFF", "audio/wave"),
)


TUPLE = "a result of two is a body and its type, as in AWS's other toolkits; here the pair would be sent as a list"
DIALECT_CHOICES = (
    NO_TYPE[1],
    FIRST,
    STREAM,
    Choice("dialect/no-type", 400, 200, "a body without Content-Type is JSON"),
    Choice("dialect/charset", 400, 200, "a type is compared without its parameters"),
    Choice(
        "dialect/list dialect/text dialect/number dialect/parameters-list dialect/accept-image dialect/npy",
        400,
        400,
        "what is wrong, in words for the sender",
    ),
    Choice("dialect/set dialect/silent dialect/csv-no-header dialect/csv-empty dialect/csv-header-alone", 400, 400, "the same"),
    Choice("zero-shot/csv-*", 400, 400, "the same"),
    Choice("*/dict-csv", 400, 200, "an object is a table of one row"),
    Choice("dialect/rows-npy", 200, 400, "an array of pickled objects would have its reader run code"),
    Choice("transform/* *-tuple/*", 200, 200, TUPLE),
    Choice("*-tuple-bytes/*", 503, 200, TUPLE),
)


def test_hugging_face(transformers_env: str, made: Path) -> None:
    given = {"input_fn": cases.SEEN, "predict_fn": "(data, model) return data"}
    bert: dict[str, bytes | str] = {file.name: file.read_bytes() for file in (made / "bert").iterdir()}
    text = asks("one", {"inputs": "a short text"})
    pipeline = (
        text,
        asks("two", {"inputs": ["a", "the dog"], "parameters": {"top_k": 2}}),
        replace(text, name="csv", accept=CSV),
        DIALECT[0],
    )
    asked = [
        Scenario("dialect", {"code/inference.py": CALLED}, DIALECT),
        Scenario(
            "zero-shot",
            {"code/inference.py": CALLED},
            [each for each in DIALECT if "csv" in each.name],
            {"HF_TASK": "zero-shot-classification"},
        ),
        Scenario("by-config", bert, pipeline),
        Scenario("by-task", bert, pipeline, {"HF_TASK": "text-classification"}),
        Scenario("nothing", {}, [text]),
        Scenario("unknown-task", bert, [text], {"HF_TASK": "mind-reading"}),
        *cases.overrides(),
        *cases.broken(),
        *cases.returned("output_fn", **given),
        *cases.returned("transform_fn"),
    ]
    compare(
        "huggingface", transformers_env, asked, ask_aws("huggingface", transformers_env, HUGGING_FACE, asked), DIALECT_CHOICES
    )
