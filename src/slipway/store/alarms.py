"""Alarms, which of them act on what, and their history. All functions run inside `Db.read` or `Db.write`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Index,
    PrimaryKeyConstraint,
    Row,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
    update,
)
from sqlalchemy import delete as sql_delete

from slipway.core.alarms import ACTIONS, Alarm
from slipway.store.schema import Json, Moment, Serial, Word, insert, metadata

alarms = Table(
    "alarms",
    metadata,
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("arn", Word, nullable=False),
    Column("spec", Json, nullable=False),
    Column("updated", Moment, nullable=False),
    Column("state", Word, nullable=False),
    Column("reason", Text, nullable=False),
    Column("reason_data", Text),
    Column("state_updated", Moment, nullable=False),
    Column("transitioned", Moment, nullable=False),
    Column("acted", Moment, nullable=False),
    PrimaryKeyConstraint("account", "region", "name"),
    UniqueConstraint("arn"),
)

actions = Table(
    "alarm_actions",
    metadata,
    Column("arn", Word, nullable=False),
    Column("action", Word, nullable=False),
    PrimaryKeyConstraint("arn", "action"),
    Index("ix_alarm_actions_action", "action"),
)

history = Table(
    "alarm_history",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("account", Word, nullable=False),
    Column("region", Word, nullable=False),
    Column("name", Word, nullable=False),
    Column("at", Moment, nullable=False),
    Column("kind", Word, nullable=False),
    Column("summary", Text, nullable=False),
    Column("data", Text, nullable=False),
    Index("ix_alarm_history_name", "account", "region", "name", "at"),
    Index("ix_alarm_history_at", "at"),
)

_CHUNK = 300
"""Rows of one statement."""

CONFIGURATION = "ConfigurationUpdate"
STATE = "StateUpdate"
ACTION = "Action"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an alarm's history."""

    account: str
    region: str
    name: str
    at: float
    kind: str
    summary: str
    data: dict[str, Any]
    id: int = 0


def put(connection: Connection, alarm: Alarm) -> bool:
    """Create the alarm or replace its configuration; True: it is new. The state of one that is there stays as it is."""
    before = get(connection, alarm.account, alarm.region, alarm.name)
    row = {
        "account": alarm.account,
        "region": alarm.region,
        "name": alarm.name,
        "arn": alarm.arn,
        "spec": alarm.spec,
        "updated": alarm.updated,
        "state": alarm.state,
        "reason": alarm.reason,
        "reason_data": alarm.reason_data,
        "state_updated": alarm.state_updated or alarm.updated,
        "transitioned": alarm.transitioned or alarm.updated,
        "acted": alarm.acted or alarm.transitioned or alarm.updated,
    }
    statement: Any = insert(connection, alarms).values(row)
    changed = {"spec": statement.excluded.spec, "updated": statement.excluded.updated}
    connection.execute(statement.on_conflict_do_update(index_elements=["account", "region", "name"], set_=changed))
    connection.execute(sql_delete(actions).where(actions.c.arn == alarm.arn))
    named = {action for member in ACTIONS.values() for action in alarm.spec.get(member, ())}
    if named:
        connection.execute(
            insert(connection, actions).values([{"arn": alarm.arn, "action": action} for action in sorted(named)])
        )
    done = ("created", "Create", "createdAlarm") if before is None else ("updated", "Update", "updatedAlarm")
    data = {"version": "1.0", "type": done[1], done[2]: {"alarmName": alarm.name, "alarmArn": alarm.arn, **_camel(alarm.spec)}}
    record(connection, [Entry(*_of(alarm), alarm.updated, CONFIGURATION, f'Alarm "{alarm.name}" {done[0]}', data)])
    return before is None


def get(connection: Connection, account: str, region: str, name: str) -> Alarm | None:
    where = (alarms.c.account == account) & (alarms.c.region == region) & (alarms.c.name == name)
    row = connection.execute(select(alarms).where(where)).one_or_none()
    return None if row is None else _alarm(row)


def by_arn(connection: Connection, arn: str) -> Alarm | None:
    row = connection.execute(select(alarms).where(alarms.c.arn == arn)).one_or_none()
    return None if row is None else _alarm(row)


def by_arns(connection: Connection, arns: Sequence[str]) -> list[Alarm]:
    """Those of them that there are; in chunks, if there are thousands."""
    return [
        _alarm(row)
        for start in range(0, len(arns), _CHUNK)
        for row in connection.execute(select(alarms).where(alarms.c.arn.in_(arns[start : start + _CHUNK])))
    ]


def delete(connection: Connection, account: str, region: str, name: str, now: float) -> bool:
    """Whether there was one. Its history stays."""
    alarm = get(connection, account, region, name)
    if alarm is None:
        return False
    connection.execute(sql_delete(actions).where(actions.c.arn == alarm.arn))
    connection.execute(sql_delete(alarms).where(alarms.c.arn == alarm.arn))
    data = {"version": "1.0", "type": "Delete", "deletedAlarm": {"alarmName": alarm.name, **_camel(alarm.spec)}}
    record(connection, [Entry(account, region, name, now, CONFIGURATION, f'Alarm "{name}" deleted', data)])
    return True


def by_action(connection: Connection, action: str) -> list[Alarm]:
    """The alarms of its own account that act on this ARN (a topic, a scaling policy), in any state; by name."""
    own = alarms.c.account == action.split(":")[4]
    query = select(alarms).join(actions, actions.c.arn == alarms.c.arn).where(actions.c.action == action, own)
    return [_alarm(row) for row in connection.execute(query.order_by(alarms.c.name))]


def count(connection: Connection, account: str, region: str) -> int:
    where = (alarms.c.account == account) & (alarms.c.region == region)
    return connection.execute(select(func.count()).select_from(alarms).where(where)).scalar_one()


def versions(connection: Connection) -> dict[str, tuple[float, float, float]]:
    """By ARN, when each was updated, changed its state, and when the actions of that were done."""
    rows = connection.execute(select(alarms.c.arn, alarms.c.updated, alarms.c.transitioned, alarms.c.acted))
    return {row.arn: (row.updated, row.transitioned, row.acted) for row in rows}


def state_before(connection: Connection, alarm: Alarm) -> str:
    """The state that its newest transition began in."""
    last = past(
        connection,
        *_of(alarm),
        kind=STATE,
        start=None,
        end=None,
        ascending=False,
        after=None,
        limit=1,
    )
    found: str = last[0].data["oldState"]["stateValue"] if last else alarm.state
    return found


def listed(
    connection: Connection,
    account: str,
    region: str,
    *,
    names: Sequence[str] | None = None,
    prefix: str = "",
    state: str | None = None,
    action_prefix: str = "",
    after: str = "",
    limit: int = 101,
) -> list[Alarm]:
    """Ordered by name, beyond `after`."""
    where = [alarms.c.account == account, alarms.c.region == region, alarms.c.name > after]
    if names is not None:
        where.append(alarms.c.name.in_(names))
    if prefix:
        where += [alarms.c.name >= prefix, func.substr(alarms.c.name, 1, len(prefix)) == prefix]
    if state is not None:
        where.append(alarms.c.state == state)
    if action_prefix:
        matching = select(actions.c.arn).where(func.substr(actions.c.action, 1, len(action_prefix)) == action_prefix)
        where.append(alarms.c.arn.in_(matching))
    query = select(alarms).where(*where).order_by(alarms.c.name).limit(limit)
    return [_alarm(row) for row in connection.execute(query)]


def set_state(connection: Connection, alarm: Alarm, now: float, state: str, reason: str, data: str | None) -> Alarm | None:
    """Write a state (a transition's line of history with it) and give the alarm as it is then.

    None: the alarm is gone, or was changed since it was read.
    """
    current = by_arn(connection, alarm.arn)
    if current is None or current.updated != alarm.updated or current.transitioned != alarm.transitioned:
        return None
    new = replace(current, state=state, reason=reason, reason_data=data, state_updated=now)
    if current.state != state:
        new = replace(new, transitioned=max(now, current.transitioned + 1e-3))
        record(connection, [_transition(current, now, state, reason, data)])
    changed = {name: getattr(new, name) for name in ("state", "reason", "reason_data", "state_updated", "transitioned")}
    connection.execute(update(alarms).where(alarms.c.arn == alarm.arn).values(changed))
    return new


def _transition(alarm: Alarm, now: float, state: str, reason: str, data: str | None) -> Entry:
    told = {
        "version": "1.0",
        "oldState": _told(alarm.state, alarm.reason, alarm.reason_data),
        "newState": _told(state, reason, data),
    }
    return Entry(*_of(alarm), now, STATE, f"Alarm updated from {alarm.state} to {state}", told)


def _told(state: str, reason: str, data: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"stateValue": state, "stateReason": reason}
    if data is not None:
        found["stateReasonData"] = msgspec.json.decode(data)
    return found


def acted(connection: Connection, alarm: Alarm) -> None:
    """The actions of its newest transition were done."""
    connection.execute(update(alarms).where(alarms.c.arn == alarm.arn).values(acted=alarm.transitioned))


def record(connection: Connection, entries: Iterable[Entry]) -> None:
    """Add to the history."""
    rows = [
        {
            "account": entry.account,
            "region": entry.region,
            "name": entry.name,
            "at": entry.at,
            "kind": entry.kind,
            "summary": entry.summary,
            "data": msgspec.json.encode(entry.data).decode(),
        }
        for entry in entries
    ]
    if rows:
        connection.execute(insert(connection, history).values(rows))


def past(
    connection: Connection,
    account: str,
    region: str,
    name: str | None,
    *,
    kind: str | None,
    start: float | None,
    end: float | None,
    ascending: bool,
    after: tuple[float, int] | None,
    limit: int,
) -> list[Entry]:
    """The history in the order of time (newest first unless `ascending`), beyond `after` (time and id)."""
    where: list[Any] = [history.c.account == account, history.c.region == region]
    for value, there in ((name, history.c.name == name), (kind, history.c.kind == kind)):
        if value is not None:
            where.append(there)
    if start is not None:
        where.append(history.c.at >= start)
    if end is not None:
        where.append(history.c.at <= end)
    if after is not None:
        at, ident = after
        beyond = history.c.at > at if ascending else history.c.at < at
        same = history.c.id > ident if ascending else history.c.id < ident
        where.append(beyond | ((history.c.at == at) & same))
    order = (history.c.at, history.c.id) if ascending else (history.c.at.desc(), history.c.id.desc())
    found = connection.execute(select(history).where(*where).order_by(*order).limit(limit))
    return [
        Entry(r.account, r.region, r.name, r.at, r.kind, r.summary, msgspec.json.decode(r.data, type=dict[str, Any]), r.id)
        for r in found
    ]


def expire(connection: Connection, before: float, limit: int = 2000) -> int:
    """Delete the oldest history from before; how many lines (at most `limit`)."""
    old = select(history.c.id).where(history.c.at < before).order_by(history.c.at).limit(limit)
    return connection.execute(sql_delete(history).where(history.c.id.in_(old))).rowcount


def _of(alarm: Alarm) -> tuple[str, str, str]:
    return alarm.account, alarm.region, alarm.name


def _alarm(row: Row[Any]) -> Alarm:
    return Alarm(**row._mapping)


def _camel(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Member names as CloudWatch's history has them."""
    return {name[:1].lower() + name[1:]: value for name, value in spec.items()}
