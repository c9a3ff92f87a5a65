"""Names of AWS's multi-model-server that handler services import."""

from __future__ import annotations

from . import service

__all__ = ["service"]
