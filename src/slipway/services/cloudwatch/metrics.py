"""PutMetricData and ListMetrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from slipway.backing.metrics import LISTED_SECONDS, Metric, TooManySeries, metric
from slipway.core.histograms import Statistics, told
from slipway.services import Context
from slipway.services.cloudwatch.errors import bad_combination, bad_value, missing, page_start, page_token, refuse
from slipway.store import metrics as rows
from slipway.wire.errors import AwsError

DATA = 1000
"""Metrics of one call."""
VALUES = 150
"""Different values of one datum."""
OLDEST_SECONDS = 14 * 86_400.0
NEWEST_SECONDS = 2 * 3600.0
LARGEST = 2.0**360
PAGE = 500
RECENT_SECONDS = 3 * 3600.0


async def put_metric_data(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """All data of a call or none; durable when it is answered."""
    refuse("PutMetricData", request)
    data = request.get("MetricData") or []
    if not data:
        raise missing("The parameter MetricData is required.")
    if len(data) > DATA:
        raise bad_value(f"The collection MetricData must not have a size greater than {DATA}.")
    now = ctx.world.now()
    read = [_datum(ctx, request["Namespace"], datum, f"MetricData.member.{n}", now) for n, datum in enumerate(data, 1)]
    metrics = ctx.world.metrics
    try:
        await metrics.admit((name, unit) for name, unit, *_ in read)
    except TooManySeries:
        raise AwsError("LimitExceeded", "The account has as many metrics as one account may have.") from None
    for name, unit, statistics, at, resolution in read:
        metrics.merge(
            ctx.account,
            ctx.region,
            name.namespace,
            name.name,
            dict(name.dimensions),
            statistics,
            unit,
            at=at,
            resolution=resolution,
        )
    await metrics.flush()
    return {}


def _datum(
    ctx: Context, namespace: str, datum: Mapping[str, Any], where: str, now: float
) -> tuple[Metric, str, Statistics, float, int]:
    dimensions: dict[str, str] = {}
    for dimension in datum.get("Dimensions", ()):
        dimensions[dimension["Name"]] = dimension["Value"]
    at = datum["Timestamp"].timestamp() if "Timestamp" in datum else now
    if at < now - OLDEST_SECONDS:
        raise bad_value(f"The parameter {where}.Timestamp must specify a time no more than two weeks in the past.")
    if at > now + NEWEST_SECONDS:
        raise bad_value(f"The parameter {where}.Timestamp must specify a time no more than two hours in the future.")
    resolution = datum.get("StorageResolution", 60)
    if resolution not in (1, 60):
        raise bad_value(f"The parameter {where}.StorageResolution must be 1 or 60.")
    name = metric(ctx.account, ctx.region, namespace, datum["MetricName"], dimensions)
    return name, datum.get("Unit", "None"), _statistics(datum, where), at, resolution


def _statistics(datum: Mapping[str, Any], where: str) -> Statistics:
    forms = [form for form in ("Value", "StatisticValues", "Values") if form in datum]
    if not forms:
        raise missing(
            f"At least one of the parameters {where}.Value, {where}.Values or {where}.StatisticValues must be specified."
        )
    if len(forms) > 1:
        raise bad_combination(
            f"The parameters {where}.{forms[0]} and {where}.{forms[1]} are mutually exclusive and you have specified both."
        )
    if "Value" in datum:
        found = Statistics()
        found.add(_number(datum["Value"], f"{where}.Value"))
        return found
    if "StatisticValues" in datum:
        return _told(datum["StatisticValues"], f"{where}.StatisticValues")
    return _counted(datum, where)


def _told(given: Mapping[str, float], where: str) -> Statistics:
    names = ("SampleCount", "Sum", "Minimum", "Maximum")
    count, total, least, most = (_number(given[name], f"{where}.{name}") for name in names)
    if count < 0:
        raise bad_value(f"The parameter {where}.SampleCount must be greater than or equal to 0.")
    if least > most:
        raise bad_value(f"The parameter {where}.Maximum must be greater than or equal to {where}.Minimum.")
    if count == 0:
        raise bad_value(f"The parameter {where}.SampleCount must be greater than 0.")
    return told(count, total, least, most)


def _counted(datum: Mapping[str, Any], where: str) -> Statistics:
    values = datum["Values"]
    counts = datum.get("Counts", [1.0] * len(values))
    if not values or len(values) > VALUES:
        raise bad_value(f"The parameter {where}.Values must have from 1 to {VALUES} members.")
    if len(counts) != len(values):
        raise bad_value(f"The parameters {where}.Values and {where}.Counts must be of the same size.")
    found = Statistics()
    for value, count in zip(values, counts, strict=True):
        if not _number(count, f"{where}.Counts") > 0:
            raise bad_value(f"The parameter {where}.Counts must hold numbers greater than 0.")
        found.add(_number(value, f"{where}.Values"), count)
    return found


def _number(value: float, where: str) -> float:
    """CloudWatch's numbers: -2^360 to 2^360, nothing infinite."""
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise bad_value(f"The value {value} for parameter {where} is invalid.")
    return float(value)


async def list_metrics(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Metrics with data of the last two weeks (three hours with RecentlyActive), 500 at a time."""
    refuse("ListMetrics", request)
    seconds = RECENT_SECONDS if request.get("RecentlyActive") else LISTED_SECONDS
    start = page_start(request.get("NextToken"), tuple[str, str, tuple[tuple[str, str], ...]])
    after = None if start is None else Metric(ctx.account, ctx.region, *start)
    await ctx.world.metrics.flush()
    found = await ctx.world.db.read(
        lambda c: rows.listed(
            c,
            ctx.account,
            ctx.region,
            namespace=request.get("Namespace"),
            name=request.get("MetricName"),
            dimensions=[(d["Name"], d.get("Value")) for d in request.get("Dimensions", ())],
            since=ctx.world.now() - seconds,
            after=after,
            limit=PAGE + 1,
        )
    )
    answer: dict[str, Any] = {"Metrics": list(_listed(found[:PAGE]))}
    if len(found) > PAGE:
        last = found[PAGE - 1]
        answer["NextToken"] = page_token((last.namespace, last.name, last.dimensions))
    return answer


def _listed(found: list[Metric]) -> Iterator[dict[str, Any]]:
    for each in found:
        dimensions = [{"Name": name, "Value": value} for name, value in each.dimensions]
        yield {"Namespace": each.namespace, "MetricName": each.name, "Dimensions": dimensions}
