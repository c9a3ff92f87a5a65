"""AWS's generic inference toolkit (sagemaker-inference) and our handler services: the same archives, the same answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.toolkits import cases
from tests.toolkits.cases import JSON, MODEL, script
from tests.toolkits.differential import Choice, Request, Scenario, ask_aws, compare

TOOLKIT = ("sagemaker-inference==1.10.1", "multi-model-server==1.1.11", "six==1.17.0", "psutil")
SERVICE = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.transformer import Transformer
class Handler(DefaultInferenceHandler):
    def default_model_fn(self, model_dir, context=None): return {"of": "the default"}
    def default_predict_fn(self, data, model, context=None): return data.toarray() if hasattr(data, "toarray") else data
class HandlerService(DefaultHandlerService):
    def __init__(self): super().__init__(transformer=Transformer(default_inference_handler=Handler()))
_service = HandlerService()
def handle(data, context):
    if data is None: return _service.initialize(context)
    return _service.handle(data, context)
"""
DEFAULTS = (
    Choice(
        "defaults/no-type",
        500,
        200,
        "a body without Content-Type is JSON, as in the Flask images; the toolkit knows no type None",
    ),
    Choice("*/no-type", 200, 200, "the same, told to a script that asks for the type"),
    Choice("defaults/npy-pickled", 200, 500, "an array of pickled objects would run code of the sender's choice"),
    Choice("defaults/npy-no-magic", 500, 500, "the same status: without unpickling there are other words"),
)
REAL = (Choice("*-generator/*", 503, 200, "an iterator is a response stream, which the model server does not have"),)
CHOICES = (*DEFAULTS, *REAL)


RAISING = """
from sagemaker_inference import errors
class Mine(errors.BaseInferenceToolkitError):
    def __init__(self): super().__init__(418, "short", "and stout")
def predict_fn(data, model):
    if data == "mine": raise Mine
    if data == "generic": raise errors.GenericInferenceToolkitError(422, "no such row")
    if data == "bare": raise errors.GenericInferenceToolkitError(400)
    if data == "unsupported": raise errors.UnsupportedFormatError("image/x")
    if data == "empty": raise ValueError
    if data == "lines": raise ValueError("one\\ntwo")
    if data == "memory": raise MemoryError
    if data == "key": raise KeyError("absent")
    if data == "status":
        error = ValueError("a status of another library"); error.status_code = 404; error.phrase = "x"; raise error
    raise ValueError("no")
"""
ERRORS = tuple(
    Request(name, name.encode(), "text/csv")
    for name in ("mine", "generic", "bare", "unsupported", "empty", "lines", "memory", "key", "status", "other")
)
HANDLE = """
def handle(data, context):
    if data is None: return None
    return HANDLE(data, context)
"""
BODIES = (Request("json", b"[1]", JSON, "text/csv"), Request("no-type", b"abc"))
RETURNED = {
    "echo": "[data[0]['body']]",
    "text": "['grüße']",
    "untyped-object": "[{'a': [1]}]",
    "untyped-number": "[1.5]",
    "untyped-none": "[None]",
    "headers": "[str(sorted(context.get_all_request_header(0)))[:1]]",
    "typed": "[context.set_response_content_type(0, 'a/b') or {'b': 1}]",
    "status": "[context.set_response_status(201, 'Made', 0) or 'x']",
    "failed-status": "[context.set_response_status(422, 'No', 0) or 'no']",
    "own-header": "[context.set_response_header(0, 'X-Own', 'yes') or '']",
    "request-id": "[str(bool(context.get_request_id(0)))]",
    "no-list": "'text'",
    "nothing": "None",
    "two": "[1, 2]",
    "unserialisable": "[object()]",
    "raises": "1 / 0",
    "memory": "(_ for _ in ()).throw(MemoryError)",
    "prediction": "(_ for _ in ()).throw(__import__('mms.service').service.PredictionException('not this', 404))",
    "prediction-default": "(_ for _ in ()).throw(__import__('mms.service').service.PredictionException('not this'))",
}


def served(*scenarios: Scenario) -> list[Scenario]:
    return [
        Scenario(each.name, {**each.files, "service.py": SERVICE, "code/service.py": SERVICE}, each.requests, each.environment)
        for each in scenarios
    ]


def scenarios() -> list[Scenario]:
    defaults = [Scenario("defaults", {}, (*cases.CONTENT, *cases.ACCEPTS))]
    given = {"input_fn": cases.SEEN, "predict_fn": "(data, model) return data"}
    return served(
        *defaults, *cases.overrides(), *cases.broken(), *cases.returned("output_fn", **given), *cases.returned("transform_fn")
    )


Theirs = list[dict[str, Any]]


@pytest.fixture(scope="module")
def theirs(sklearn_env: str) -> Theirs:
    return ask_aws("common", sklearn_env, TOOLKIT, scenarios())


def test_handler_service(sklearn_env: str, theirs: Theirs) -> None:
    compare("common", sklearn_env, scenarios(), theirs, CHOICES)


def test_the_real_package_inside_our_host(sklearn_env: str, theirs: Theirs) -> None:
    """What requirements.txt brings goes before our names: the toolkit's own code behind our model server."""
    compare("common", sklearn_env, scenarios(), theirs, REAL, installed=TOOLKIT)


def both(kind: str, python: str, asked: list[Scenario], *choices: Choice) -> None:
    compare(kind, python, asked, ask_aws(kind, python, TOOLKIT, asked), choices)


def test_the_toolkits_own_service(sklearn_env: str) -> None:
    """SAGEMAKER_HANDLER may name an installed module."""
    functions = {"model_fn": MODEL, "predict_fn": "(data, model) return data"}
    asked = [
        Scenario("service", script(**functions), (*cases.CONTENT[:2], *cases.ACCEPTS, *ERRORS)),
        Scenario("no-model-fn", script(predict_fn=functions["predict_fn"]), cases.CONTENT[:1]),
        Scenario("no-predict-fn", script(model_fn=MODEL), cases.CONTENT[:1]),
    ]
    both("service", sklearn_env, asked)


def test_what_functions_raise(sklearn_env: str) -> None:
    raising = script(model_fn=MODEL, input_fn="(data, content_type) return data", output_fn="(prediction, accept) return 'x'")
    raising["code/inference.py"] = str(raising["code/inference.py"]) + RAISING
    both("common", sklearn_env, served(Scenario("raising", raising, ERRORS)))


def test_functions_behind_the_model_server(sklearn_env: str) -> None:
    """A handler of the user's own, without the toolkit: what it returns and raises."""
    texts = {name: f"HANDLE = lambda data, context: {value}\n{HANDLE}" for name, value in RETURNED.items()}
    asked = [Scenario(name, {"service.py": text, "code/service.py": text}, BODIES) for name, text in texts.items()]
    typed = Choice("*untyped*/*", 200, 200, "JSON is called so, where the model server names no type")
    both("common", sklearn_env, asked, typed)
