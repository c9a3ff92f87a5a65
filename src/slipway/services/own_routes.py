"""Every route of our own, from the modules that answer them: what `services.dispatch` looks through, and a test counts."""

from __future__ import annotations

from slipway.services import (
    slipway,
    slipway_async,
    slipway_metrics,
    slipway_models,
    slipway_notices,
    slipway_scaling,
    slipway_transforms,
)

ROUTES = (
    *slipway.ROUTES,
    *slipway_async.ROUTES,
    *slipway_metrics.ROUTES,
    *slipway_models.ROUTES,
    *slipway_notices.ROUTES,
    *slipway_scaling.ROUTES,
    *slipway_transforms.ROUTES,
)
