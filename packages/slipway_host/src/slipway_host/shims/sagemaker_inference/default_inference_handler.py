"""The functions that a handler service falls back to where the user's script has none."""

from __future__ import annotations

from typing import Any

from . import decoder, encoder, errors, utils


class DefaultInferenceHandler:
    """To be derived from: a toolkit's defaults. Loading and predicting are the toolkit's to define."""

    def default_model_fn(self, model_dir: str, context: Any = None) -> Any:
        raise NotImplementedError("Please provide a model_fn implementation.")

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        return decoder.decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        raise NotImplementedError("Please provide a predict_fn implementation.")

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:
        for kind in utils.parse_accept(accept):
            if kind in encoder.SUPPORTED_CONTENT_TYPES:
                return encoder.encode(prediction, kind), kind
        raise errors.UnsupportedFormatError(accept)
