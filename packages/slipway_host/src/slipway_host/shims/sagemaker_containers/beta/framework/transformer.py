"""The functions of a script, put together by hand."""

from __future__ import annotations

from typing import Any, Callable

from . import encoders, worker


def default_input_fn(input_data: str | bytes, content_type: str) -> Any:
    return encoders.decode(input_data, content_type)


def default_output_fn(prediction: Any, accept: str) -> worker.Response:
    return worker.Response(encoders.encode(prediction, accept), accept, mimetype=accept)


class Transformer:
    """`transform` runs input, predict and output over the model that `initialize` loaded."""

    def __init__(
        self,
        model_fn: Callable[..., Any],
        input_fn: Callable[..., Any] = default_input_fn,
        predict_fn: Callable[..., Any] | None = None,
        output_fn: Callable[..., Any] = default_output_fn,
    ) -> None:
        self._model_fn = model_fn
        self._input_fn = input_fn
        self._predict_fn = predict_fn
        self._output_fn = output_fn
        self._model: Any = None

    def initialize(self, model_dir: str = "/opt/ml/model") -> None:
        self._model = self._model_fn(model_dir)

    def transform(self, data: str | bytes, content_type: str, accept: str) -> Any:
        decoded = self._input_fn(data, content_type)
        predicted = self._predict_fn(decoded, self._model) if self._predict_fn else self._model.predict(decoded)
        return self._output_fn(predicted, accept)
