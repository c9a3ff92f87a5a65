"""CloudWatch Logs' operations: AWS's answers and AWS's errors."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

import pytest

from slipway.backing.logs import Logs
from slipway.services import Context, World, logs
from slipway.wire.errors import AwsError

NOW = 1_700_000_000.0
MS = int(NOW * 1000)
GROUP = {"logGroupName": "/aws/sagemaker/Endpoints/e"}
STREAM = {**GROUP, "logStreamName": "v/i-1"}
ARN = "arn:aws:logs:us-east-1:1:log-group:/aws/sagemaker/Endpoints/e"


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    nothing = cast("Any", None)
    world = World(
        settings=nothing,
        db=nothing,
        objects=nothing,
        logs=Logs(str(tmp_path), now=lambda: NOW),
        metrics=nothing,
        now=lambda: NOW,
        wake=nothing,
        changed=nothing,
        keys_changed=nothing,
    )
    return Context(world, "1", "us-east-1", "r", "arn:aws:iam::1:root")


async def refused(call: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(AwsError) as caught:
        await call
    return caught.value.code, caught.value.message


async def filled(ctx: Context, *messages: str) -> None:
    await logs.create_log_group(ctx, GROUP)
    await logs.create_log_stream(ctx, STREAM)
    events = [{"timestamp": MS + n, "message": message} for n, message in enumerate(messages)]
    if events:
        await logs.put_log_events(ctx, {**STREAM, "logEvents": events})


async def test_groups(ctx: Context) -> None:
    assert await logs.create_log_group(ctx, GROUP) == {}
    assert await refused(logs.create_log_group(ctx, GROUP)) == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    for name in ("a", "b", "B2"):
        await logs.create_log_group(ctx, {"logGroupName": name, "logGroupClass": "STANDARD"})
    first = await logs.describe_log_groups(ctx, {"limit": 2})
    assert first["logGroups"][0] == {
        "logGroupName": GROUP["logGroupName"],
        "creationTime": MS,
        "metricFilterCount": 0,
        "arn": f"{ARN}:*",
        "logGroupArn": ARN,
        "logGroupClass": "STANDARD",
        "storedBytes": 0,
    }
    await logs.create_log_group(ctx, {"logGroupName": "A0"})
    rest = await logs.describe_log_groups(ctx, {"limit": 2, "nextToken": first["nextToken"]})
    assert [group["logGroupName"] for group in first["logGroups"] + rest["logGroups"]] == [
        GROUP["logGroupName"],
        "B2",
        "a",
        "b",
    ]
    assert "nextToken" not in rest
    found = await logs.describe_log_groups(ctx, {"logGroupNamePrefix": "B"})
    assert [group["logGroupName"] for group in found["logGroups"]] == ["B2"]
    found = await logs.describe_log_groups(ctx, {"logGroupNamePattern": "B"})
    assert [group["logGroupName"] for group in found["logGroups"]] == ["B2", "b"]
    assert await logs.delete_log_group(ctx, GROUP) == {}
    assert await refused(logs.delete_log_group(ctx, GROUP)) == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )


async def test_what_is_not_built_is_refused_by_name(ctx: Context) -> None:
    for member in ({"kmsKeyId": "k"}, {"tags": {"a": "b"}}, {"deletionProtectionEnabled": True}, {"logGroupClass": "DELIVERY"}):
        code, message = await refused(logs.create_log_group(ctx, {**GROUP, **member}))
        assert code == "InvalidParameterException"
        assert next(iter(member)) in message
    for request in (
        {"logGroupNamePrefix": "a", "logGroupNamePattern": "a"},
        {"logGroupIdentifiers": ["a"]},
        {"nextToken": "x"},
    ):
        assert (await refused(logs.describe_log_groups(ctx, request)))[0] == "InvalidParameterException"


async def test_streams(ctx: Context) -> None:
    assert (await refused(logs.create_log_stream(ctx, STREAM)))[0] == "ResourceNotFoundException"
    await filled(ctx, "one", "two")
    assert await refused(logs.create_log_stream(ctx, STREAM)) == (
        "ResourceAlreadyExistsException",
        "The specified log stream already exists",
    )
    await logs.create_log_stream(ctx, {**GROUP, "logStreamName": "a"})
    by_name = await logs.describe_log_streams(ctx, {"logGroupIdentifier": ARN})
    assert [stream["logStreamName"] for stream in by_name["logStreams"]] == ["a", "v/i-1"]
    stream = by_name["logStreams"][1]
    assert (stream["firstEventTimestamp"], stream["lastEventTimestamp"]) == (MS, MS + 1)
    assert stream["arn"] == f"{ARN}:log-stream:v/i-1"
    assert "lastEventTimestamp" not in by_name["logStreams"][0]
    latest = {**GROUP, "orderBy": "LastEventTime", "descending": True, "limit": 1}
    first = await logs.describe_log_streams(ctx, latest)
    second = await logs.describe_log_streams(ctx, {**latest, "nextToken": first["nextToken"]})
    found = [stream["logStreamName"] for stream in first["logStreams"] + second["logStreams"]]
    assert found == ["v/i-1", "a"]
    assert await refused(logs.describe_log_streams(ctx, {**latest, "logStreamNamePrefix": "v"})) == (
        "InvalidParameterException",
        "Cannot order by LastEventTime with a logStreamNamePrefix.",
    )
    await logs.delete_log_stream(ctx, STREAM)
    assert await refused(logs.delete_log_stream(ctx, STREAM)) == (
        "ResourceNotFoundException",
        "The specified log stream does not exist.",
    )


async def test_identifiers(ctx: Context) -> None:
    await filled(ctx, "one")
    for identifier in (GROUP["logGroupName"], ARN, f"{ARN}:*"):
        found = await logs.filter_log_events(ctx, {"logGroupIdentifier": identifier})
        assert len(found["events"]) == 1
    other = ARN.replace(":1:", ":2:")
    assert (await refused(logs.filter_log_events(ctx, {"logGroupIdentifier": other})))[0] == "ResourceNotFoundException"
    for request in ({}, {**GROUP, "logGroupIdentifier": ARN}):
        assert (await refused(logs.filter_log_events(ctx, request)))[0] == "InvalidParameterException"


async def test_events_come_back(ctx: Context) -> None:
    await filled(ctx, "one", "two", "three")
    page = await logs.get_log_events(ctx, {**STREAM, "startFromHead": True, "limit": 2})
    assert page["events"] == [
        {"timestamp": MS, "message": "one", "ingestionTime": MS},
        {"timestamp": MS + 1, "message": "two", "ingestionTime": MS},
    ]
    page = await logs.get_log_events(ctx, {**STREAM, "nextToken": page["nextForwardToken"]})
    assert [event["message"] for event in page["events"]] == ["three"]
    end = await logs.get_log_events(ctx, {**STREAM, "nextToken": page["nextForwardToken"]})
    assert (end["events"], end["nextForwardToken"]) == ([], page["nextForwardToken"])
    assert await refused(logs.get_log_events(ctx, {**STREAM, "nextToken": "x"})) == (
        "InvalidParameterException",
        "The specified nextToken is invalid.",
    )


async def test_filtering(ctx: Context) -> None:
    await filled(ctx, "ERROR one", "fine", "ERROR two")
    found = await logs.filter_log_events(ctx, {**GROUP, "filterPattern": "ERROR", "limit": 1})
    assert found["events"][0]["message"] == "ERROR one"
    assert found["events"][0]["logStreamName"] == "v/i-1"
    found = await logs.filter_log_events(ctx, {**GROUP, "filterPattern": "ERROR", "limit": 1, "nextToken": found["nextToken"]})
    assert [event["message"] for event in found["events"]] == ["ERROR two"]
    assert "nextToken" not in found
    latest = await logs.filter_log_events(ctx, {**GROUP, "startFromHead": False, "limit": 1})
    assert [event["message"] for event in latest["events"]] == ["ERROR two"]
    code, message = await refused(logs.filter_log_events(ctx, {**GROUP, "filterPattern": "{ $.a = 1 }"}))
    assert code == "InvalidParameterException"
    assert "JSON" in message
    both = {**GROUP, "logStreamNames": ["a"], "logStreamNamePrefix": "a"}
    assert (await refused(logs.filter_log_events(ctx, both)))[0] == "InvalidParameterException"


@pytest.mark.parametrize(
    ("times", "kept", "rejected"),
    [
        ([0, 0, 5], [0, 0, 5], None),
        (
            [-15 * 86_400_000, 0, 3 * 3_600_000],
            [0],
            {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2},
        ),
        ([-3 * 86_400_000, 0], [0], {"expiredLogEventEndIndex": 1}),
        ([3 * 3_600_000], [], {"tooNewLogEventStartIndex": 0}),
        ([2 * 3_600_000], [2 * 3_600_000], None),
    ],
)
async def test_events_out_of_their_time_are_left_out(
    ctx: Context, times: list[int], kept: list[int], rejected: dict[str, int] | None
) -> None:
    await filled(ctx)
    await logs.put_retention_policy(ctx, {**GROUP, "retentionInDays": 1})
    events = [{"timestamp": MS + time, "message": "m"} for time in times]
    answer = await logs.put_log_events(ctx, {**STREAM, "logEvents": events})
    assert answer.get("rejectedLogEventsInfo") == rejected
    found = await logs.get_log_events(ctx, {**STREAM, "startFromHead": True})
    assert [event["timestamp"] - MS for event in found["events"]] == kept


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([(1, "b"), (0, "a")], "Log events in a single PutLogEvents request must be in chronological order."),
        (
            [(-86_400_001, "a"), (0, "b")],
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ),
        ([(0, "x" * (1024 * 1024 - 25))], "Upload too large"),
    ],
)
async def test_bad_batches_are_refused_whole(ctx: Context, events: list[tuple[int, str]], message: str) -> None:
    await filled(ctx)
    batch = [{"timestamp": MS + time, "message": text} for time, text in events]
    code, said = await refused(logs.put_log_events(ctx, {**STREAM, "logEvents": batch}))
    assert code == "InvalidParameterException"
    assert said.startswith(message)
    assert (await logs.get_log_events(ctx, STREAM))["events"] == []


async def test_events_for_a_stream_that_is_not_there(ctx: Context) -> None:
    events = [{"timestamp": MS, "message": "m"}]
    assert (await refused(logs.put_log_events(ctx, {**STREAM, "logEvents": events})))[1].startswith("The specified log group")
    await logs.create_log_group(ctx, GROUP)
    for batch in (events, [{"timestamp": 0, "message": "too old"}]):
        assert (await refused(logs.put_log_events(ctx, {**STREAM, "logEvents": batch})))[1].startswith(
            "The specified log stream"
        )


async def test_retention(ctx: Context) -> None:
    await filled(ctx)
    await logs.put_retention_policy(ctx, {**GROUP, "retentionInDays": 7})
    assert (await logs.describe_log_groups(ctx, {}))["logGroups"][0]["retentionInDays"] == 7
    code, message = await refused(logs.put_retention_policy(ctx, {**GROUP, "retentionInDays": 2}))
    assert code == "InvalidParameterException"
    assert "enum value set" in message
    await logs.delete_retention_policy(ctx, GROUP)
    assert "retentionInDays" not in (await logs.describe_log_groups(ctx, {}))["logGroups"][0]
    missing = {"logGroupName": "none", "retentionInDays": 7}
    assert (await refused(logs.put_retention_policy(ctx, missing)))[0] == "ResourceNotFoundException"
