"""Named resources (models, endpoint configurations, endpoints, …), their tags, and the replicas that control asked for.

A resource is found by account, region, kind and lower-cased name: AWS compares names without case on the control plane.
All functions run inside `Db.read` or `Db.write`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    and_,
    delete,
    func,
    or_,
    select,
    update,
)

from slipway.store.schema import Json, Moment, Number, Word, insert, metadata

resources = Table(
    "resources",
    metadata,
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("kind", Word, nullable=False),
    Column("key", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("arn", Word, nullable=False),
    Column("spec", Json, nullable=False),
    Column("status", Word, nullable=False),
    Column("reason", Text, nullable=False),
    Column("desired", Json, nullable=False),
    Column("observed", Json, nullable=False),
    Column("generation", Number, nullable=False),
    Column("observed_generation", Number, nullable=False),
    Column("created", Moment, nullable=False),
    Column("modified", Moment, nullable=False),
    PrimaryKeyConstraint("account", "region", "kind", "key"),
    UniqueConstraint("arn"),
)

tags = Table(
    "tags",
    metadata,
    Column("arn", Word, nullable=False),
    Column("key", Word, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("arn", "key"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", Word, primary_key=True),
    Column("owner", Word, nullable=False, index=True),
    Column("variant", Word, nullable=False),
    Column("generation", Number, nullable=False),
    Column("spec", Json, nullable=False),
    Column("created", Moment, nullable=False),
)


class Exists(Exception):
    """A resource of that kind and name is there already."""


class BadToken(ValueError):
    """A page token that we did not give for this listing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One row. Change it with `dataclasses.replace` and `save`."""

    account: str
    region: str
    kind: str
    """As in the ARN: `model`, `endpoint-config`, `endpoint`."""
    name: str
    """In the caller's case."""
    arn: str
    spec: dict[str, Any]
    """What was asked for, in AWS's member names; JSON values only."""
    created: float
    modified: float
    status: str = ""
    reason: str = ""
    desired: dict[str, Any] = field(default_factory=dict)
    """Counts and weights to be reached; written by services and autoscaling."""
    observed: dict[str, Any] = field(default_factory=dict)
    """What is; written by control."""
    generation: int = 1
    """Counts the changes of `spec`."""
    observed_generation: int = 0
    """The generation that was last reached."""


@dataclass(frozen=True, slots=True)
class Query:
    """A listing's filters, order and page. Times are epoch seconds; `after` and `before` exclude the moment itself."""

    name_contains: str = ""
    """Without regard to case."""
    created_after: float | None = None
    created_before: float | None = None
    modified_after: float | None = None
    modified_before: float | None = None
    statuses: tuple[str, ...] = ()
    """Any of these; empty: all."""
    sort: str = "created"
    """`name`, `created`, `status` or `modified`."""
    descending: bool = False
    limit: int = 10
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Resource]
    token: str | None
    """For the next page; None: this was the last."""


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """A replica that control decided to have; it is there before the keeper is asked, and goes after the keeper stopped it."""

    id: str
    owner: str
    """ARN of the endpoint or job."""
    variant: str
    generation: int
    spec: Any
    """A `core.replicas.ReplicaSpec` (or any JSON value) when written; plain dicts and lists when read: `msgspec.convert`."""
    created: float


_COLUMNS = [resources.c[f.name] for f in fields(Resource)]
_IDENTITY = frozenset(("account", "region", "kind", "name", "arn", "created"))
_SORTS = {"name": "key", "created": "created", "status": "status", "modified": "modified"}


def _place(account: str, region: str, kind: str) -> ColumnElement[bool]:
    return and_(resources.c.account == account, resources.c.region == region, resources.c.kind == kind)


def add(connection: Connection, resource: Resource) -> None:
    """Raises Exists, with nothing changed."""
    values: dict[str, Any] = {f.name: getattr(resource, f.name) for f in fields(Resource)}
    values["key"] = resource.name.lower()
    statement = insert(connection, resources).values(values).on_conflict_do_nothing().returning(resources.c.arn)
    if connection.execute(statement).first() is None:  # an INSERT's row count is not to be had from psycopg
        raise Exists(resource.arn)


def get(connection: Connection, account: str, region: str, kind: str, name: str) -> Resource | None:
    where = _place(account, region, kind) & (resources.c.key == name.lower())
    row = connection.execute(select(*_COLUMNS).where(where)).one_or_none()
    return None if row is None else Resource(*row)


def get_by_arn(connection: Connection, arn: str) -> Resource | None:
    row = connection.execute(select(*_COLUMNS).where(resources.c.arn == arn)).one_or_none()
    return None if row is None else Resource(*row)


def every(connection: Connection, kind: str, statuses: Sequence[str] = ()) -> list[Resource]:
    """All of a kind, of all accounts and regions, oldest first: what a reconciler begins with."""
    where = resources.c.kind == kind
    if statuses:
        where &= resources.c.status.in_(statuses)
    order = (resources.c.created, resources.c.arn)
    return [Resource(*row) for row in connection.execute(select(*_COLUMNS).where(where).order_by(*order))]


def count(connection: Connection, account: str, region: str, kind: str) -> int:
    """For quotas."""
    where = _place(account, region, kind)
    return connection.execute(select(func.count()).select_from(resources).where(where)).scalar_one()


def find(connection: Connection, account: str, region: str, kind: str, query: Query) -> Page:
    """One page. Pages neither repeat nor skip what stays, whatever is added or deleted meanwhile. Raises BadToken."""
    where = [_place(account, region, kind), *_filters(query)]
    column = resources.c[_SORTS[query.sort]]
    key = resources.c.key
    if query.token is not None:
        value, name = _read_token(query, kind)
        if query.descending:
            where.append(or_(column < value, and_(column == value, key < name)))
        else:
            where.append(or_(column > value, and_(column == value, key > name)))
    order = (column.desc(), key.desc()) if query.descending else (column, key)
    rows = connection.execute(select(*_COLUMNS).where(*where).order_by(*order).limit(query.limit + 1)).all()
    items = [Resource(*row) for row in rows[: query.limit]]
    return Page(items, _write_token(query, kind, items[-1]) if len(rows) > query.limit else None)


def _filters(query: Query) -> list[ColumnElement[bool]]:
    c = resources.c
    found: list[ColumnElement[bool]] = []
    if query.name_contains:
        found.append(c.key.contains(query.name_contains.lower(), autoescape=True))
    if query.statuses:
        found.append(c.status.in_(query.statuses))
    for column, after, before in (
        (c.created, query.created_after, query.created_before),
        (c.modified, query.modified_after, query.modified_before),
    ):
        if after is not None:
            found.append(column > after)
        if before is not None:
            found.append(column < before)
    return found


def _write_token(query: Query, kind: str, last: Resource) -> str:
    value: str | float = last.name.lower() if query.sort == "name" else getattr(last, query.sort)
    return base64.urlsafe_b64encode(
        msgspec.json.encode((kind, query.sort, query.descending, value, last.name.lower()))
    ).decode()


def _read_token(query: Query, kind: str) -> tuple[str | float, str]:
    try:
        raw = base64.b64decode(query.token or "", altchars=b"-_", validate=True)
        their_kind, sort, descending, value, name = msgspec.json.decode(raw, type=tuple[str, str, bool, str | float, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadToken("not a page token") from error
    wanted = float if query.sort in ("created", "modified") else str
    if (their_kind, sort, descending) != (kind, query.sort, query.descending) or not isinstance(value, wanted):
        raise BadToken("a page token of another listing")
    return value, name


def save(connection: Connection, old: Resource, new: Resource) -> bool:
    """Write the fields in which `new` differs from `old`, if the row still has the status and generation of `old`.

    Fields that are equal are left alone, so that two writers of different fields do not undo each other. False: the row is
    gone or has moved on; read it again.
    """
    changes = {f.name: getattr(new, f.name) for f in fields(Resource) if getattr(new, f.name) != getattr(old, f.name)}
    if not _IDENTITY.isdisjoint(changes):
        raise ValueError(f"a resource keeps its {', '.join(sorted(_IDENTITY & changes.keys()))}")
    where = and_(
        resources.c.arn == old.arn,
        resources.c.created == old.created,
        resources.c.status == old.status,
        resources.c.generation == old.generation,
    )
    if not changes:
        return connection.execute(select(resources.c.arn).where(where)).first() is not None
    return connection.execute(update(resources).where(where).values(changes)).rowcount == 1


def remove(connection: Connection, arn: str, statuses: Sequence[str] = ()) -> bool:
    """Delete the resource (only in one of `statuses`, if given) and its tags; False if there was nothing to delete."""
    where = resources.c.arn == arn
    if statuses:
        where &= resources.c.status.in_(statuses)
    if connection.execute(delete(resources).where(where)).rowcount == 0:
        return False
    connection.execute(delete(tags).where(tags.c.arn == arn))
    return True


def tags_of(connection: Connection, arn: str) -> dict[str, str]:
    """By key, in the order of the keys' bytes."""
    rows = connection.execute(select(tags.c.key, tags.c.value).where(tags.c.arn == arn).order_by(tags.c.key))
    return {row.key: row.value for row in rows}


def set_tags(connection: Connection, arn: str, values: Mapping[str, str]) -> None:
    """Add or overwrite; how many there may be is the caller's to check."""
    if not values:
        return
    statement = insert(connection, tags).values([{"arn": arn, "key": key, "value": value} for key, value in values.items()])
    statement = statement.on_conflict_do_update(index_elements=["arn", "key"], set_={"value": statement.excluded.value})
    connection.execute(statement)


def remove_tags(connection: Connection, arn: str, keys: Sequence[str]) -> None:
    connection.execute(delete(tags).where(tags.c.arn == arn, tags.c.key.in_(keys)))


def add_replicas(connection: Connection, rows: Sequence[ReplicaRow]) -> None:
    """Ids are unique for ever: adding one twice is an error."""
    if rows:
        connection.execute(replicas.insert(), [{f.name: getattr(row, f.name) for f in fields(ReplicaRow)} for row in rows])


def replica(connection: Connection, id: str) -> ReplicaRow | None:
    found = _replicas(connection, replicas.c.id == id)
    return found[0] if found else None


def replicas_of(connection: Connection, owner: str) -> list[ReplicaRow]:
    """Oldest first."""
    return _replicas(connection, replicas.c.owner == owner)


def every_replica(connection: Connection) -> list[ReplicaRow]:
    """Oldest first."""
    return _replicas(connection, None)


def _replicas(connection: Connection, where: ColumnElement[bool] | None) -> list[ReplicaRow]:
    statement = select(*(replicas.c[f.name] for f in fields(ReplicaRow))).order_by(replicas.c.created, replicas.c.id)
    if where is not None:
        statement = statement.where(where)
    return [ReplicaRow(*row) for row in connection.execute(statement)]


def remove_replicas(connection: Connection, ids: Sequence[str]) -> None:
    """Those that are not there do not matter."""
    if ids:
        connection.execute(delete(replicas).where(replicas.c.id.in_(ids)))
