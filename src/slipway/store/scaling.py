"""Application Auto Scaling's tables: scalable targets, their policies and scheduled actions, and what became of them.

A target is found by its place: account, region, resource id (compared byte by byte, as AWS does) and dimension. All functions
run inside `Db.read` or `Db.write`. Activities and the autoscaler's notes (`store.scaling_activities`) outlive their target.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    and_,
    delete,
    func,
    or_,
    select,
    update,
)

from slipway.store import resources
from slipway.store.resources import BadToken
from slipway.store.schema import Json, Moment, Number, Word, insert, metadata

Row = TypeVar("Row")

targets = Table(
    "scalable_targets",
    metadata,
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("resource_id", Word, nullable=False),
    Column("dimension", Word, nullable=False),
    Column("arn", Word, nullable=False),
    Column("endpoint", Word, nullable=False),
    Column("incarnation", Moment, nullable=False),
    Column("variant", Word, nullable=False),
    Column("minimum", Number, nullable=False),
    Column("maximum", Number, nullable=False),
    Column("role", Word, nullable=False),
    Column("suspended", Json, nullable=False),
    Column("created", Moment, nullable=False),
    Column("state", Json, nullable=False),
    PrimaryKeyConstraint("account", "region", "resource_id", "dimension"),
    UniqueConstraint("arn"),
    Index(None, "endpoint"),
)

policies = Table(
    "scaling_policies",
    metadata,
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("resource_id", Word, nullable=False),
    Column("dimension", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("arn", Word, nullable=False),
    Column("kind", Word, nullable=False),
    Column("config", Json, nullable=False),
    Column("alarms", Json, nullable=False),
    Column("created", Moment, nullable=False),
    PrimaryKeyConstraint("account", "region", "resource_id", "dimension", "name"),
    UniqueConstraint("arn"),
)

actions = Table(
    "scheduled_actions",
    metadata,
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("resource_id", Word, nullable=False),
    Column("dimension", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("arn", Word, nullable=False),
    Column("schedule", Word, nullable=False),
    Column("timezone", Word, nullable=False),
    Column("start", Moment),
    Column("end", Moment),
    Column("minimum", Number),
    Column("maximum", Number),
    Column("created", Moment, nullable=False),
    Column("due", Moment),
    PrimaryKeyConstraint("account", "region", "resource_id", "dimension", "name"),
    UniqueConstraint("arn"),
)


class Place(NamedTuple):
    """Where a target is; its policies and actions are there too."""

    account: str
    region: str
    resource_id: str
    dimension: str


@dataclass(frozen=True, slots=True)
class Target:
    """One scalable target, a variant of an endpoint."""

    account: str
    region: str
    resource_id: str
    """`endpoint/NAME/variant/VARIANT`, in the endpoint's own case."""
    dimension: str
    arn: str
    endpoint: str
    """ARN of the endpoint."""
    incarnation: float
    """When that endpoint was created: a later one of the same name is another."""
    variant: str
    minimum: int
    maximum: int
    role: str
    suspended: dict[str, bool]
    """AWS's SuspendedState, all three members."""
    created: float
    state: dict[str, Any] = field(default_factory=dict)
    """The autoscaler's own (`core.scaling.State`): what it is waiting for, cooldowns."""

    @property
    def place(self) -> Place:
        return Place(self.account, self.region, self.resource_id, self.dimension)


@dataclass(frozen=True, slots=True)
class Policy:
    account: str
    region: str
    resource_id: str
    dimension: str
    name: str
    arn: str
    kind: str
    """`TargetTrackingScaling` or `StepScaling`."""
    config: dict[str, Any]
    """The configuration of that kind, in AWS's members."""
    alarms: list[dict[str, str]]
    """The alarms that were made for it: AlarmName, AlarmARN."""
    created: float

    @property
    def place(self) -> Place:
        return Place(self.account, self.region, self.resource_id, self.dimension)


@dataclass(frozen=True, slots=True)
class Action:
    account: str
    region: str
    resource_id: str
    dimension: str
    name: str
    arn: str
    schedule: str
    timezone: str
    """An IANA name."""
    start: float | None
    end: float | None
    minimum: int | None
    maximum: int | None
    created: float
    due: float | None
    """When it acts next; None: never again."""

    @property
    def place(self) -> Place:
        return Place(self.account, self.region, self.resource_id, self.dimension)


_TARGET = [targets.c[f.name] for f in fields(Target)]
_POLICY = [policies.c[f.name] for f in fields(Policy)]
_ACTION = [actions.c[f.name] for f in fields(Action)]


def _at(table: Table, place: Place) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in place._asdict().items()))


def _put(connection: Connection, table: Table, row: Target | Policy | Action) -> None:
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    keys = [column.name for column in table.primary_key.columns]
    statement = insert(connection, table).values(values)
    changes = {name: value for name, value in values.items() if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))


# Targets


def put_target(connection: Connection, target: Target) -> None:
    """Add it, or write all of its fields."""
    _put(connection, targets, target)


def target(connection: Connection, place: Place) -> Target | None:
    row = connection.execute(select(*_TARGET).where(_at(targets, place))).one_or_none()
    return None if row is None else Target(*row)


def target_by_arn(connection: Connection, arn: str) -> Target | None:
    row = connection.execute(select(*_TARGET).where(targets.c.arn == arn)).one_or_none()
    return None if row is None else Target(*row)


def targets_of(connection: Connection, endpoint: str) -> list[Target]:
    """Those of one endpoint (an ARN), by variant."""
    where = targets.c.endpoint == endpoint
    return [Target(*row) for row in connection.execute(select(*_TARGET).where(where).order_by(targets.c.variant))]


def scaled_endpoints(connection: Connection) -> list[str]:
    """ARNs of all endpoints that have targets."""
    return list(connection.execute(select(targets.c.endpoint).distinct().order_by(targets.c.endpoint)).scalars())


def count_targets(connection: Connection, account: str, region: str) -> int:
    where = (targets.c.account == account, targets.c.region == region)
    return connection.execute(select(func.count()).select_from(targets).where(*where)).scalar_one()


def save_state(connection: Connection, arn: str, state: dict[str, Any]) -> None:
    connection.execute(update(targets).where(targets.c.arn == arn).values(state=state))


def set_range(connection: Connection, arn: str, minimum: int, maximum: int) -> None:
    connection.execute(update(targets).where(targets.c.arn == arn).values(minimum=minimum, maximum=maximum))


def remove_target(connection: Connection, found: Target) -> None:
    """With its policies, scheduled actions and tags. The policies' alarms are the caller's to delete, before."""
    connection.execute(delete(policies).where(_at(policies, found.place)))
    connection.execute(delete(actions).where(_at(actions, found.place)))
    connection.execute(delete(targets).where(_at(targets, found.place)))
    resources.remove_tags(connection, found.arn, list(resources.tags_of(connection, found.arn)))


# Policies


def put_policy(connection: Connection, policy: Policy) -> None:
    _put(connection, policies, policy)


def policy(connection: Connection, place: Place, name: str) -> Policy | None:
    where = _at(policies, place) & (policies.c.name == name)
    row = connection.execute(select(*_POLICY).where(where)).one_or_none()
    return None if row is None else Policy(*row)


def policy_by_arn(connection: Connection, arn: str) -> Policy | None:
    row = connection.execute(select(*_POLICY).where(policies.c.arn == arn)).one_or_none()
    return None if row is None else Policy(*row)


def policies_of(connection: Connection, place: Place) -> list[Policy]:
    """By name."""
    statement = select(*_POLICY).where(_at(policies, place)).order_by(policies.c.name)
    return [Policy(*row) for row in connection.execute(statement)]


def remove_policy(connection: Connection, place: Place, name: str) -> None:
    connection.execute(delete(policies).where(_at(policies, place), policies.c.name == name))


# Scheduled actions


def put_action(connection: Connection, action: Action) -> None:
    _put(connection, actions, action)


def action(connection: Connection, place: Place, name: str) -> Action | None:
    where = _at(actions, place) & (actions.c.name == name)
    row = connection.execute(select(*_ACTION).where(where)).one_or_none()
    return None if row is None else Action(*row)


def actions_of(connection: Connection, place: Place) -> list[Action]:
    """By name."""
    statement = select(*_ACTION).where(_at(actions, place)).order_by(actions.c.name)
    return [Action(*row) for row in connection.execute(statement)]


def set_due(connection: Connection, arn: str, due: float | None) -> None:
    connection.execute(update(actions).where(actions.c.arn == arn).values(due=due))


def remove_action(connection: Connection, place: Place, name: str) -> None:
    connection.execute(delete(actions).where(_at(actions, place), actions.c.name == name))


# Listings


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of targets, policies or actions, oldest first. Empty filters let everything through."""

    account: str
    region: str
    resource_ids: Sequence[str] = ()
    dimension: str | None = None
    names: Sequence[str] = ()
    limit: int = 50
    token: str | None = None


def find_targets(connection: Connection, listing: Listing) -> tuple[list[Target], str | None]:
    """The page, and the next one's token. Raises BadToken."""
    rows, token = _page(connection, targets, _TARGET, listing)
    return [Target(*row) for row in rows], token


def find_policies(connection: Connection, listing: Listing) -> tuple[list[Policy], str | None]:
    rows, token = _page(connection, policies, _POLICY, listing)
    return [Policy(*row) for row in rows], token


def find_actions(connection: Connection, listing: Listing) -> tuple[list[Action], str | None]:
    rows, token = _page(connection, actions, _ACTION, listing)
    return [Action(*row) for row in rows], token


def _page(connection: Connection, table: Table, columns: list[Column[Any]], listing: Listing) -> tuple[list[Any], str | None]:
    c = table.c
    where: list[ColumnElement[bool]] = [c.account == listing.account, c.region == listing.region]
    if listing.resource_ids:
        where.append(c.resource_id.in_(listing.resource_ids))
    if listing.dimension is not None:
        where.append(c.dimension == listing.dimension)
    if listing.names:
        where.append(c.name.in_(listing.names))
    if listing.token is not None:
        created, arn = read_token(listing.token, table.name)
        where.append(or_(c.created > created, and_(c.created == created, c.arn > arn)))
    statement = select(*columns).where(*where).order_by(c.created, c.arn).limit(listing.limit + 1)
    rows = list(connection.execute(statement))
    if len(rows) <= listing.limit:
        return rows, None
    last = rows[listing.limit - 1]
    return rows[: listing.limit], write_token(table.name, last.created, last.arn)


def write_token(kind: str, moment: float, id: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((str(kind), moment, id))).decode()


def read_token(token: str, kind: str) -> tuple[float, str]:
    """Raises BadToken for what is no token of this listing."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        theirs, moment, id = msgspec.json.decode(raw, type=tuple[str, float, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadToken("not a page token") from error
    if theirs != kind:
        raise BadToken("a page token of another listing")
    return moment, id
