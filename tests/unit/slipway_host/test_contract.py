"""What the contract passes to a script's functions, and how it finds the script."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest

from slipway_host import contract
from slipway_host.contract import Functions, LoadError, Place
from slipway_host.service import Defaults, ScriptService

from .running import Host

REPORT = """
import json, os, sys

def model_fn(model_dir):
    return {"model_dir": model_dir}

def input_fn(data, content_type):
    return [type(data).__name__, content_type]

def predict_fn(data, model):
    return data + [model["model_dir"], os.getcwd(), __name__]

def output_fn(prediction, accept):
    return json.dumps(prediction + [accept])
"""


def module(**functions: Any) -> types.ModuleType:
    made = types.ModuleType("script")
    for name, function in functions.items():
        setattr(made, name, function)
    return made


def place(tmp_path: Path, **environment: str) -> Place:
    (tmp_path / "model" / "code").mkdir(parents=True, exist_ok=True)
    return Place(str(tmp_path / "model"), None, environment)


def test_types_of_body_content_type_and_accept(host: Host) -> None:
    host.script(REPORT)
    host.start()
    rest = [str(host.model), str(host.model), "inference"]

    def asked(content_type: str = "", accept: str = "") -> Any:
        reply = host.invoke(b"1,2", content_type=content_type, accept=accept)
        return json.loads(reply.text), reply.headers.get("content-type")

    assert asked() == (["str", "application/json", *rest, "application/json"], "application/json")
    assert asked("text/csv", "*/*") == (["str", "text/csv", *rest, "application/json"], "application/json")
    # rule 4 of containers.md 3.2: only exactly these two types are text
    assert asked("text/csv; charset=utf-8")[0][:2] == ["bytes", "text/csv; charset=utf-8"]
    assert asked("application/x-npy", "text/csv, a/b")[0] == ["bytes", "application/x-npy", *rest, "text/csv, a/b"]
    assert asked("application/x-npy", "text/csv, a/b")[1] == "text/csv; charset=utf-8"


def test_the_default_accept_is_a_setting(host: Host) -> None:
    host.script(REPORT)
    host.start({"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"})
    assert host.invoke(b"1", accept="*/*").headers["content-type"] == "text/csv; charset=utf-8"


def test_a_program_in_the_submitted_directory(host: Host) -> None:
    (host.folder / "code").mkdir()
    (host.folder / "code" / "helper.py").write_text("WORD = 'helped'\n")
    (host.folder / "code" / "serve-it.py").write_text(
        "import helper\ndef model_fn(d): return helper.WORD\ndef transform_fn(m, *a): return m\n"
    )
    host.start(
        {"SAGEMAKER_PROGRAM": "serve-it.py", "SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/sourcedir.tar.gz"},
        code_dir=str(host.folder / "code"),
    )
    assert host.invoke(b"").text == "helped"


def test_the_usual_container_paths_mean_the_real_ones(tmp_path: Path) -> None:
    there = place(tmp_path, SAGEMAKER_PROGRAM="a.py", SAGEMAKER_SUBMIT_DIRECTORY="/opt/ml/model/code")
    (tmp_path / "model" / "code" / "a.py").touch()
    assert contract.find_script(there) == str(tmp_path / "model" / "code" / "a.py")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "b.py").touch()
    there = place(tmp_path, SAGEMAKER_PROGRAM="b.py", SAGEMAKER_SUBMIT_DIRECTORY=f"file://{tmp_path}/b")
    assert contract.find_script(there) == str(tmp_path / "b" / "b.py")


def test_without_a_program_code_inference_py_is_taken(tmp_path: Path) -> None:
    there = place(tmp_path)
    assert contract.find_script(there) is None
    (tmp_path / "model" / "code" / "inference.py").touch()
    assert contract.find_script(there) == str(tmp_path / "model" / "code" / "inference.py")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    there = place(tmp_path, SAGEMAKER_PROGRAM="serve.py")
    (tmp_path / "model" / "code" / "inference.py").touch()
    with pytest.raises(LoadError, match=r"names serve\.py, which is not in .*; there is inference\.py"):
        contract.find_script(there)


def test_transform_fn_excludes_the_others() -> None:
    with pytest.raises(LoadError, match="Cannot use transform_fn implementation in conjunction with"):
        Functions(module(transform_fn=lambda a, b, c, d: 1, predict_fn=lambda a, b: 1), context=False)


def test_context_goes_to_functions_that_take_one_parameter_more() -> None:
    functions = Functions(module(model_fn=lambda model_dir: 1, predict_fn=lambda data, model, context: 1), context=True)
    assert functions.context["predict_fn"]
    assert not functions.context["model_fn"]
    assert not functions.context["input_fn"]
    with pytest.raises(TypeError, match=r"predict_fn takes 2 arguments but 1 were given\."):
        Functions(module(predict_fn=lambda data: 1), context=True)
    assert not Functions(module(predict_fn=lambda data, model, context: 1), context=False).context["predict_fn"]


def test_a_context_tells_about_the_request_and_shapes_the_answer(tmp_path: Path) -> None:
    def transform_fn(model: Any, data: Any, content_type: str, accept: str, context: Any) -> str:
        context.set_response_status(202)
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "c\r\n1")
        context.set_response_content_type(0, "a/b")
        return f"{context.get_request_header(0, 'X-One')} {context.system_properties['model_dir']}"

    functions = Functions(module(transform_fn=transform_fn), context=True)
    service = ScriptService(place(tmp_path), functions, None, Defaults())
    call = service.prepare([(b"x-one", b"1")])
    status, head, body = service.invoke(call, b"")
    assert (status, body) == (202, f"1 {tmp_path}/model".encode())
    assert head == b"Content-Type\0a/b\0X-Amzn-SageMaker-Custom-Attributes\0c  1\0"


def test_an_error_of_the_toolkit_becomes_its_status(tmp_path: Path) -> None:
    class BaseInferenceToolkitError(Exception):
        status_code, message, phrase = 422, "not like this", "Unprocessable"

    class Mine(BaseInferenceToolkitError):
        pass

    def transform_fn(*_: Any) -> None:
        raise Mine

    service = ScriptService(place(tmp_path), Functions(module(transform_fn=transform_fn), context=False), None, Defaults())
    status, _, body = service.invoke(service.prepare([]), b"")
    assert status == 422
    assert isinstance(body, bytes)
    assert body.startswith(b"not like this\nTraceback")


def test_missing_functions_without_defaults_say_so(tmp_path: Path) -> None:
    service = ScriptService(place(tmp_path), Functions(None, context=False), None, Defaults())
    status, _, body = service.invoke(service.prepare([]), b"")
    assert status == 500
    assert isinstance(body, bytes)
    assert body.startswith(b"Please provide an input_fn implementation.")


def test_shims_of_aws_modules(host: Host) -> None:
    host.script(
        """
from sagemaker_containers.beta.framework import content_types, encoders, env, modules, transformer, worker
from sagemaker_inference import content_types as types, decoder, encoder, environment, errors, utils

def model_fn(model_dir):
    return env.ServingEnv().model_dir

def predict_fn(data, model):
    if data == "teapot":
        raise errors.GenericInferenceToolkitError(418, "short and stout")
    return utils.parse_accept("a/b, c/d;q=1")

def input_fn(data, content_type):
    if content_type != content_types.CSV:
        raise errors.UnsupportedFormatError(content_type)
    return data

def output_fn(prediction, accept):
    return worker.Response(",".join(prediction), mimetype="x/y", headers={"X-Custom": "1"}, status=201)
"""
    )
    host.start()
    reply = host.invoke(b"1", content_type="text/csv")
    assert (reply.status, reply.text, reply.headers["content-type"]) == (201, "a/b,c/d;q=1", "x/y")
    assert reply.headers["x-custom"] == "1"
    assert host.invoke(b"teapot", content_type="text/csv").status == 418
    assert host.invoke(b"1", content_type="x/z").status == 415


def test_user_code_sees_no_module_of_ours(host: Host) -> None:
    host.script(
        "import codecs, json, sys\ndef model_fn(d): return 1\n"
        "def transform_fn(*a): return json.dumps([codecs.__file__, [p for p in sys.path if p.endswith('slipway_host')]])\n"
    )
    host.start()
    assert "slipway_host" not in host.invoke(b"").text
