"""Handler services (SAGEMAKER_HANDLER): functions, classes, those over the toolkit; failures as MMS tells them."""

from __future__ import annotations

import json

import pytest

from .running import Host

FUNCTION = """
from mms.service import PredictionException
loaded = []
def handle(data, context):
    if data is None:
        loaded.append(context.system_properties["model_dir"])
        return None
    body = bytes(data[0]["body"])
    if body == b"teapot": raise PredictionException("I will not", 418)
    if body == b"memory": raise MemoryError
    if body == b"broken": raise ValueError("no")
    if body == b"text": return "no list"
    if body == b"two": return [1, 2]
    if body == b"object": return [object()]
    if body == b"dict": return [{"loaded": len(loaded), "type": context.get_request_header(0, "Content-Type")}]
    context.set_response_content_type(0, "text/own")
    context.set_response_header(0, "X-Own", "yes")
    context.set_response_status(201, "Made", 0)
    return [body[::-1]]
"""
CLASS = """
from abc import ABC
class Base(ABC):
    def handle(self, data, context): raise NotImplementedError
class Model:
    def initialize(self, context): self.name = open(context.system_properties["model_dir"] + "/name").read()
    def handle(self, data, context): return [self.name + each["body"].decode() for each in data]
"""
SERVICE = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.transformer import Transformer
class Handler(DefaultInferenceHandler):
    def default_model_fn(self, model_dir, context=None): return {"times": 2}
    def default_input_fn(self, data, content_type, context=None): return data
    def default_predict_fn(self, data, model, context=None): return data * model["times"]
    def default_output_fn(self, prediction, accept, context=None): return prediction, "text/plain"
class HandlerService(DefaultHandlerService):
    def __init__(self): super().__init__(transformer=Transformer(default_inference_handler=Handler()))
_service = HandlerService()
def handle(data, context):
    if data is None:
        return _service.initialize(context)
    return _service.handle(data, context)
"""


def start(host: Host, handler: str, text: str, name: str = "service.py") -> None:
    host.script(text, name)
    host.start({"SAGEMAKER_HANDLER": handler})


def test_a_function(host: Host) -> None:
    start(host, "service.py:handle", FUNCTION)
    reply = host.invoke(b"abc")
    assert (reply.status, reply.body) == (201, b"cba")
    assert (reply.headers["content-type"], reply.headers["x-own"]) == ("text/own", "yes")
    reply = host.invoke(b"dict", content_type="a/b")
    assert (reply.headers["content-type"], json.loads(reply.text)) == ("application/json", {"loaded": 1, "type": "a/b"})


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        (b"teapot", 418, "InternalServerException", "I will not"),
        (b"memory", 507, "InternalServerException", "Out of resources"),
        (b"broken", 503, "InternalServerException", "Prediction failed"),
        (b"text", 503, "InternalServerException", "Invalid model predict output"),
        (b"two", 503, "InternalServerException", "number of batch response mismatched"),
        (b"object", 503, "InternalServerException", "Unsupported model output data type."),
    ],
)
def test_failures(host: Host, body: bytes, status: int, kind: str, message: str) -> None:
    start(host, "service:handle", FUNCTION)
    reply = host.invoke(body)
    assert reply.status == status
    assert json.loads(reply.text) == {"code": status, "type": kind, "message": message}


def test_a_class(host: Host) -> None:
    (host.model / "name").write_text("me:")
    start(host, "/opt/ml/model/code/service.py:Model", CLASS)
    assert host.invoke(b"x").body == b"me:x"


def test_a_service_over_the_toolkit(host: Host) -> None:
    """Its defaults, and the user's functions over them, with and without a context."""
    host.script("def predict_fn(data, model, context): return data.upper() * model['times']\n")
    start(host, "service.py", SERVICE)
    reply = host.invoke(b"ab", content_type="text/csv")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"ABAB", "text/plain")


def test_errors_of_the_toolkit(host: Host) -> None:
    host.script(
        "from sagemaker_inference.errors import GenericInferenceToolkitError\n"
        "def predict_fn(data, model):\n"
        "    if data == 'x': raise GenericInferenceToolkitError(422, 'no x')\n"
        "    raise ValueError('no')\n"
    )
    start(host, "service.py", SERVICE)
    reply = host.invoke(b"x", content_type="text/csv")
    assert (reply.status, reply.text.splitlines()[0]) == (422, "no x")
    reply = host.invoke(b"y", content_type="text/csv")
    assert (reply.status, reply.text.splitlines()[0]) == (500, "no")
    assert "ValueError: no" in host.output()


@pytest.mark.parametrize(
    ("handler", "text", "words"),
    [
        ("none.py:handle", "", "which is not in the model archive"),
        ("service.py:handle", "x = 1\n", "no function handle(data, context), and no classes"),
        ("service.py:other", CLASS, "2 classes with a method handle"),
        ("service.py:handle", "def handle(data, context): raise OSError('no model')\n", "no model"),
    ],
)
def test_what_cannot_be_loaded_says_why(host: Host, handler: str, text: str, words: str) -> None:
    host.script(text, "service.py")
    failure = host.fails({"SAGEMAKER_HANDLER": handler})
    assert words in failure["message"]
