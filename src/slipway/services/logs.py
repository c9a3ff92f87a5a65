"""CloudWatch Logs: the operations that a SageMaker user's tools call, over `backing.logs`.

Errors and their wording are AWS's. Files are read in threads: control's loop does not wait for a disk.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec

from slipway.backing.log_filter import BadPattern, compile_pattern
from slipway.backing.log_reader import AHEAD_MILLISECONDS, BadToken, cost
from slipway.backing.logs import AlreadyExists, Group, NoGroup, NoStream, Stream
from slipway.names import log_group_arn
from slipway.services import Context
from slipway.wire.errors import AwsError

T = TypeVar("T")
K = TypeVar("K", str, tuple[int, str])
Row = TypeVar("Row", Group, Stream)

RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
BATCH_BYTES = 1024 * 1024
TOO_OLD_MILLISECONDS = 14 * 86_400_000
SPAN_MILLISECONDS = 86_400_000

_NO_GROUP = "The specified log group does not exist."
_NO_STREAM = "The specified log stream does not exist."


async def create_log_group(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    for member in ("kmsKeyId", "tags", "deletionProtectionEnabled"):
        if request.get(member):
            raise _invalid(f"{member} is not supported by slipway's log groups")
    if request.get("logGroupClass", "STANDARD") != "STANDARD":
        raise _invalid("logGroupClass: slipway has log groups of the class STANDARD only")
    name = request["logGroupName"]
    await _do(
        lambda: ctx.world.logs.create_group(ctx.account, ctx.region, name), exists="The specified log group already exists"
    )
    return {}


async def delete_log_group(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    await _do(lambda: ctx.world.logs.delete_group(ctx.account, ctx.region, request["logGroupName"]))
    return {}


async def describe_log_groups(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    prefix, pattern = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
    if prefix and pattern:
        raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    if request.get("logGroupIdentifiers"):
        raise _invalid("logGroupIdentifiers is not supported by slipway: use logGroupNamePrefix")
    groups = await _do(lambda: ctx.world.logs.groups(ctx.account, ctx.region))
    if request.get("logGroupClass", "STANDARD") != "STANDARD":
        groups = []
    groups = [group for group in groups if group.name.startswith(prefix) and pattern.lower() in group.name.lower()]
    page, token = _paged(groups, _name, request, str)
    return {"logGroups": [await _group_of(ctx, group) for group in page], **_next(token)}


async def create_log_stream(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    group, name = request["logGroupName"], request["logStreamName"]
    await _do(
        lambda: ctx.world.logs.create_stream(ctx.account, ctx.region, group, name),
        exists="The specified log stream already exists",
    )
    return {}


async def delete_log_stream(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    group, name = request["logGroupName"], request["logStreamName"]
    await _do(lambda: ctx.world.logs.delete_stream(ctx.account, ctx.region, group, name))
    return {}


async def describe_log_streams(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    group, prefix = _group_named(ctx, request), request.get("logStreamNamePrefix", "")
    by_time = request.get("orderBy") == "LastEventTime"
    if by_time and prefix:
        raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
    logs = ctx.world.logs
    where = (ctx.account, ctx.region, group)
    streams = await _do(lambda: logs.streams(*where, prefix=prefix, timed=by_time))
    if by_time:
        page, token = _paged(streams, _last_event, request, tuple[int, str])
    else:
        page, token = _paged(streams, _name, request, str)
        page = await _do(lambda: [logs.timed(*where, stream) for stream in page])
    arn = log_group_arn(ctx.region, ctx.account, group)
    return {"logStreams": [_stream_of(arn, stream) for stream in page], **_next(token)}


async def put_log_events(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    group, stream = request["logGroupName"], request["logStreamName"]
    logs = ctx.world.logs
    events = [(int(event["timestamp"]), str(event["message"])) for event in request["logEvents"]]
    found = await _do(lambda: logs.group(ctx.account, ctx.region, group))
    now = int(ctx.world.now() * 1000)
    good, rejected = _sift(events, now, found.retention_days)
    await _do(lambda: logs.append(ctx.account, ctx.region, group, stream, good))
    answer: dict[str, Any] = {"nextSequenceToken": f"{now:056d}"}
    return {**answer, "rejectedLogEventsInfo": rejected} if rejected else answer


async def get_log_events(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    group, stream = _group_named(ctx, request), request["logStreamName"]
    page = await _do(
        lambda: ctx.world.logs.get(
            ctx.account,
            ctx.region,
            group,
            stream,
            token=request.get("nextToken"),
            from_head=bool(request.get("startFromHead")),
            start=request.get("startTime"),
            end=request.get("endTime"),
            limit=request.get("limit", 10_000),
        )
    )
    events = [{"timestamp": e.timestamp, "message": e.message, "ingestionTime": e.ingestion} for e in page.events]
    return {"events": events, "nextForwardToken": page.forward, "nextBackwardToken": page.backward}


async def filter_log_events(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    group, names = _group_named(ctx, request), request.get("logStreamNames")
    if names and request.get("logStreamNamePrefix"):
        raise _invalid("logStreamNames and logStreamNamePrefix cannot be specified together.")
    try:
        matches = compile_pattern(request.get("filterPattern", ""))
    except BadPattern as error:
        raise _invalid(str(error)) from None
    page = await _do(
        lambda: ctx.world.logs.filter(
            ctx.account,
            ctx.region,
            group,
            names=names,
            prefix=request.get("logStreamNamePrefix", ""),
            matches=matches,
            start=request.get("startTime"),
            end=request.get("endTime"),
            token=request.get("nextToken"),
            limit=request.get("limit", 10_000),
            descending=request.get("startFromHead") is False,
        )
    )
    events = [
        {
            "logStreamName": found.stream,
            "timestamp": found.event.timestamp,
            "message": found.event.message,
            "ingestionTime": found.event.ingestion,
            "eventId": found.id,
        }
        for found in page.events
    ]
    return {"events": events, "searchedLogStreams": [], **_next(page.token)}


async def put_retention_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    days = request["retentionInDays"]
    if days not in RETENTION_DAYS:
        raise _invalid(
            f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(str(value) for value in RETENTION_DAYS)}]"
        )
    await _do(lambda: ctx.world.logs.set_retention(ctx.account, ctx.region, request["logGroupName"], days))
    return {}


async def delete_retention_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    await _do(lambda: ctx.world.logs.set_retention(ctx.account, ctx.region, request["logGroupName"], None))
    return {}


async def _do(fn: Callable[[], T], *, exists: str = "") -> T:
    """In a thread, with AWS's errors for ours."""
    try:
        return await asyncio.to_thread(fn)
    except NoGroup:
        raise AwsError("ResourceNotFoundException", _NO_GROUP) from None
    except NoStream:
        raise AwsError("ResourceNotFoundException", _NO_STREAM) from None
    except AlreadyExists:
        raise AwsError("ResourceAlreadyExistsException", exists) from None
    except BadToken:
        raise _bad_token() from None
    except OSError as error:
        raise AwsError("ServiceUnavailableException", f"The logs cannot be written or read: {error.strerror}") from error


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)


def _bad_token() -> AwsError:
    return _invalid("The specified nextToken is invalid.")


def _group_named(ctx: Context, request: dict[str, Any]) -> str:
    """The group of `logGroupName` or `logGroupIdentifier` (a name or an ARN); one of them there must be, and not both."""
    name, identifier = request.get("logGroupName"), request.get("logGroupIdentifier")
    if (name is None) == (identifier is None):
        raise _invalid("You must include either logGroupIdentifier or logGroupName, but not both.")
    if name is not None:
        return str(name)
    found = str(identifier)
    if not found.startswith("arn:"):
        return found
    own = log_group_arn(ctx.region, ctx.account, "")
    if not found.startswith(own):
        raise AwsError("ResourceNotFoundException", _NO_GROUP)
    return found.removeprefix(own).removesuffix(":*")


def _sift(
    events: Sequence[tuple[int, str]], now: int, retention_days: int | None
) -> tuple[list[tuple[int, str]], dict[str, int]]:
    """The events that may be stored, and AWS's account of the others; InvalidParameterException where the batch is bad."""
    times = [timestamp for timestamp, _ in events]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if sum(cost(message) for _, message in events) > BATCH_BYTES:
        raise _invalid(f"Upload too large: the events of a batch may take {BATCH_BYTES} bytes, 26 for each event included")
    kept = None if retention_days is None else now - retention_days * 86_400_000
    old = sum(timestamp < now - TOO_OLD_MILLISECONDS for timestamp in times)
    expired = 0 if kept is None else sum(timestamp < kept for timestamp in times)
    new = sum(timestamp > now + AHEAD_MILLISECONDS for timestamp in times)
    good = list(events[max(old, expired) : len(events) - new])
    if good and good[-1][0] - good[0][0] > SPAN_MILLISECONDS:
        raise _invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    rejected: dict[str, int] = {}
    if old:
        rejected["tooOldLogEventEndIndex"] = old
    if expired:
        rejected["expiredLogEventEndIndex"] = expired
    if new:
        rejected["tooNewLogEventStartIndex"] = len(events) - new
    return good, rejected


def _name(row: Group | Stream) -> str:
    return row.name


def _last_event(stream: Stream) -> tuple[int, str]:
    return (stream.last_event or 0, stream.name)


def _paged(
    rows: Iterable[Row], key: Callable[[Row], K], request: dict[str, Any], kind: type[K]
) -> tuple[list[Row], str | None]:
    """A page in the order of `key`, and the next one's token: the key of the last row, so that inserts do not shift it."""
    descending = bool(request.get("descending"))
    found = sorted(rows, key=key, reverse=descending)
    if token := request.get("nextToken"):
        try:
            last = msgspec.json.decode(base64.b64decode(token, altchars=b"-_", validate=True), type=kind)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            raise _bad_token() from None
        found = [row for row in found if (key(row) < last if descending else key(row) > last)]
    limit = request.get("limit", 50)
    page = found[:limit]
    if len(found) <= limit:
        return page, None
    return page, base64.urlsafe_b64encode(msgspec.json.encode(key(page[-1]))).decode()


def _next(token: str | None) -> dict[str, str]:
    return {"nextToken": token} if token is not None else {}


async def _group_of(ctx: Context, group: Group) -> dict[str, Any]:
    arn = log_group_arn(ctx.region, ctx.account, group.name)
    found = {
        "logGroupName": group.name,
        "creationTime": group.created,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "logGroupClass": "STANDARD",
        "storedBytes": await asyncio.to_thread(ctx.world.logs.stored_bytes, ctx.account, ctx.region, group.name),
    }
    if group.retention_days is not None:
        found["retentionInDays"] = group.retention_days
    return found


def _stream_of(group_arn: str, stream: Stream) -> dict[str, Any]:
    found = {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "firstEventTimestamp": stream.first_event,
        "lastEventTimestamp": stream.last_event,
        "lastIngestionTime": stream.last_ingestion,
        "arn": f"{group_arn}:log-stream:{stream.name}",
        "storedBytes": 0,
        "uploadSequenceToken": f"{stream.last_ingestion or stream.created:056d}",
    }
    return {name: value for name, value in found.items() if value is not None}
