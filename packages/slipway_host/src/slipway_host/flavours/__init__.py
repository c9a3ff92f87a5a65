"""The table of flavours: one for each framework whose image we stand in for (containers.md 3.14).

A flavour is a module with `load(place) -> Service`; it imports its framework, so only the chosen one is imported. One whose
loaded models hold threads, which a fork does not copy, also has `import_ahead(place) -> bool`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Callable

from ..contract import LoadError, Place

if TYPE_CHECKING:
    from ..batching import Settings
    from ..service import Service

NAMES = ("sklearn", "xgboost", "pytorch", "huggingface", "tensorflow", "mxnet", "linear_learner", "sparkml")


def import_ahead(name: str, place: Place) -> bool:
    """Import the framework of a flavour whose models cannot be forked once they are loaded. False: they can, load them.

    Raises what importing raises.
    """
    if name not in NAMES or place.environment.get("SAGEMAKER_HANDLER"):
        return False
    ahead: Callable[[Place], bool] | None = getattr(importlib.import_module(f"{__name__}.{name}"), "import_ahead", None)
    return ahead is not None and ahead(place)


def load(name: str, place: Place) -> Service:
    """A loaded model, ready to answer. Raises LoadError, and whatever user code or a framework raises."""
    if name not in NAMES:
        raise LoadError("internal", f"there is no flavour {name!r}", f"the flavours are {', '.join(NAMES)}")
    if place.environment.get("SAGEMAKER_HANDLER"):
        name = "handler"
    settings = _batches(place)
    module = importlib.import_module(f"{__name__}.{name}")
    service: Service = module.load(place)
    if settings is not None:
        service.batch = settings.of(service.together())
    return service


def _batches(place: Place) -> Settings | None:
    """The batches that the model's environment asks for. Raises LoadError."""
    if not any(name in place.environment for name in ("SLIPWAY_MAX_BATCH_SIZE", "SLIPWAY_MAX_BATCH_DELAY_MS")):
        return None
    from .. import batching  # noqa: PLC0415  few models ask for batches, and a start should not pay for it

    return batching.asked(place.environment)
