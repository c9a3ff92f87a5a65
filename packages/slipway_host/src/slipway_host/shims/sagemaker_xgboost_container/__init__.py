"""Names of AWS's XGBoost container that scripts import."""

from __future__ import annotations
