"""How a scaling policy turns a metric's value into a capacity: target tracking's formula and step adjustments. Pure arithmetic.

AWS: "Target tracking scaling policies" and "Step scaling policies" of the Application Auto Scaling guide (hosting.md 6.4, 6.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

CHANGE, EXACT, PERCENT = "ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity"
MAX_STEPS = 20
_CLOSE = 1e-9
"""What dividing floats may add to a whole number: 3 instances × 10 ÷ 5 are 6, not 7."""


@dataclass(frozen=True, slots=True)
class Step:
    adjustment: int
    lower: float | None = None
    """MetricIntervalLowerBound, beyond the alarm's threshold; None: without end."""
    upper: float | None = None


def tracked(capacity: int, value: float, target: float) -> int:
    """The capacity at which a metric that all instances share would be at its target: ceil(capacity × value ÷ target)."""
    if not math.isfinite(value) or value <= 0:
        return 0
    return math.ceil(min(capacity * value / target, 1e9) - _CLOSE)


def step_for(steps: Sequence[Step], value: float, threshold: float) -> Step | None:
    """The step whose interval holds the breach: above the threshold the lower bound is in it, below it the upper one."""
    breach = value - threshold
    for step in steps:
        lower = -math.inf if step.lower is None else step.lower
        upper = math.inf if step.upper is None else step.upper
        if lower <= breach < upper if breach >= 0 else lower < breach <= upper:
            return step
    return None


def adjusted(capacity: int, kind: str, adjustment: int, least: int = 0) -> int:
    """The capacity after an adjustment of one of AWS's three kinds, never below 0. `least`: MinAdjustmentMagnitude."""
    if kind == EXACT:
        return max(0, adjustment)
    change = adjustment
    if kind == PERCENT:
        change = percent_of(capacity, adjustment)
        if adjustment and abs(change) < least:
            change = int(math.copysign(least, adjustment))
    return max(0, capacity + change)


def percent_of(capacity: int, percent: int) -> int:
    """Beyond 1 rounded towards zero (12.7 is 12), between 0 and 1 away from it (0.67 is 1); the same below (−6.67 is −6)."""
    product = capacity * percent
    if 0 < abs(product) < 100:
        return 1 if product > 0 else -1
    return abs(product) // 100 * (1 if product > 0 else -1)


def wrong_steps(steps: Sequence[Step]) -> str | None:
    """Why these step adjustments are none that AWS takes; None: they are fine."""
    if not steps:
        return "Step adjustments must be specified."
    if len(steps) > MAX_STEPS:
        return f"There can be at most {MAX_STEPS} step adjustments."
    for step in steps:
        if step.lower is not None and step.upper is not None and step.lower >= step.upper:
            return "The upper bound of a step adjustment must be greater than its lower bound."
    if sum(step.lower is None for step in steps) > 1 or sum(step.upper is None for step in steps) > 1:
        return "At most one step adjustment can have an unspecified lower bound, and at most one an unspecified upper bound."
    ordered = sorted(steps, key=lambda step: -math.inf if step.lower is None else step.lower)
    for before, after in pairwise(ordered):
        if before.upper is None or after.lower is None or before.upper > after.lower:
            return "Step adjustment intervals can't overlap."
        if before.upper < after.lower:
            return "There can't be a gap between step adjustment intervals."
    lower, upper = ordered[0].lower, ordered[-1].upper
    if lower is None and upper is None and len(ordered) == 1:
        return "A step adjustment must have a lower bound, an upper bound, or both."
    if lower is not None and lower < 0:
        return "If there is a step adjustment with a negative lower bound, one must have an unspecified lower bound."
    if upper is not None and upper > 0:
        return "If there is a step adjustment with a positive upper bound, one must have an unspecified upper bound."
    return None
