"""TensorFlow (containers.md 3.8): SavedModels behind the REST dialect of TensorFlow Serving, and a script's two handlers.

The model runs in the worker itself. `input_handler` and `output_handler` are served; a `handler`, which posts to
TensorFlow Serving on its own, is refused by name.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any, NamedTuple

from .. import codecs
from ..contract import LoadError, Place, import_script
from ..service import Answer, Call, Service, failure, headers_of
from . import tensorflow_bodies
from .tensorflow_models import Refused, SavedModel, find, tensorflow

_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"


class Context(NamedTuple):
    """What a script's handlers are given."""

    model_name: str
    model_version: str | None
    method: str
    rest_uri: str
    grpc_port: str | None
    channel: Any
    custom_attributes: str | None
    request_content_type: str
    accept_header: str
    content_length: int


class Response:
    """What output_handler is given: as much of a `requests.Response` as such scripts use."""

    def __init__(self, status_code: int, content: bytes) -> None:
        self.status_code = status_code
        self.content = content
        self.headers = {"Content-Type": codecs.JSON}
        self.encoding = "utf-8"

    @property
    def ok(self) -> bool:
        return self.status_code < 400

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


class TensorFlowService(Service):
    def __init__(self, place: Place, models: dict[str, SavedModel], script: Any) -> None:
        super().__init__(place)
        self._models = models
        named = place.environment.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME", "")
        self._default = named if named in models else next(iter(models))
        self._input: Any = getattr(script, "input_handler", None)
        self._output: Any = getattr(script, "output_handler", None)

    def invoke(self, call: Call, body: bytes) -> Answer:
        attributes = headers_of(call.headers, _ATTRIBUTES)
        if self._input is None:
            return self._plain(call, body, attributes)
        try:
            context = self._context(call, attributes, len(body))
            asked = self._input(io.BytesIO(body), context)
            try:
                status, content = 200, self._ask(asked if isinstance(asked, dict) else json.loads(asked), attributes)
            except Refused as error:
                status, content = error.status, _error(str(error))
            answer, content_type = self._output(Response(status, content), context)
            return 200, self.heads.of(content_type), answer.encode() if isinstance(answer, str) else bytes(answer)
        except (Exception, SystemExit) as error:  # noqa: BLE001  user code
            failure(error)
            return 500, self.heads.of(codecs.JSON), _error(str(error))

    def _plain(self, call: Call, body: bytes, attributes: str) -> Answer:
        head = self.heads.of(codecs.JSON)
        try:
            request = tensorflow_bodies.to_request(body, headers_of(call.headers, b"content-type"))
        except tensorflow_bodies.UnknownType as error:
            return 415, head, _error(f"Unsupported Media Type: {error}")
        except (ValueError, RecursionError) as error:
            return 400, head, _error(f"JSON Parse error: {error}")
        try:
            return 200, head, self._ask(request, attributes)
        except Refused as error:
            return error.status, head, _error(str(error))
        except Exception as error:  # noqa: BLE001  of the model's graph
            failure(error)
            return 400, head, _error(str(error))

    def _ask(self, request: Any, attributes: str) -> bytes:
        """Raises Refused, and what the graph raises."""
        wanted = _attributes(attributes)
        method = wanted.get("tfs-method", "predict")
        if method != "predict":
            raise Refused(400, f"The method {method} is not supported here: predict is.")
        name = wanted.get("tfs-model-name", self._default)
        model = self._models.get(name)
        version = wanted.get("tfs-model-version", "")
        if model is None or (version and version != str(model.version)):
            which = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise Refused(404, f"Servable not found for request: {which}")
        return json.dumps(model.answer(request)).encode()

    def _context(self, call: Call, attributes: str, length: int) -> Context:
        wanted = _attributes(attributes)
        return Context(
            model_name=wanted.get("tfs-model-name", self._default),
            model_version=wanted.get("tfs-model-version"),
            method=wanted.get("tfs-method", "predict"),
            rest_uri="",
            grpc_port=None,
            channel=None,
            custom_attributes=attributes or None,
            request_content_type=call.content_type,
            accept_header=call.accept,
            content_length=length,
        )


def _attributes(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(","))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def import_ahead(place: Place) -> bool:
    """tensorflow itself may be forked; a model that is loaded cannot be, since its runtime's threads stay behind.

    False where `code/lib` brings packages of its own, which go before those of the environment.
    """
    if any(os.path.isdir(os.path.join(folder, "lib")) for folder in place.code_dirs()):
        return False
    tensorflow()
    return True


def load(place: Place) -> Service:
    """Raises LoadError, and what user code and tensorflow raise."""
    for name in place.environment:
        if name.startswith("SAGEMAKER_TFS_") and name != "SAGEMAKER_TFS_DEFAULT_MODEL_NAME":
            sys.stderr.write(f"[slipway] {name} has no effect: the model runs in the worker, one request at a time\n")
    script = _script(place)
    models = {}
    for name, (version, folder) in find(place).items():
        place.stage = f"loading {os.path.relpath(folder, place.model_dir)}/saved_model.pb"
        models[name] = SavedModel(name, version, folder)
    return TensorFlowService(place, models, script)


def _script(place: Place) -> Any:
    """code/inference.py, its name being fixed, with both handlers. None: there is no script."""
    for folder in place.code_dirs():
        path = os.path.join(folder, "inference.py")
        if os.path.isfile(path):
            break
    else:
        return None
    library = os.path.join(os.path.dirname(path), "lib")
    if os.path.isdir(library):
        sys.path.insert(0, library)
    module = import_script(path, place)
    if hasattr(module, "handler"):
        raise LoadError(
            "model-fn-error",
            "inference.py defines handler, which calls TensorFlow Serving itself; there is none here.",
            "define input_handler(data, context) and output_handler(response, context) in its place",
        )
    if not (hasattr(module, "input_handler") and hasattr(module, "output_handler")):
        raise LoadError(
            "model-fn-error",
            "inference.py must define both input_handler and output_handler.",
            "define input_handler(data, context) and output_handler(response, context), or remove the script",
        )
    return module
