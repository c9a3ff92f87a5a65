"""Names of AWS's `sagemaker_inference` toolkit (family A) that scripts import."""

from __future__ import annotations

from . import content_types, decoder, encoder, environment, errors, utils

__all__ = ["content_types", "decoder", "encoder", "environment", "errors", "utils"]
