"""What metric math computes with: numbers, time series, lists of them; and how operators combine these."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from slipway.core.metric_math_syntax import MathError

BUDGET = 3_000_000
"""Points that one request may compute: a second or two."""


@dataclass(frozen=True, slots=True)
class Series:
    points: Mapping[float, float]
    """Value by the begin of its period (epoch seconds), in the order of time."""
    period: int
    """Nominal seconds."""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """The periods that an expression is evaluated for."""

    times: Sequence[float]
    """Begin of each, epoch seconds, ascending."""
    period: int
    """Nominal seconds."""
    scale: float = 1.0
    """Nominal seconds in one real second."""


Value: TypeAlias = "float | Series | list[Series]"


class Work:
    """What an evaluation may still cost."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def spend(self, points: int) -> None:
        self._left -= points + 1
        if self._left < 0:
            raise MathError("The expression takes too many computations: ask for fewer metrics or a shorter time")


def _divided(left: float, right: float) -> float:
    return left / right if right else math.nan


def _raised(base: float, exponent: float) -> float:
    try:
        return float(math.pow(base, exponent))
    except (OverflowError, ValueError):
        return math.nan


_OPERATORS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided,
    "^": _raised,
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    ">": lambda a, b: float(a > b),
    ">=": lambda a, b: float(a >= b),
    "AND": lambda a, b: float(bool(a) and bool(b)),
    "OR": lambda a, b: float(bool(a) or bool(b)),
}


def binary(sign: str, left: Value, right: Value, work: Work) -> Value:
    """Points without a number for a result (a division by zero) are left out."""
    return combined(_OPERATORS[sign], left, right, work)


def combined(fn: Callable[[float, float], float], left: Value, right: Value, work: Work) -> Value:
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            raise MathError(f"Two lists of series must be of one length: here {len(left)} and {len(right)}")
        return [_series(fn, a, b, work) for a, b in zip(left, right, strict=True)]
    if isinstance(left, list):
        return [_series(fn, member, right, work) for member in left]  # type: ignore[arg-type]
    if isinstance(right, list):
        return [_series(fn, left, member, work) for member in right]
    if isinstance(left, float) and isinstance(right, float):
        work.spend(1)
        return fn(left, right)
    return _series(fn, left, right, work)


def _series(fn: Callable[[float, float], float], left: float | Series, right: float | Series, work: Work) -> Series:
    if isinstance(left, Series):
        work.spend(len(left.points))
        if isinstance(right, Series):
            there = right.points
            pairs = ((at, fn(value, there[at])) for at, value in left.points.items() if at in there)
            return Series(finite(pairs), max(left.period, right.period), left.label)
        return Series(finite((at, fn(value, right)) for at, value in left.points.items()), left.period, left.label)
    if isinstance(right, Series):
        work.spend(len(right.points))
        return Series(finite((at, fn(left, value)) for at, value in right.points.items()), right.period, right.label)
    raise MathError("A list of series holds series only")


def finite(pairs: object) -> dict[float, float]:
    """Of pairs of time and value, those whose value is a number."""
    return {at: value for at, value in pairs if math.isfinite(value)}  # type: ignore[attr-defined]


def each(fn: Callable[[float], float], value: Value, work: Work) -> Value:
    """`fn` of a number, or of every point."""
    if isinstance(value, float):
        work.spend(1)
        return fn(value)
    if isinstance(value, list):
        return [_each(fn, member, work) for member in value]
    return _each(fn, value, work)


def _each(fn: Callable[[float], float], series: Series, work: Work) -> Series:
    work.spend(len(series.points))
    return Series(finite((at, fn(value)) for at, value in series.points.items()), series.period, series.label)


def every(fn: Callable[[Series], Series], value: Value, name: str) -> Value:
    """`fn` of a series, or of each series of a list."""
    if isinstance(value, float):
        raise MathError(f"{name} takes a time series")
    return [fn(member) for member in value] if isinstance(value, list) else fn(value)
