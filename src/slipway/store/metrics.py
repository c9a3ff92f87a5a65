"""Metrics: series, and their statistics in buckets of time.

A series is account, region, namespace, name, dimensions and unit. Its points are buckets of 1, 10, 60, 300 or 3600 nominal
seconds (`step`; real time is step / time scale); `roll` makes old fine ones into coarser ones, and `expire` ends the oldest.
All functions run inside `Db.read` or `Db.write`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Double,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Row,
    Select,
    Table,
    UniqueConstraint,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)

from slipway.core.histograms import Statistics, packed, unpacked
from slipway.store.schema import Json, Moment, Number, Serial, Word, insert, metadata

T = TypeVar("T")

series = Table(
    "metric_series",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("namespace", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("dimensions", Word, nullable=False),
    Column("unit", Word, nullable=False),
    Column("last", Moment, nullable=False),
    UniqueConstraint(
        "account", "region", "namespace", "name", "dimensions", "unit", name="uq_metric_series_account_region_namespace_name"
    ),
)

points = Table(
    "metric_points",
    metadata,
    Column("series", Number, nullable=False),
    Column("step", Integer, nullable=False),
    Column("start", Moment, nullable=False),
    Column("count", Double, nullable=False),
    Column("sum", Double, nullable=False),
    Column("minimum", Double, nullable=False),
    Column("maximum", Double, nullable=False),
    Column("buckets", Json),
    PrimaryKeyConstraint("series", "step", "start"),
    Index("ix_metric_points_step", "step", "start"),
)

sources = Table(
    "metric_sources",
    metadata,
    Column("source", Word, primary_key=True),
    Column("number", Number, nullable=False),
    Column("at", Moment, nullable=False),
)

_CHUNK = 300
"""Rows of one statement."""


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """What a metric is called, but for its unit."""

    account: str
    region: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    """Sorted by name."""


@dataclass(frozen=True, slots=True)
class Key:
    """One bucket of one series."""

    metric: Metric
    unit: str
    step: int
    start: float


@dataclass(frozen=True, slots=True)
class Point:
    unit: str
    start: float
    """Epoch seconds."""
    step: int
    statistics: Statistics


def metric(account: str, region: str, namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
    return Metric(account, region, namespace, name, tuple(sorted(dimensions.items())))


def resolve(connection: Connection, keys: Iterable[tuple[Metric, str]]) -> dict[tuple[Metric, str], int]:
    """The ids of those series (metric and unit) that there are."""
    asked = set(keys)
    found: dict[tuple[Metric, str], int] = {}
    for ident, name in _identities(connection, {metric for metric, _ in asked}):
        if name in asked:
            found[name] = ident
    return found


def _identities(connection: Connection, wanted: Iterable[Metric]) -> Iterator[tuple[int, tuple[Metric, str]]]:
    """Id, metric and unit of each series of these metrics."""
    ordered = sorted(wanted, key=_place)
    for place, members in groupby(ordered, key=_place):
        for chunk in _chunks(members):
            named = {(each.name, _text(each.dimensions)): each for each in chunk}
            where = and_(
                *(c == v for c, v in zip(_PLACE, place, strict=True)),
                series.c.name.in_({name for name, _ in named}),
                series.c.dimensions.in_({text for _, text in named}),
            )
            for row in connection.execute(select(series.c.id, series.c.name, series.c.dimensions, series.c.unit).where(where)):
                if (known := named.get((row.name, row.dimensions))) is not None:
                    yield row.id, (known, row.unit)


def _place(metric: Metric) -> tuple[str, str, str]:
    return metric.account, metric.region, metric.namespace


_PLACE = (series.c.account, series.c.region, series.c.namespace)
_NAMES = (series.c.account, series.c.region, series.c.namespace, series.c.name)


def counts(connection: Connection) -> dict[str, int]:
    """How many series each account has."""
    return {
        row.account: row.n for row in connection.execute(select(series.c.account, func.count().label("n")).group_by("account"))
    }


def store(
    connection: Connection,
    deltas: Mapping[Key, Statistics],
    known: Mapping[tuple[Metric, str], int],
    marks: Mapping[str, int],
    now: float,
) -> dict[tuple[Metric, str], int]:
    """Add what was counted to what is there. `known`: ids that need no look-up; returns those of the other series.

    `marks`: by source, the number of its last batch that is among the counts.
    """
    if marks:
        statement: Any = insert(connection, sources).values([{"source": s, "number": n, "at": now} for s, n in marks.items()])
        changed = {"number": statement.excluded.number, "at": statement.excluded.at}
        connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=changed))
    last: dict[tuple[Metric, str], float] = {}
    for key in deltas:
        name = (key.metric, key.unit)
        last[name] = max(last.get(name, 0.0), key.start)
    fresh = _identified(connection, {name: at for name, at in last.items() if name not in known})
    ids = {name: known.get(name) or fresh[name] for name in last}
    rows = {(ids[key.metric, key.unit], key.step, key.start): delta for key, delta in deltas.items()}
    _merge(connection, rows)
    touched = {name: at for name, at in last.items() if name not in fresh}
    for at, names in groupby(sorted(touched, key=lambda name: touched[name]), key=lambda name: touched[name]):
        for chunk in _chunks(names):
            where = series.c.id.in_([ids[name] for name in chunk]) & (series.c.last < at)
            connection.execute(update(series).where(where).values(last=at))
    return fresh


def marked(connection: Connection, source: str) -> int:
    """The number of the source's last batch; 0: none."""
    return connection.execute(select(sources.c.number).where(sources.c.source == source)).scalar_one_or_none() or 0


def forget_marks(connection: Connection, before: float) -> None:
    """Of sources that were not heard of since."""
    connection.execute(delete(sources).where(sources.c.at < before))


def _identified(connection: Connection, names: Mapping[tuple[Metric, str], float]) -> dict[tuple[Metric, str], int]:
    """Ids of series, made where there are none yet."""
    for chunk in _chunks(names.items()):
        values = [
            {
                "account": m.account,
                "region": m.region,
                "namespace": m.namespace,
                "name": m.name,
                "dimensions": _text(m.dimensions),
                "unit": unit,
                "last": at,
            }
            for (m, unit), at in chunk
        ]
        statement: Any = insert(connection, series)
        there = [*_NAMES, series.c.dimensions, series.c.unit]
        newer = func.max if connection.dialect.name == "sqlite" else func.greatest
        changed = {"last": newer(series.c.last, statement.excluded.last)}
        connection.execute(statement.on_conflict_do_update(index_elements=there, set_=changed), values)
    return resolve(connection, names)


def _merge(connection: Connection, rows: Mapping[tuple[int, int, float], Statistics]) -> None:
    """Merge statistics into the points (series, step, start), whether they are there or not."""
    # One statement for each row, prepared once: a statement of many rows takes SQLAlchemy longer than the database.
    statement: Any = insert(connection, points)
    changed = {c: statement.excluded[c] for c in ("count", "sum", "minimum", "maximum", "buckets")}
    upsert = statement.on_conflict_do_update(index_elements=["series", "step", "start"], set_=changed)
    for chunk in _chunks(sorted(rows, key=lambda key: key[1:])):
        whole = {key: rows[key] for key in chunk}
        for row in connection.execute(_there(chunk)):
            before = _statistics(row)
            before.merge(whole[row.series, row.step, row.start])
            whole[row.series, row.step, row.start] = before
        connection.execute(upsert, [_row(*key, statistics) for key, statistics in whole.items()])


def _there(keys: Sequence[tuple[int, int, float]]) -> Select[Any]:
    """Those of the points that are there. Mostly they are of one moment: then the statement is one that is known."""
    moments = {(step, start) for _, step, start in keys}
    if len(moments) == 1:
        ((step, start),) = moments
        where = and_(points.c.series.in_([key[0] for key in keys]), points.c.step == step, points.c.start == start)
    else:
        where = tuple_(points.c.series, points.c.step, points.c.start).in_(keys)
    return select(points).where(where)


def read(
    connection: Connection,
    wanted: Metric,
    start: float,
    end: float,
    longest: int,
    unit: str | None = None,
    most: int | None = None,
) -> list[Point]:
    """Points that begin in [start, end) and whose step is `longest` nominal seconds at most, in the order of time."""
    where = [points.c.start >= start, points.c.start < end, points.c.step <= longest, *_is(wanted)]
    if unit is not None:
        where.append(series.c.unit == unit)
    columns = select(points, series.c.unit).join(series, series.c.id == points.c.series).where(*where).order_by(points.c.start)
    return [Point(row.unit, row.start, row.step, _statistics(row)) for row in connection.execute(columns.limit(most))]


def read_many(
    connection: Connection, wanted: Iterable[Metric], start: float, end: float, longest: int
) -> dict[Metric, list[Point]]:
    """As `read`, of many metrics at once; those without points are not named."""
    found: dict[Metric, list[Point]] = {}
    for chunk in _chunks(_identities(connection, set(wanted))):
        names = dict(chunk)
        when = and_(points.c.start >= start, points.c.start < end, points.c.step <= longest)
        query = select(points).where(points.c.series.in_(list(names)), when).order_by(points.c.start)
        for row in connection.execute(query):
            metric, unit = names[row.series]
            found.setdefault(metric, []).append(Point(unit, row.start, row.step, _statistics(row)))
    return found


def _is(wanted: Metric) -> list[Any]:
    values = (wanted.account, wanted.region, wanted.namespace, wanted.name)
    return [*(c == v for c, v in zip(_NAMES, values, strict=True)), series.c.dimensions == _text(wanted.dimensions)]


def listed(
    connection: Connection,
    account: str,
    region: str,
    *,
    namespace: str | None,
    name: str | None,
    dimensions: Sequence[tuple[str, str | None]],
    since: float,
    after: Metric | None,
    limit: int,
) -> list[Metric]:
    """Metrics with data since then, in order, after `after`; those that have all `dimensions` (None: whatever the value)."""
    where = [series.c.account == account, series.c.region == region, series.c.last >= since]
    if namespace is not None:
        where.append(series.c.namespace == namespace)
    if name is not None:
        where.append(series.c.name == name)
    place = (series.c.namespace, series.c.name, series.c.dimensions)
    found: list[Metric] = []
    last = None if after is None else (after.namespace, after.name, _text(after.dimensions))
    while len(found) < limit:
        here = where if last is None else [*where, _beyond(place, last)]
        rows = connection.execute(select(*place).where(*here).distinct().order_by(*place).limit(1000)).all()
        if not rows:
            break
        for row in rows:
            last = (row.namespace, row.name, row.dimensions)
            candidate = Metric(account, region, row.namespace, row.name, _dimensions(row.dimensions))
            if _has(candidate.dimensions, dimensions):
                found.append(candidate)
                if len(found) == limit:
                    break
    return found


def _beyond(place: tuple[Any, Any, Any], last: tuple[str, str, str]) -> Any:
    a, b, c = place
    x, y, z = last
    return or_(a > x, and_(a == x, b > y), and_(a == x, b == y, c > z))


def _has(dimensions: tuple[tuple[str, str], ...], wanted: Sequence[tuple[str, str | None]]) -> bool:
    mine = dict(dimensions)
    return all(name in mine and (value is None or mine[name] == value) for name, value in wanted)


def roll(connection: Connection, step: int, to: int, before: float, floor: Callable[[float], float], limit: int = 500) -> int:
    """Merge the oldest points of `step` that began before `before` into those of `to`; how many (call again)."""
    where = (points.c.step == step) & (points.c.start < before)
    rows = connection.execute(select(points).where(where).order_by(points.c.start).limit(limit)).all()
    merged: dict[tuple[int, int, float], Statistics] = {}
    for row in rows:
        merged.setdefault((row.series, to, floor(row.start)), Statistics()).merge(_statistics(row))
    _merge(connection, merged)
    for chunk in _chunks([(row.series, row.start) for row in rows]):
        connection.execute(delete(points).where(points.c.step == step, tuple_(points.c.series, points.c.start).in_(chunk)))
    return len(rows)


def expire(connection: Connection, step: int, before: float, limit: int = 2000) -> int:
    """Delete the oldest points of `step` that began before; how many."""
    where = (points.c.step == step) & (points.c.start < before)
    rows = connection.execute(select(points.c.series, points.c.start).where(where).order_by(points.c.start).limit(limit)).all()
    for chunk in _chunks(sorted(rows, key=lambda key: key[1:])):
        keys = [(row.series, row.start) for row in chunk]
        connection.execute(delete(points).where(points.c.step == step, tuple_(points.c.series, points.c.start).in_(keys)))
    return len(rows)


def forget(connection: Connection, before: float) -> int:
    """Delete series without a point that were not written since."""
    empty = ~exists().where(points.c.series == series.c.id)
    return connection.execute(delete(series).where(series.c.last < before, empty)).rowcount


def _row(ident: int, step: int, start: float, statistics: Statistics) -> dict[str, Any]:
    return {
        "series": ident,
        "step": step,
        "start": start,
        "count": statistics.count,
        "sum": statistics.sum,
        "minimum": statistics.minimum,
        "maximum": statistics.maximum,
        "buckets": packed(statistics.buckets),
    }


def _statistics(row: Row[Any]) -> Statistics:
    values = row._mapping
    return Statistics(values["count"], values["sum"], values["minimum"], values["maximum"], unpacked(values["buckets"]))


def _text(dimensions: tuple[tuple[str, str], ...]) -> str:
    return msgspec.json.encode(dimensions).decode()


def _dimensions(text: str) -> tuple[tuple[str, str], ...]:
    return msgspec.json.decode(text, type=tuple[tuple[str, str], ...])


def _chunks(rows: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
