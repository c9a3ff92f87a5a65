"""Statistics by name, as CloudWatch's callers write them: `Average`, `p99.9`; and the units that there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from slipway.core.histograms import Statistics

Reader = Callable[[Statistics], "float | None"]
"""The statistic's value; None: it cannot be told (percentiles where only sums were given)."""

SIMPLE: Final[Mapping[str, Reader]] = {
    "SampleCount": lambda of: of.count,
    "Average": lambda of: of.average,
    "Sum": lambda of: of.sum,
    "Minimum": lambda of: of.minimum,
    "Maximum": lambda of: of.maximum,
}
PERIODS: Final = (1, 5, 10, 20, 30)
"""Seconds of a period that are no multiple of 60, for high resolution metrics."""

_PERCENTILE = re.compile(r"[pP](\d{1,2}(?:\.\d{1,10})?|100(?:\.0{1,10})?)")
_FURTHER = re.compile(
    r"IQM|iqm|(?:tm|TM|wm|WM|tc|TC|ts|TS)(?:\d{1,2}(?:\.\d+)?|100)|(?:PR|pr|TM|tm|WM|wm|TC|tc|TS|ts)\([^()]*:[^()]*\)"
)
"""Statistics that CloudWatch has and slipway has not."""


class BadStatistic(ValueError):
    """The message names the statistic and what is wrong with it."""


def reader(name: str) -> Reader:
    """Raises BadStatistic."""
    return SIMPLE[name] if name in SIMPLE else percentile(name)


def percentile(name: str) -> Reader:
    """Of an ExtendedStatistic. Raises BadStatistic."""
    match = _PERCENTILE.fullmatch(name)
    if match is not None:
        percent = float(match[1])
        return lambda of: of.percentile(percent)
    if _FURTHER.fullmatch(name):
        raise BadStatistic(f"The statistic {name} is not supported by slipway: it has percentiles (p0 to p100)")
    raise BadStatistic(f"The value {name} for parameter ExtendedStatistic is not supported.")


def is_period(period: int) -> bool:
    return period in PERIODS or (period > 0 and period % 60 == 0)
