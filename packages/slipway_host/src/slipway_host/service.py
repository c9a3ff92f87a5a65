"""From a request to its answer: what a worker calls. `ScriptService` runs a script's functions over a flavour's defaults.

An answer is `(status, head, body)`: the head as frames carry it, the body bytes or an iterator of bytes (a stream).
"""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, Union

from . import codecs, frames
from .context import Context
from .contract import Functions, Place

if TYPE_CHECKING:
    from .batching import Answers, Batch

Answer = tuple[int, bytes, Union[bytes, Iterator[bytes]]]

_KEPT_HEADS = 64
_PLAIN = (str, bytes, bytearray, memoryview)
_TOOLKIT_ERROR = "BaseInferenceToolkitError"
"""The class whose errors choose their status, of AWS's package or of ours."""


class Call:
    """What a request's headers mean. Made once for equal headers and used again, so it is never changed."""

    __slots__ = ("accept", "content_type", "headers", "text")

    def __init__(self, headers: list[tuple[bytes, bytes]], content_type: str, accept: str) -> None:
        self.headers = headers
        self.content_type = content_type
        self.accept = accept
        self.text = content_type in codecs.TEXT


class Heads:
    """Answer heads by content type: there are few, and a request should not pay for packing one."""

    def __init__(self, charset: bool = False) -> None:
        """`charset`: text is told to be UTF-8, as Flask tells it."""
        self._heads: dict[str, bytes] = {}
        self._charset = charset

    def of(self, content_type: str) -> bytes:
        known = self._heads.get(content_type)
        if known is None:
            told = with_charset(content_type) if self._charset else content_type
            known = frames.pack_head([(b"Content-Type", _clean(told))] if content_type else [])
            if len(self._heads) < _KEPT_HEADS:
                self._heads[content_type] = known
        return known


def with_charset(content_type: str) -> str:
    """As Flask writes a type: text has a charset."""
    kind = codecs.media_type(content_type)
    if (kind.startswith("text/") or kind == "application/xml" or kind.endswith("+xml")) and "charset" not in content_type:
        return f"{content_type}; charset=utf-8"
    return content_type


def _clean(value: str) -> bytes:
    """A header value from user code: no line may be smuggled in."""
    return value.translate(_FORBIDDEN).encode("latin-1", "replace").strip()


_FORBIDDEN = {ord(char): " " for char in "\r\n\0"}


def headers_of(call_headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    for key, value in call_headers:
        if key.lower() == name:
            return value.decode("latin-1").strip()
    return ""


class Service:
    """What a worker needs of a loaded model."""

    default_content_type = codecs.JSON

    def __init__(self, place: Place) -> None:
        self.place = place
        self.default_accept = place.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "") or codecs.JSON
        self.heads = Heads()
        self.batch: Batch | None = None
        """Set where a worker is to answer requests together."""

    def prepare(self, headers: list[tuple[bytes, bytes]]) -> Call:
        """Rule 3 of containers.md 3.2: the type defaults; a missing Accept and `*/*` are alike."""
        accept = headers_of(headers, b"accept")
        content_type = headers_of(headers, b"content-type")
        return Call(
            headers,
            content_type or self.default_content_type,
            self.default_accept if not accept or accept == codecs.ANY else accept,
        )

    def invoke(self, call: Call, body: bytes) -> Answer:
        raise TypeError("a flavour's service answers requests")

    def together(self) -> Answers | None:
        """How requests are answered together; None: no handler of the model declares that it takes several."""
        return None

    def execution_parameters(self) -> Answer | None:
        """None: the model has none to tell (404)."""
        return None


class ScriptService(Service):
    """The functions of a script, and the defaults of a flavour for those it lacks."""

    def __init__(
        self,
        place: Place,
        functions: Functions,
        model: Any,
        defaults: Defaults,
    ) -> None:
        super().__init__(place)
        self._model = model
        self._functions = functions
        self._defaults = defaults
        self._transform = functions.transform_fn
        self._input = functions.input_fn or defaults.input_fn
        self._predict = functions.predict_fn or (self._one_of_batch if functions.batch_predict_fn else defaults.predict_fn)
        self._output = functions.output_fn or defaults.output_fn
        if functions.predict_fn is None and functions.batch_predict_fn is not None:
            functions.context["predict_fn"] = functions.context["batch_predict_fn"]
        self._with_context = any(functions.context.values())
        self._bytearrays = defaults.bytearrays
        self._untyped = functools.lru_cache(_KEPT_HEADS)(defaults.untyped)
        self._text_errors = defaults.text_errors
        self.heads = Heads(defaults.charset)

    def invoke(self, call: Call, body: bytes) -> Answer:
        context = None
        try:
            data: Any = bytearray(body) if self._bytearrays else body
            if call.text:
                data = body.decode("utf-8", self._text_errors)
            if self._with_context:
                context = Context(self.place.model_dir, call.headers)
                result = self._run_with_context(call, data, context)
            elif self._transform is not None:
                result = self._transform(self._model, data, call.content_type, call.accept)
            else:
                result = self._output(self._predict(self._input(data, call.content_type), self._model), call.accept)
            return self._answer(result, call, context)
        except codecs.UnsupportedFormat as error:
            return self._defaults.unsupported(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  user code
            return self._defaults.failed(error)

    def _run_with_context(self, call: Call, data: str | bytes, context: Context) -> Any:
        run = self._run
        if self._transform is not None:
            return run("transform_fn", self._transform, context, self._model, data, call.content_type, call.accept)
        decoded = run("input_fn", self._input, context, data, call.content_type)
        prediction = run("predict_fn", self._predict, context, decoded, self._model)
        return run("output_fn", self._output, context, prediction, call.accept)

    def _run(self, name: str, function: Callable[..., Any], context: Context | None, *args: Any) -> Any:
        return function(*args, context) if self._functions.context[name] else function(*args)

    # ---- several requests in one call (`batching`)

    def _one_of_batch(self, data: Any, *more: Any) -> Any:
        """predict_fn, of a script that has batch_predict_fn alone."""
        from . import batching  # noqa: PLC0415  few models need it

        function: Any = self._functions.batch_predict_fn
        return batching.checked(function([data], *more), 1)[0]

    def together(self) -> Answers | None:
        """By batch_predict_fn, or by a predict_fn that takes the rows of several requests: a script's that says so
        (`predict_fn.batched = True`), or a flavour's."""
        from . import batching  # noqa: PLC0415  few models need it

        functions = self._functions
        context = functions.context
        if functions.batch_predict_fn is not None:
            return batching.of_lists(self, functions.batch_predict_fn, self._model, context["batch_predict_fn"]).answers
        function = functions.predict_fn
        if self.declares_batches and function is not None:
            return batching.of_rows(self, function, self._model, context["predict_fn"]).answers
        if function is None and self._transform is None and self._defaults.batched:
            return batching.of_rows(self, self._defaults.predict_fn, self._model, False).answers
        return None

    @property
    def declares_batches(self) -> bool:
        """Whether the script itself says that it takes several requests in one call."""
        functions = self._functions
        return functions.batch_predict_fn is not None or getattr(functions.predict_fn, "batched", False) is True

    def context(self, call: Call) -> Context | None:
        """What the script's functions get of this request, if one of them takes it."""
        return Context(self.place.model_dir, call.headers) if self._with_context else None

    def decode(self, call: Call, body: bytes, context: Context | None) -> Any:
        """What input_fn makes of a body. Raises what it raises."""
        data: Any = bytearray(body) if self._bytearrays else body
        if call.text:
            data = body.decode("utf-8", self._text_errors)
        return self._run("input_fn", self._input, context, data, call.content_type)

    def encode(self, call: Call, prediction: Any, context: Context | None) -> Answer:
        """The answer that output_fn makes of a prediction; a failure is one as well."""
        try:
            return self._answer(self._run("output_fn", self._output, context, prediction, call.accept), call, context)
        except (Exception, SystemExit) as error:  # noqa: BLE001  user code
            return self.refusal(error)

    def refusal(self, error: BaseException) -> Answer:
        """What is answered for what a function raised."""
        if isinstance(error, codecs.UnsupportedFormat):
            return self._defaults.unsupported(error)
        return self._defaults.failed(error)

    def _answer(self, result: Any, call: Call, context: Context | None) -> Answer:
        if isinstance(result, tuple) and len(result) > 1:
            result, content_type = result[:2]
        else:
            content_type = self._untyped(call.accept)
        body: bytes | Iterator[bytes]
        if type(result) is bytes:
            body = result
        elif type(result) is str:
            body = result.encode()
        elif hasattr(result, "get_data") and hasattr(result, "status_code"):
            return _from_response(result)
        else:
            if not (isinstance(result, _PLAIN) or hasattr(result, "__next__")):
                result, content_type = self._defaults.other(result, content_type)
            body = _body(result)
        if context is None:
            return 200, self.heads.of(content_type), body
        return context.status or 200, _context_head(context, content_type), body

    def execution_parameters(self) -> Answer | None:
        function = self._functions.execution_parameters_fn
        if function is None:
            return None
        try:
            result = function()
            if hasattr(result, "get_data") and hasattr(result, "status_code"):
                return _from_response(result)
            body = result if isinstance(result, (str, bytes)) else json.dumps(result)
            return 200, self.heads.of(codecs.JSON), body.encode() if isinstance(body, str) else body
        except Exception as error:  # noqa: BLE001  user code
            return self._defaults.failed(error)


class Defaults:
    """What a flavour does where a script says nothing. The errors are the common toolkit's; flavours override."""

    batched = False
    """Its predict_fn takes the rows of several requests as it takes those of one."""
    bytearrays = False
    """Functions are given a body that is no text as a bytearray."""
    text_errors = "strict"
    """What becomes of text that is no UTF-8, as str.decode names it."""
    charset = False
    """Answers of text types are told to be UTF-8."""

    def untyped(self, accept: str) -> str:
        """The type of an answer whose function named none: the first that was asked for."""
        return accept.split(",")[0].split(";")[0].strip()

    def other(self, result: Any, content_type: str) -> tuple[str | bytes, str]:
        """(body, type) of what is neither text nor bytes nor an iterator. Raises TypeError."""
        raise TypeError(
            "the answer must be str, bytes, an iterator of these, or (one of these, content type), "
            f"not {type(result).__name__}; encode it in output_fn or transform_fn"
        )

    def input_fn(self, data: str | bytes, content_type: str) -> Any:
        raise NotImplementedError("Please provide an input_fn implementation.")

    def predict_fn(self, data: Any, model: Any) -> Any:
        raise NotImplementedError("Please provide a predict_fn implementation.")

    def output_fn(self, prediction: Any, accept: str) -> Any:
        raise NotImplementedError("Please provide an output_fn implementation.")

    def unsupported(self, error: codecs.UnsupportedFormat) -> Answer:
        return self.failed(error)

    def failed(self, error: BaseException) -> Answer:
        """Rule 7 of containers.md 3.2: message, newline, traceback, no content type; the status of a toolkit error."""
        return failure(error)


def failure(error: BaseException) -> Answer:
    """An answer for what user code raised, and its traceback in the log."""
    lines = "".join(traceback.format_exception(type(error), error, _user_frames(error)))
    sys.stderr.write(lines)
    sys.stderr.flush()
    status = 500
    if any(each.__name__ == _TOOLKIT_ERROR for each in type(error).__mro__):
        declared = getattr(error, "status_code", None)
        status = declared if type(declared) is int and 400 <= declared <= 599 else 500
    message = str(getattr(error, "message", "") or error) or "Invalid Request"
    if isinstance(error, MemoryError):
        message = f"The model ran out of memory while it handled this request. {message}".rstrip()
    elif isinstance(error, SystemExit):
        message = f"The model's code called sys.exit({error.code!r}) while it handled this request."
    return status, b"", f"{message}\n{lines}".encode("utf-8", "replace")


def _user_frames(error: BaseException) -> Any:
    """The traceback from where it leaves this package: our own frames explain nothing to a user."""
    here = __file__.rpartition("/")[0]
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(here) and frame.tb_next is not None:
        frame = frame.tb_next
    return frame


def _body(result: Any) -> bytes | Iterator[bytes]:
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    if hasattr(result, "__next__"):
        return _pieces(result)
    raise TypeError(f"the answer must be str, bytes or an iterator of these, not {type(result).__name__}")


def _pieces(source: Any) -> Iterator[bytes]:
    try:
        for piece in source:
            yield piece.encode() if isinstance(piece, str) else bytes(piece)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def _from_response(result: Any) -> Answer:
    """A `worker.Response` (or the Flask response it is on AWS)."""
    headers = [(str(name), str(value)) for name, value in result.headers.items() if str(name).lower() != "content-length"]
    if not any(name.lower() == "content-type" for name, _ in headers) and getattr(result, "mimetype", None):
        headers.append(("Content-Type", result.mimetype))
    pairs = [(_clean(name), _clean(value)) for name, value in headers]
    return int(result.status_code), frames.pack_head(pairs), _body(result.get_data())


def _context_head(context: Context, content_type: str) -> bytes:
    pairs = [(_clean(name), _clean(value)) for name, value in context.headers]
    return frames.pack_head([(b"Content-Type", _clean(context.content_type or content_type)), *pairs])
