"""CloudWatch Logs with boto3: what a keeper wrote is read back; pages, filters and errors as on AWS."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud

GROUP = "/aws/sagemaker/Endpoints/e"
STREAM = "AllTraffic/i-0123456789abcdef0"


def refused(call: Any, **arguments: Any) -> dict[str, str]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found: dict[str, str] = error.value.response["Error"]
    return found


def test_what_a_replica_printed_is_read_back(cloud: Cloud) -> None:
    writer = cloud.world.logs.writer(cloud.account, cloud.region, GROUP, STREAM)
    pipe = writer.pipe()
    pipe.feed(b"loading\nERROR: no m\xc3")
    pipe.feed(b"\xb6del\n")
    writer.close()
    logs = cloud.client("logs")
    events = logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM, startFromHead=True)["events"]
    assert [event["message"] for event in events] == ["loading", "ERROR: no mödel"]
    assert abs(events[0]["timestamp"] / 1000 - time.time()) < 60
    found = logs.filter_log_events(logGroupName=GROUP, filterPattern="ERROR")["events"]
    assert [(event["logStreamName"], event["message"]) for event in found] == [(STREAM, "ERROR: no mödel")]
    streams = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True)["logStreams"]
    assert streams[0]["lastEventTimestamp"] == events[-1]["timestamp"]


def test_paginators_see_everything_once(cloud: Cloud) -> None:
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    now = int(time.time() * 1000)
    for stream in ("a", "b", "c"):
        logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        batch = [{"timestamp": now + n, "message": f"{stream}{n}"} for n in range(5)]
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=batch)
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, PaginationConfig={"PageSize": 4})
    found = [event["message"] for page in pages for event in page["events"]]
    assert found == [f"{stream}{n}" for n in range(5) for stream in "abc"]
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=GROUP, PaginationConfig={"PageSize": 2})
    assert [stream["logStreamName"] for page in pages for stream in page["logStreams"]] == ["a", "b", "c"]
    messages, token = [], ""
    while True:
        more = {"nextToken": token} if token else {}
        page = logs.get_log_events(logGroupName=GROUP, logStreamName="a", startFromHead=True, limit=2, **more)
        if page["nextForwardToken"] == token:
            break
        messages += [event["message"] for event in page["events"]]
        token = page["nextForwardToken"]
    assert messages == ["a0", "a1", "a2", "a3", "a4"]


def test_errors_are_awss(cloud: Cloud) -> None:
    logs = cloud.client("logs")
    missing = {"Code": "ResourceNotFoundException", "Message": "The specified log group does not exist."}
    assert refused(logs.delete_log_group, logGroupName="none") == missing
    assert refused(logs.describe_log_streams, logGroupName="none") == missing
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.filter_log_events(logGroupName="none")
    logs.create_log_group(logGroupName=GROUP)
    assert refused(logs.create_log_group, logGroupName=GROUP) == {
        "Code": "ResourceAlreadyExistsException",
        "Message": "The specified log group already exists",
    }
    assert refused(logs.get_log_events, logGroupName=GROUP, logStreamName="s") == {
        "Code": "ResourceNotFoundException",
        "Message": "The specified log stream does not exist.",
    }
    assert refused(logs.create_log_group, logGroupName="a b")["Code"] == "InvalidParameterException"
    assert (
        refused(logs.filter_log_events, logGroupName=GROUP, filterPattern="{ $.a = 1 }")["Code"] == "InvalidParameterException"
    )


def test_retention_comes_and_goes(cloud: Cloud) -> None:
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix="/aws")["logGroups"][0]["retentionInDays"] == 7
    logs.delete_retention_policy(logGroupName=GROUP)
    group = logs.describe_log_groups(logGroupNamePattern="endpoints")["logGroups"][0]
    assert "retentionInDays" not in group
    assert group["arn"] == f"arn:aws:logs:{cloud.region}:{cloud.account}:log-group:{GROUP}:*"


def test_accounts_and_regions_see_nothing_of_each_other(cloud: Cloud) -> None:
    cloud.client("logs").create_log_group(logGroupName=GROUP)
    for other in (cloud.client("logs", key=cloud.other_account()), cloud.client("logs", region="us-west-2")):
        assert other.describe_log_groups()["logGroups"] == []
        assert refused(other.describe_log_streams, logGroupName=GROUP)["Code"] == "ResourceNotFoundException"
