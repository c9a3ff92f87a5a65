"""What scikit-learn and XGBoost scripts import: `from sagemaker_containers.beta.framework import encoders, worker`."""

from __future__ import annotations

from . import content_types, encoders, env, errors, modules, transformer, worker

__all__ = ["content_types", "encoders", "env", "errors", "modules", "transformer", "worker"]
