"""TensorFlow (containers.md 3.8): SavedModels behind the REST dialect of TensorFlow Serving, and a script's handlers.

The model runs in the worker itself: `input_handler` and `output_handler` are called around it, and a `handler` posts to it.
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
from . import tensorflow_bodies, tensorflow_rest
from .tensorflow_models import Models, Refused, tensorflow

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
    def __init__(self, place: Place, models: Models, script: Any) -> None:
        super().__init__(place)
        self._models = models
        named = place.environment.get("SAGEMAKER_TFS_DEFAULT_MODEL_NAME", "")
        self._default = named if named in models.names else models.names[0]
        self._handler: Any = getattr(script, "handler", None)
        self._input: Any = getattr(script, "input_handler", None)
        self._output: Any = getattr(script, "output_handler", None)
        self._rest = tensorflow_rest.RestServer(self._ask_rest)

    def invoke(self, call: Call, body: bytes) -> Answer:
        wanted = _attributes(headers_of(call.headers, _ATTRIBUTES))
        if self._handler is None and self._input is None:
            return self._plain(call, body, wanted)
        try:
            context = self._context(call, wanted, len(body))
            data = io.BytesIO(body)
            answer, content_type = self._handler(data, context) if self._handler else self._both(data, context, wanted)
            return 200, self.heads.of(content_type), answer.encode() if isinstance(answer, str) else bytes(answer)
        except (Exception, SystemExit) as error:  # noqa: BLE001  user code
            failure(error)
            return 500, self.heads.of(codecs.JSON), _error(str(error))

    def _both(self, data: io.BytesIO, context: Context, wanted: dict[str, str]) -> Any:
        asked = self._input(data, context)
        try:
            status, content = 200, self._ask(asked if isinstance(asked, dict) else json.loads(asked), wanted)
        except Refused as error:
            status, content = error.status, _error(str(error))
        return self._output(Response(status, content), context)

    def _plain(self, call: Call, body: bytes, wanted: dict[str, str]) -> Answer:
        head = self.heads.of(_accepted(headers_of(call.headers, b"accept")))
        try:
            request = tensorflow_bodies.to_request(body, headers_of(call.headers, b"content-type"))
        except tensorflow_bodies.UnknownType as error:
            return 415, self.heads.of(codecs.JSON), _error(f"Unsupported Media Type: {error}")
        except (ValueError, RecursionError) as error:
            return 400, head, _error(f"JSON Parse error: {error}")
        status, content = self._answered(request, wanted)
        return status, head, content

    def _answered(self, request: Any, wanted: dict[str, str]) -> tuple[int, bytes]:
        try:
            return 200, self._ask(request, wanted)
        except Refused as error:
            return error.status, _error(str(error))
        except Exception as error:  # noqa: BLE001  of the model's graph
            failure(error)
            return 400, _error(str(error))

    def _ask(self, request: Any, wanted: dict[str, str]) -> bytes:
        """Raises Refused, and what the graph raises."""
        method = wanted.get("tfs-method", "predict")
        if method != "predict":
            raise Refused(400, f"The method {method} is not supported here: predict is.")
        model = self._models.model(wanted.get("tfs-model-name", self._default), wanted.get("tfs-model-version", ""))
        return json.dumps(model.answer(request)).encode()

    def _ask_rest(self, body: bytes, name: str, version: str, method: str) -> tuple[int, bytes]:
        """A script's own request; without a method the model's state."""
        if method:
            try:
                request = json.loads(body)
            except (ValueError, RecursionError) as error:
                return 400, _error(f"JSON Parse error: {error}")
            return self._answered(request, {"tfs-model-name": name, "tfs-model-version": version, "tfs-method": method})
        versions = [each for each in self._models.versions(name) if version in ("", str(each))]
        if not versions:
            return 404, _error(f"Could not find any versions of model {name}")
        fine = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return 200, json.dumps({"model_version_status": [{"version": str(each), **fine} for each in versions]}).encode()

    def _context(self, call: Call, wanted: dict[str, str], length: int) -> Context:
        name, version = wanted.get("tfs-model-name", self._default), wanted.get("tfs-model-version")
        method = wanted.get("tfs-method", "predict")
        return Context(
            model_name=name,
            model_version=version,
            method=method,
            rest_uri=self._rest.uri(name, version, method),
            grpc_port=None,
            channel=None,
            custom_attributes=headers_of(call.headers, _ATTRIBUTES) or None,
            request_content_type=call.content_type,
            accept_header=headers_of(call.headers, b"accept") or codecs.JSON,
            content_length=length,
        )


def _accepted(accept: str) -> str:
    """The answer's type: the first of a list that has JSON in it."""
    kinds = accept.replace(" ", "").split(",")
    return kinds[0] if codecs.JSON in kinds or "application/jsonlines" in kinds else codecs.JSON


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
    return TensorFlowService(place, Models(place), script)


def _script(place: Place) -> Any:
    """code/inference.py, its name being fixed, with its handlers. None: there is no script."""
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
    if not hasattr(module, "handler") and not (hasattr(module, "input_handler") and hasattr(module, "output_handler")):
        raise LoadError(
            "model-fn-error",
            "inference.py must define handler, or both input_handler and output_handler.",
            "define input_handler(data, context) and output_handler(response, context), or handler(data, context), or remove "
            "the script",
        )
    return module
