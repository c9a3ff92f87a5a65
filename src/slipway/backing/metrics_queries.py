"""MetricDataQueries (GetMetricData, alarms, scaling policies): metrics and expressions, checked and evaluated.

A query is AWS's own structure: Id, MetricStat or Expression, Label, ReturnData, Period.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.backing.metrics import Budget, Datapoint, Metric, Metrics, Query, TooManyPoints, metric
from slipway.core.metric_math import Grid, MathError, Series, evaluate_all, names_in
from slipway.core.metric_statistics import BadStatistic, Reader, is_period, reader
from slipway.store.db import Connection

_IDENT = re.compile(r"[a-z][a-zA-Z0-9_]*")
DEFAULT_PERIOD = 60
EXPRESSION_CHARACTERS = 100_000
"""Of all expressions of one request: they are read while nothing else is done."""


class BadQuery(ValueError):
    """The message is AWS's wording, or close to it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One query, checked."""

    id: str
    period: int
    """Nominal seconds; of an expression, the longest of the metrics that it is of."""
    label: str
    returned: bool
    metric: Metric | None = None
    read: Reader | None = None
    unit: str | None = None
    expression: str | None = None


def checked(account: str, region: str, queries: Sequence[Mapping[str, Any]]) -> list[Ask]:
    """Raises BadQuery."""
    by_id: dict[str, Mapping[str, Any]] = {}
    for query in queries:
        ident = query["Id"]
        if not _IDENT.fullmatch(ident):
            raise BadQuery(f"The value {ident} for parameter MetricDataQueries.member.Id must match ^[a-z][a-zA-Z0-9_]*$")
        if ident in by_id:
            raise BadQuery("The values for parameter Id in MetricDataQueries are not unique.")
        if ("MetricStat" in query) == ("Expression" in query):
            raise BadQuery(f"Either MetricStat or Expression must be given for the query {ident}, and not both")
        if query.get("AccountId", account) != account:
            raise BadQuery("AccountId: slipway does not read metrics of another account")
        by_id[ident] = query
    if sum(len(query.get("Expression", "")) for query in by_id.values()) > EXPRESSION_CHARACTERS:
        raise BadQuery(f"The expressions of one request can have {EXPRESSION_CHARACTERS:,} characters together")
    needs = {ident: _needs(query, by_id) for ident, query in by_id.items() if "Expression" in query}
    periods = _periods(by_id, needs)
    return [_ask(account, region, query, periods.get(query["Id"])) for query in by_id.values()]


def _needs(query: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Ids that an expression names."""
    try:
        idents, called = names_in(query["Expression"])
    except MathError as error:
        raise BadQuery(f"Error in expression '{query['Id']}': {error}") from None
    for ident in sorted(idents):
        if ident not in by_id:
            raise BadQuery(f"Error in expression '{query['Id']}': Unknown identifier: {ident}")
    if "METRICS" in called:
        idents |= {ident for ident, other in by_id.items() if "MetricStat" in other}
    return idents


def _periods(by_id: Mapping[str, Mapping[str, Any]], needs: Mapping[str, set[str]]) -> dict[str, int]:
    """Of each expression that is of metrics, directly or through others, the longest of their periods."""
    found: dict[str, int] = {}
    users: dict[str, list[str]] = {}
    for ident, needed in needs.items():
        for other in needed:
            users.setdefault(other, []).append(ident)
    metrics = {ident: query["MetricStat"]["Period"] for ident, query in by_id.items() if "MetricStat" in query}
    for ident, period in sorted(metrics.items(), key=lambda metric: -metric[1]):  # the longest first: what is found stays
        todo = [ident]
        while todo:
            for user in users.get(todo.pop(), ()):
                if user not in found:
                    found[user] = period
                    todo.append(user)
    return found


def _ask(account: str, region: str, query: Mapping[str, Any], period: int | None) -> Ask:
    """`period`: of the metrics that an expression is of, where there are any."""
    ident, returned = query["Id"], query.get("ReturnData", True)
    if "Expression" in query:
        period = query.get("Period", DEFAULT_PERIOD) if period is None else period
        _check_period(period)
        return Ask(ident, period, query.get("Label", ident), returned, expression=query["Expression"])
    stat = query["MetricStat"]
    asked = stat["Metric"]
    if not asked.get("Namespace") or not asked.get("MetricName"):
        raise BadQuery(f"MetricStat of the query {ident} must name a Namespace and a MetricName")
    _check_period(stat["Period"])
    try:
        read = reader(stat["Stat"])
    except BadStatistic as error:
        raise BadQuery(str(error)) from None
    dimensions = {d["Name"]: d["Value"] for d in asked.get("Dimensions", ())}
    found = metric(account, region, asked["Namespace"], asked["MetricName"], dimensions)
    return Ask(ident, stat["Period"], query.get("Label", asked["MetricName"]), returned, found, read, stat.get("Unit"))


def _check_period(period: int) -> None:
    if not is_period(period):
        raise BadQuery("Period must be 1, 5, 10, 20, 30 or a multiple of 60")


def evaluate(
    connection: Connection,
    metrics: Metrics,
    asks: Sequence[Ask],
    wanted: Sequence[str],
    spans: Mapping[int, tuple[float, float]],
) -> dict[str, list[Series]]:
    """The series of the wanted ids, of what was flushed. `spans`: begin and end of the time asked for, by period.

    Raises MathError.
    """
    budget = Budget()
    try:
        series = {
            ask.id: _series(connection, metrics, ask, *spans[ask.period], budget) for ask in asks if ask.metric is not None
        }
    except TooManyPoints:
        raise MathError("The queries are of too many datapoints: ask for fewer metrics or a shorter time") from None
    expressions = {ask.id: ask.expression for ask in asks if ask.expression is not None}
    periods = {ask.id: ask.period for ask in asks}

    def grid(ident: str) -> Grid:
        start, end = spans[periods[ident]]
        return Grid(times(start, end, periods[ident] / metrics.time_scale), periods[ident], metrics.time_scale)

    return evaluate_all(series, expressions, wanted, grid)


def sampled(
    connection: Connection, metrics: Metrics, asks: Sequence[Ask], start: float, end: float
) -> list[list[tuple[float, float, float]]]:
    """Of each ask (all of metrics, of one period): begin, value and number of samples of each period that was flushed."""
    queries = [Query(ask.metric, start, end, ask.period, ask.unit) for ask in asks if ask.metric is not None]
    found = []
    for ask, points in zip(asks, metrics.read_many(connection, queries), strict=True):
        told = values(points, ask.read) if ask.read is not None else {}
        found.append([(point.start, told[point.start], point.statistics.count) for point in points if point.start in told])
    return found


def times(start: float, end: float, width: float) -> list[float]:
    """Begins of the periods from `start` up to `end`; computed as `Metrics.read` computes them, so that they are equal."""
    count = int((end - start) / width - 1e-4) + 1 if end > start else 0
    return [start + index * width for index in range(count)]


def _series(connection: Connection, metrics: Metrics, ask: Ask, start: float, end: float, budget: Budget) -> Series:
    if ask.metric is None or ask.read is None:
        raise BadQuery(ask.id)
    found = metrics.read(connection, Query(ask.metric, start, end, ask.period, ask.unit), budget)
    return Series(values(found, ask.read), ask.period, ask.label)


def values(datapoints: Sequence[Datapoint], read: Reader) -> dict[float, float]:
    """The statistic by the time; datapoints of one period in several units are taken together."""
    at_once: dict[float, Datapoint] = {}
    for point in datapoints:
        if (before := at_once.get(point.start)) is not None:
            before.statistics.merge(point.statistics)
        else:
            at_once[point.start] = point
    read_values = ((at, read(point.statistics)) for at, point in at_once.items())
    return {at: value for at, value in read_values if value is not None}
