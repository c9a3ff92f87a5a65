"""SetAlarmState, DescribeAlarmHistory, EnableAlarmActions, DisableAlarmActions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from slipway.services import Context
from slipway.services.cloudwatch.alarms import KIND, moment, with_actions
from slipway.services.cloudwatch.errors import page_start, page_token, refuse
from slipway.store import alarms
from slipway.store.alarms import Entry
from slipway.store.db import Connection
from slipway.wire.errors import AwsError

PAGE = 50
_DATA_LENGTH = 4095
_DATA_DEPTH = 50


async def set_alarm_state(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Written at once; its actions follow, and the next evaluation says what is."""
    data = request.get("StateReasonData")
    if data is not None:
        _check_json(data)

    def write(connection: Connection) -> str:
        alarm = alarms.get(connection, ctx.account, ctx.region, request["AlarmName"])
        if alarm is None:
            raise AwsError("ResourceNotFound", f"Alarm {request['AlarmName']} does not exist")
        alarms.set_state(connection, alarm, ctx.world.now(), request["StateValue"], request["StateReason"], data)
        return alarm.arn

    ctx.world.wake(KIND, await ctx.world.db.write(write))
    return {}


def _check_json(data: str) -> None:
    """InvalidFormatFault. Not deep, so that what is put around it in the history can be written and read again."""
    try:
        level = [msgspec.json.decode(data)]
    except (msgspec.DecodeError, RecursionError):
        raise AwsError("InvalidFormatFault", "StateReasonData must be JSON.") from None
    for _ in range(_DATA_DEPTH):
        level = [member for value in level for member in _members(value)]
        if not level:
            return
    raise AwsError("InvalidFormatFault", f"StateReasonData must not be nested more than {_DATA_DEPTH} levels deep.")


def _members(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


async def enable_alarm_actions(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Names that are not there do not matter."""
    return await _switch(ctx, request["AlarmNames"], True)


async def disable_alarm_actions(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Names that are not there do not matter."""
    return await _switch(ctx, request["AlarmNames"], False)


async def _switch(ctx: Context, names: list[str], enabled: bool) -> dict[str, Any]:
    def write(connection: Connection) -> list[str]:
        changed = []
        for name in names:
            alarm = alarms.get(connection, ctx.account, ctx.region, name)
            if alarm is not None and alarm.spec.get("ActionsEnabled", True) != enabled:
                alarms.put(connection, with_actions(alarm, enabled, ctx.world.now()))
                changed.append(alarm.arn)
        return changed

    for arn in await ctx.world.db.write(write):
        ctx.world.wake(KIND, arn)
    return {}


async def describe_alarm_history(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Newest first unless ScanBy says otherwise; also of alarms that are deleted."""
    refuse("DescribeAlarmHistory", request)
    types = request.get("AlarmTypes") or ["MetricAlarm"]
    if "MetricAlarm" not in types:
        return {"AlarmHistoryItems": []}
    limit = request.get("MaxRecords", PAGE)
    after = page_start(request.get("NextToken"), tuple[float, int])
    found = await ctx.world.db.read(
        lambda c: alarms.past(
            c,
            ctx.account,
            ctx.region,
            request.get("AlarmName"),
            kind=request.get("HistoryItemType"),
            start=request["StartDate"].timestamp() if "StartDate" in request else None,
            end=request["EndDate"].timestamp() if "EndDate" in request else None,
            ascending=request.get("ScanBy") == "TimestampAscending",
            after=after,
            limit=limit + 1,
        )
    )
    answer: dict[str, Any] = {"AlarmHistoryItems": [_item(entry) for entry in found[:limit]]}
    if len(found) > limit:
        answer["NextToken"] = page_token((found[limit - 1].at, found[limit - 1].id))
    return answer


def _item(entry: Entry) -> dict[str, Any]:
    data = json.dumps(entry.data, separators=(",", ":"))
    return {
        "AlarmName": entry.name,
        "AlarmType": "MetricAlarm",
        "Timestamp": moment(entry.at),
        "HistoryItemType": entry.kind,
        "HistorySummary": entry.summary[:255],
        "HistoryData": data if len(data) <= _DATA_LENGTH else '{"version":"1.0","truncated":true}',
    }
