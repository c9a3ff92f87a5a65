"""The interpreters that both sides run in."""

from __future__ import annotations

from tests.unit.slipway_host.conftest import sklearn_env, tensorflow_env, torch_env, transformers_env

__all__ = ["sklearn_env", "tensorflow_env", "torch_env", "transformers_env"]
