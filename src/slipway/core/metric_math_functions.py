"""The functions of metric math."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, TypeAlias

from slipway.core.metric_math_syntax import MathError
from slipway.core.metric_math_values import Grid, Series, Value, Work, combined, each, every

FILLINGS: Final = ("REPEAT", "LINEAR")

Function: TypeAlias = Callable[[Sequence[Value], Grid, Work], Value]


def check(name: str, arguments: int) -> None:
    """Raises MathError unless there is such a function, and it takes so many arguments."""
    if name not in _FUNCTIONS:
        raise MathError(f"The function {name} is not supported")
    least, most = _FUNCTIONS[name][:2]
    if not least <= arguments <= most:
        counts = str(least) if least == most else f"{least} to {most}"
        raise MathError(f"The function {name} takes {counts} arguments, {arguments} given")


def call(name: str, arguments: Sequence[Value], grid: Grid, work: Work) -> Value:
    check(name, len(arguments))
    return _FUNCTIONS[name][2](arguments, grid, work)


def fill(value: Value, filling: str | float | Series, grid: Grid, work: Work) -> Value:
    """Points for the periods that have none: a number's, another series', the one before (REPEAT), or in between (LINEAR)."""

    def filled(series: Series) -> Series:
        work.spend(len(grid.times))
        points = dict(series.points)
        if filling == "LINEAR":
            _bridge(points, grid)
        elif filling == "REPEAT":
            _repeat(points, grid)
        else:
            for at in grid.times:
                if at not in points:
                    other = filling.points.get(at) if isinstance(filling, Series) else float(filling)
                    if other is not None:
                        points[at] = other
        return Series(dict(sorted(points.items())), series.period, series.label)

    return every(filled, value, "FILL")


def _repeat(points: dict[float, float], grid: Grid) -> None:
    last: float | None = None
    for at in grid.times:
        if at in points:
            last = points[at]
        elif last is not None:
            points[at] = last


def _bridge(points: dict[float, float], grid: Grid) -> None:
    known = sorted(points)
    for at in grid.times:
        index = bisect_left(known, at)
        if 0 < index < len(known) and known[index] != at:
            before, after = known[index - 1], known[index]
            share = (at - before) / (after - before)
            points[at] = points[before] + (points[after] - points[before]) * share


def _fill(arguments: Sequence[Value], grid: Grid, work: Work) -> Value:
    value, filling = arguments
    if isinstance(filling, list):
        raise MathError("FILL fills with a number, a time series, REPEAT or LINEAR")
    return fill(value, filling, grid, work)


def _aggregate(fn: Callable[[Sequence[float]], float]) -> Function:
    """Of one series: a number. Of a list: a series, at each time of those that have a point there."""

    def apply(arguments: Sequence[Value], grid: Grid, work: Work) -> Value:
        (value,) = arguments
        if isinstance(value, float):
            return value
        if isinstance(value, Series):
            work.spend(len(value.points))
            return fn(list(value.points.values())) if value.points else math.nan
        at_once: dict[float, list[float]] = {}
        for member in value:
            work.spend(len(member.points))
            for at, point in member.points.items():
                at_once.setdefault(at, []).append(point)
        period = max((member.period for member in value), default=grid.period)
        return Series({at: fn(points) for at, points in sorted(at_once.items())}, period)

    return apply


def _mapped(fn: Callable[[float], float]) -> Function:
    return lambda arguments, grid, work: each(fn, arguments[0], work)


def _walked(name: str, fn: Callable[[Series, Grid], dict[float, float]]) -> Function:
    """`fn` gives a series' new points."""

    def apply(arguments: Sequence[Value], grid: Grid, work: Work) -> Value:
        def one(series: Series) -> Series:
            work.spend(len(series.points))
            return Series(fn(series, grid), series.period, series.label)

        return every(one, arguments[0], name)

    return apply


def _calendar(name: str, fn: Callable[[float], float]) -> Function:
    return _walked(name, lambda series, grid: {at: float(fn(at)) for at in series.points})


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _if(arguments: Sequence[Value], grid: Grid, work: Work) -> Value:
    condition, yes = arguments[0], arguments[1]
    no = arguments[2] if len(arguments) == 3 else None
    if isinstance(condition, list) or isinstance(yes, list) or isinstance(no, list):
        raise MathError("IF takes numbers and single time series")
    if isinstance(condition, float):
        chosen = yes if condition else no
        return Series({}, grid.period) if chosen is None else chosen
    work.spend(len(condition.points))
    found: dict[float, float] = {}
    for at, value in condition.points.items():
        chosen = yes if value else no
        point = chosen.points.get(at) if isinstance(chosen, Series) else chosen
        if point is not None:
            found[at] = point
    return Series(found, condition.period, condition.label)


def _period(arguments: Sequence[Value], _grid: Grid, _work: Work) -> Value:
    if not isinstance(arguments[0], Series):
        raise MathError("PERIOD takes a time series")
    return float(arguments[0].period)


def _member(index: int) -> Function:
    def apply(arguments: Sequence[Value], _grid: Grid, _work: Work) -> Value:
        value = arguments[0]
        if not isinstance(value, list) or not value:
            raise MathError("FIRST and LAST take a list of time series")
        return value[index]

    return apply


def _metric_count(arguments: Sequence[Value], grid: Grid, _work: Work) -> Value:
    value = arguments[0]
    if not isinstance(value, list):
        raise MathError("METRIC_COUNT takes a list of time series")
    return float(len(value))


def _remove_empty(arguments: Sequence[Value], _grid: Grid, _work: Work) -> Value:
    value = arguments[0]
    return [member for member in value if member.points] if isinstance(value, list) else value


def _time_series(arguments: Sequence[Value], grid: Grid, work: Work) -> Value:
    if not isinstance(arguments[0], float):
        raise MathError("TIME_SERIES takes a number")
    work.spend(len(grid.times))
    return Series(dict.fromkeys(grid.times, arguments[0]), grid.period)


def _differences(series: Series, _grid: Grid) -> dict[float, float]:
    return {at: value - before for (_, before), (at, value) in pairwise(series.points.items())}


def _rates(series: Series, grid: Grid) -> dict[float, float]:
    pairs = pairwise(series.points.items())
    return {at: (value - before) / ((at - then) * grid.scale) for (then, before), (at, value) in pairs}


def _time_differences(series: Series, grid: Grid) -> dict[float, float]:
    return {at: float(round((at - then) * grid.scale, 3)) for then, at in pairwise(series.points)}


def _running_sums(series: Series, _grid: Grid) -> dict[float, float]:
    total = 0.0
    found = {}
    for at, value in series.points.items():
        total += value
        found[at] = total
    return found


def _logarithm(fn: Callable[[float], float]) -> Callable[[float], float]:
    return lambda value: fn(value) if value > 0 else math.nan


def _extreme(fn: Callable[[float, float], float], among: Callable[[Sequence[float]], float]) -> Function:
    """MIN and MAX of one argument, or of several numbers and series."""
    aggregate = _aggregate(among)

    def apply(arguments: Sequence[Value], grid: Grid, work: Work) -> Value:
        if len(arguments) == 1:
            return aggregate(arguments, grid, work)
        found = arguments[0]
        for other in arguments[1:]:
            found = combined(fn, found, other, work)
        return found

    return apply


_FUNCTIONS: Final[Mapping[str, tuple[int, int, Function]]] = {
    "ABS": (1, 1, _mapped(abs)),
    "AVG": (1, 1, _aggregate(statistics.fmean)),
    "CEIL": (1, 1, _mapped(lambda value: float(math.ceil(value)))),
    "DATAPOINT_COUNT": (1, 1, _aggregate(lambda values: float(len(values)))),
    "DATE": (1, 1, _calendar("DATE", lambda at: _moment(at).day)),
    "DAY": (1, 1, _calendar("DAY", lambda at: _moment(at).isoweekday())),
    "DIFF": (1, 1, _walked("DIFF", _differences)),
    "DIFF_TIME": (1, 1, _walked("DIFF_TIME", _time_differences)),
    "EPOCH": (1, 1, _calendar("EPOCH", float)),
    "FILL": (2, 2, _fill),
    "FIRST": (1, 1, _member(0)),
    "FLOOR": (1, 1, _mapped(lambda value: float(math.floor(value)))),
    "HOUR": (1, 1, _calendar("HOUR", lambda at: _moment(at).hour)),
    "IF": (2, 3, _if),
    "LAST": (1, 1, _member(-1)),
    "LOG": (1, 1, _mapped(_logarithm(math.log))),
    "LOG10": (1, 1, _mapped(_logarithm(math.log10))),
    "MAX": (1, 10, _extreme(max, max)),
    "METRICS": (0, 1, lambda arguments, grid, work: []),
    "METRIC_COUNT": (1, 1, _metric_count),
    "MIN": (1, 10, _extreme(min, min)),
    "MINUTE": (1, 1, _calendar("MINUTE", lambda at: _moment(at).minute)),
    "MONTH": (1, 1, _calendar("MONTH", lambda at: _moment(at).month)),
    "PERIOD": (1, 1, _period),
    "RATE": (1, 1, _walked("RATE", _rates)),
    "REMOVE_EMPTY": (1, 1, _remove_empty),
    "RUNNING_SUM": (1, 1, _walked("RUNNING_SUM", _running_sums)),
    "STDDEV": (1, 1, _aggregate(lambda values: statistics.pstdev(values) if len(values) > 1 else 0.0)),
    "SUM": (1, 1, _aggregate(math.fsum)),
    "TIME_SERIES": (1, 1, _time_series),
    "YEAR": (1, 1, _calendar("YEAR", lambda at: _moment(at).year)),
}
"""Name, least and most arguments, and what it does."""
