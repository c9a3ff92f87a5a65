"""What the autoscaler did, and what it decided not to do: the activities that AWS shows, and the notes of `scaling explain`.

Bounded: by age (AWS keeps six weeks) and by number for each resource, so that an alarm that never ends does not fill the disk;
a note that says the same as the last one of its resource is counted on it instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Index, Table, Text, and_, delete, or_, select, update

from slipway.store.scaling import Place, read_token, write_token
from slipway.store.schema import Json, Moment, Number, Word, metadata

KEPT_SECONDS = 42 * 86_400.0
"""AWS: "activities from the last six weeks"."""
KEPT = 1000
"""Rows of one resource and kind at most."""

SCALED = "scaled"
NOT_SCALED = "not-scaled"
"""Shown with IncludeNotScaledActivities: it has a NotScaledReasons code."""
NOTE = "note"
"""Shown by `scaling explain` alone: AWS has no code for it (a cooldown, a suspended state, an update under way)."""

activities = Table(
    "scaling_activities",
    metadata,
    Column("id", Word, primary_key=True),
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("resource_id", Word, nullable=False),
    Column("dimension", Word, nullable=False),
    Column("kind", Word, nullable=False),
    Column("started", Moment, nullable=False),
    Column("ended", Moment),
    Column("status", Word, nullable=False),
    Column("description", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("decision", Json, nullable=False),
    Column("repeated", Number, nullable=False),
    Index(None, "account", "region", "resource_id", "started"),
)


@dataclass(frozen=True, slots=True)
class Activity:
    id: str
    account: str
    region: str
    resource_id: str
    dimension: str
    kind: str
    started: float
    ended: float | None
    """Of a note: when it last held."""
    status: str
    """AWS's StatusCode."""
    description: str
    cause: str
    message: str = ""
    reasons: list[dict[str, Any]] = field(default_factory=list)
    """NotScaledReasons, in AWS's members."""
    decision: dict[str, Any] = field(default_factory=dict)
    """The `core.scaling.Decision` behind it."""
    repeated: int = 1
    """How many times in a row it was so."""


_COLUMNS = [activities.c[f.name] for f in fields(Activity)]


def _of(place: Place) -> ColumnElement[bool]:
    return and_(*(activities.c[name] == value for name, value in place._asdict().items()))


def add(connection: Connection, activity: Activity) -> None:
    """Insert it, and drop what is beyond KEPT of its resource and kind."""
    connection.execute(activities.insert().values({f.name: getattr(activity, f.name) for f in fields(Activity)}))
    place = Place(activity.account, activity.region, activity.resource_id, activity.dimension)
    mine = _of(place) & (activities.c.kind == activity.kind)
    newest = select(activities.c.started).where(mine).order_by(activities.c.started.desc()).offset(KEPT).limit(1)
    if (oldest := connection.execute(newest).scalar_one_or_none()) is not None:
        connection.execute(delete(activities).where(mine, activities.c.started <= oldest, activities.c.ended.is_not(None)))


def note(connection: Connection, activity: Activity) -> None:
    """Add a note or a not-scaled activity; one that repeats the newest row of its resource is counted there."""
    place = Place(activity.account, activity.region, activity.resource_id, activity.dimension)
    newest = select(*_COLUMNS).where(_of(place)).order_by(activities.c.started.desc(), activities.c.id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    last = None if row is None else Activity(*row)
    same = last is not None and (last.kind, last.description, last.cause, last.reasons) == (
        activity.kind,
        activity.description,
        activity.cause,
        activity.reasons,
    )
    if last is None or not same:
        add(connection, activity)
        return
    values = {
        "ended": activity.ended,
        "repeated": last.repeated + 1,
        "decision": activity.decision,
        "message": activity.message,
    }
    connection.execute(update(activities).where(activities.c.id == last.id).values(values))


def get(connection: Connection, id: str) -> Activity | None:
    row = connection.execute(select(*_COLUMNS).where(activities.c.id == id)).one_or_none()
    return None if row is None else Activity(*row)


def finish(connection: Connection, id: str, status: str, message: str, ended: float) -> None:
    """The end of an activity that is in progress; one that has ended stays as it is."""
    where = (activities.c.id == id, activities.c.ended.is_(None))
    connection.execute(update(activities).where(*where).values(status=status, message=message, ended=ended))


def purge(connection: Connection, before: float) -> None:
    """Drop everything that began before this moment."""
    connection.execute(delete(activities).where(activities.c.started < before))


@dataclass(frozen=True, slots=True)
class Listing:
    account: str
    region: str
    resource_id: str | None = None
    dimension: str | None = None
    kinds: Sequence[str] = (SCALED,)
    since: float = 0.0
    limit: int = 50
    token: str | None = None


def find(connection: Connection, listing: Listing) -> tuple[list[Activity], str | None]:
    """One page, newest first, and the next one's token. Raises BadToken."""
    c = activities.c
    where: list[ColumnElement[bool]] = [
        c.account == listing.account,
        c.region == listing.region,
        c.kind.in_(listing.kinds),
        c.started >= listing.since,
    ]
    if listing.resource_id is not None:
        where.append(c.resource_id == listing.resource_id)
    if listing.dimension is not None:
        where.append(c.dimension == listing.dimension)
    if listing.token is not None:
        started, id = read_token(listing.token, activities.name)
        where.append(or_(c.started < started, and_(c.started == started, c.id < id)))
    statement = select(*_COLUMNS).where(*where).order_by(c.started.desc(), c.id.desc()).limit(listing.limit + 1)
    rows = [Activity(*row) for row in connection.execute(statement)]
    if len(rows) <= listing.limit:
        return rows, None
    last = rows[listing.limit - 1]
    return rows[: listing.limit], write_token(activities.name, last.started, last.id)
