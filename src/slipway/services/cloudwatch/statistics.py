"""GetMetricStatistics and GetMetricData."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from slipway.backing import metrics_queries
from slipway.backing.metrics import DAY, Metrics, Query, metric
from slipway.backing.metrics_queries import Ask, BadQuery
from slipway.core.metric_math import MathError, Series
from slipway.core.metric_statistics import SIMPLE, BadStatistic, is_period, percentile
from slipway.services import Context
from slipway.services.cloudwatch.errors import (
    bad_combination,
    bad_value,
    page_start,
    page_token,
    refuse,
    validation_error,
)
from slipway.store.db import Connection

POINTS = 1440
"""Datapoints of a GetMetricStatistics."""
DATA_POINTS = 100_800
"""Datapoints of a page of GetMetricData."""
QUERIES = 500


async def get_metric_statistics(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """In no particular order, as AWS says; here by time."""
    simple: list[str] = request.get("Statistics") or []
    extended: list[str] = request.get("ExtendedStatistics") or []
    if bool(simple) == bool(extended):
        raise bad_combination(
            "Either the parameter Statistics or the parameter ExtendedStatistics must be specified, not both."
        )
    try:
        readers = {name: percentile(name) for name in extended}
    except BadStatistic as error:
        raise bad_value(str(error)) from None
    period: int = request["Period"]
    if not is_period(period):
        raise bad_value("The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
    start, end = _span(request, period, ctx.world.metrics, ctx.world.now(), bad_combination)
    count = len(metrics_queries.times(start, min(end, start + 10 * POINTS * period), period / ctx.world.metrics.time_scale))
    if count > POINTS:
        raise bad_combination(
            f"You have requested up to {count:,} datapoints, which exceeds the limit of {POINTS:,}. You may reduce the "
            "datapoints requested by increasing Period, or decreasing the time range."
        )
    dimensions = {d["Name"]: d["Value"] for d in request.get("Dimensions", ())}
    wanted = metric(ctx.account, ctx.region, request["Namespace"], request["MetricName"], dimensions)
    (found,) = await ctx.world.metrics.query([Query(wanted, start, end, period, request.get("Unit"))])
    datapoints = []
    for point in found:
        row: dict[str, Any] = {"Timestamp": _moment(point.start), "Unit": point.unit}
        row.update((name, SIMPLE[name](point.statistics)) for name in simple)
        if extended:
            told = {name: read(point.statistics) for name, read in readers.items()}
            row["ExtendedStatistics"] = {name: value for name, value in told.items() if value is not None}
        datapoints.append(row)
    return {"Label": request["MetricName"], "Datapoints": datapoints}


async def get_metric_data(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Pages are of whole queries' results, cut in the order asked for."""
    refuse("GetMetricData", request)
    queries = request["MetricDataQueries"]
    if not 1 <= len(queries) <= QUERIES:
        raise validation_error(f"The collection MetricDataQueries must have from 1 to {QUERIES} members.")
    limit = request.get("MaxDatapoints", DATA_POINTS)
    if not 1 <= limit <= DATA_POINTS:
        raise validation_error(f"The parameter MaxDatapoints must be from 1 to {DATA_POINTS}.")
    try:
        asks = await asyncio.to_thread(metrics_queries.checked, ctx.account, ctx.region, queries)
    except BadQuery as error:
        raise validation_error(str(error)) from None
    wanted = [ask for ask in asks if ask.returned]
    if not wanted:
        raise validation_error("At least one of the queries must have ReturnData true.")
    metrics, now = ctx.world.metrics, ctx.world.now()
    spans = {ask.period: _span(request, ask.period, metrics, now, validation_error) for ask in asks}
    planned = sum((spans[ask.period][1] - spans[ask.period][0]) * metrics.time_scale / ask.period + 1 for ask in asks)
    if planned > 5 * DATA_POINTS:
        raise validation_error("The queries ask for too many datapoints: ask for a shorter time, or a longer Period.")
    await metrics.flush()

    def read(connection: Connection) -> dict[str, list[Series]]:
        return metrics_queries.evaluate(connection, metrics, asks, [ask.id for ask in wanted], spans)

    try:
        found = await ctx.world.db.read(read)
    except MathError as error:
        raise validation_error(str(error)) from None
    descending = request.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    rows = [(ask.id, _label(ask, series, len(found[ask.id])), series) for ask in wanted for series in found[ask.id]]
    offset = page_start(request.get("NextToken"), Annotated[int, msgspec.Meta(ge=0)]) or 0
    return await asyncio.to_thread(_page, rows, offset, limit, descending)


def _page(rows: Sequence[tuple[str, str, Series]], offset: int, limit: int, descending: bool) -> dict[str, Any]:
    """Datapoints from `offset` on, counted over all results."""
    results: list[dict[str, Any]] = []
    skipped, left = offset, limit
    for ident, label, series in rows:
        points = sorted(series.points.items(), reverse=descending)
        if points and skipped >= len(points):
            skipped -= len(points)
            continue
        if left <= 0 and points:
            return {"MetricDataResults": results, "NextToken": page_token(offset + limit)}
        taken = points[skipped : skipped + left]
        partial = skipped + len(taken) < len(points)
        skipped = 0
        left -= len(taken)
        results.append(
            {
                "Id": ident,
                "Label": label,
                "Timestamps": [_moment(at) for at, _ in taken],
                "Values": [value for _, value in taken],
                "StatusCode": "PartialData" if partial else "Complete",
            }
        )
        if partial:
            return {"MetricDataResults": results, "NextToken": page_token(offset + limit)}
    return {"MetricDataResults": results, "Messages": []}


def _label(ask: Ask, series: Series, count: int) -> str:
    """Of several series that one expression gives, each is told by its metric."""
    return f"{ask.label} {series.label}".rstrip() if count > 1 else ask.label


def _span(request: Mapping[str, Any], period: int, metrics: Metrics, now: float, error: Any) -> tuple[float, float]:
    """Begin, rounded down as AWS does by its age, and end of what is asked for."""
    start, end = request["StartTime"].timestamp(), request["EndTime"].timestamp()
    if start >= end:
        raise error("The parameter StartTime must be less than the parameter EndTime.")
    age = (now - start) * metrics.time_scale
    step = min(period, 60) if age < 15 * DAY else 300 if age < 63 * DAY else 3600
    return metrics.floor(start, step), end


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(round(at * 1000) / 1000, UTC)
