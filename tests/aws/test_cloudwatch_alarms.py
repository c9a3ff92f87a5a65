"""CloudWatch's alarms with boto3: what is put is described; what is not right is refused in AWS's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud

TOPIC = "arn:aws:sns:eu-central-1:{account}:topic"


@pytest.fixture
def client(cloud: Cloud) -> Any:
    return cloud.client("cloudwatch")


def alarm(name: str = "high", **changed: Any) -> dict[str, Any]:
    found = {
        "AlarmName": name,
        "Namespace": "AWS/SageMaker",
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Dimensions": [{"Name": "EndpointName", "Value": "e"}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 3,
        "Threshold": 5.0,
        "ComparisonOperator": "GreaterThanThreshold",
        **changed,
    }
    return {member: value for member, value in found.items() if value is not None}


def math(**changed: Any) -> dict[str, Any]:
    metric = {"Namespace": "n", "MetricName": "m"}
    queries = [
        {"Id": "e", "Expression": "m1 * 2", "ReturnData": True},
        {"Id": "m1", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False},
    ]
    without = dict.fromkeys(("Namespace", "MetricName", "Dimensions", "Statistic", "Period"))
    return alarm(**{**without, "Metrics": queries, **changed})


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_an_alarm_is_described_as_it_was_put(cloud: Cloud, client: Any) -> None:
    topic = TOPIC.format(account=cloud.account)
    client.put_metric_alarm(**alarm(AlarmActions=[topic], AlarmDescription="too much", DatapointsToAlarm=2, Unit="Count"))
    (found,) = client.describe_alarms()["MetricAlarms"]
    arn = f"arn:aws:cloudwatch:eu-central-1:{cloud.account}:alarm:high"
    for member in ("AlarmConfigurationUpdatedTimestamp", "StateUpdatedTimestamp", "StateTransitionedTimestamp"):
        assert abs(found.pop(member).timestamp() - cloud.world.now()) < 30
    assert found == {
        **alarm(AlarmDescription="too much", DatapointsToAlarm=2, Unit="Count"),
        "AlarmArn": arn,
        "AlarmActions": [topic],
        "OKActions": [],
        "InsufficientDataActions": [],
        "ActionsEnabled": True,
        "StateValue": "INSUFFICIENT_DATA",
        "StateReason": "Unchecked: Initial alarm creation",
    }
    assert ("alarms", arn) in cloud.wakes


def test_metric_math_is_kept(client: Any) -> None:
    client.put_metric_alarm(**math())
    (found,) = client.describe_alarms(AlarmNames=["high"])["MetricAlarms"]
    assert found["Metrics"] == math()["Metrics"]
    assert "MetricName" not in found


def test_another_put_replaces_all_but_the_state(client: Any) -> None:
    client.put_metric_alarm(**alarm(AlarmDescription="first", Tags=[{"Key": "k", "Value": "v"}]))
    client.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="because")
    client.put_metric_alarm(**alarm(Threshold=7.0, Tags=[{"Key": "other", "Value": "v"}]))
    (found,) = client.describe_alarms()["MetricAlarms"]
    assert (found["Threshold"], found["StateValue"], found["StateReason"]) == (7.0, "ALARM", "because")
    assert "AlarmDescription" not in found
    assert client.list_tags_for_resource(ResourceARN=found["AlarmArn"])["Tags"] == [{"Key": "k", "Value": "v"}]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (alarm(Period=61), "ValidationError", "Period must be 10, 20, 30 or a multiple of 60"),
        (alarm(Period=5), "ValidationError", "Period must be 10, 20, 30 or a multiple of 60"),
        (alarm(DatapointsToAlarm=4), "ValidationError", "DatapointsToAlarm must be less than or equal to EvaluationPeriods"),
        (alarm(EvaluationPeriods=1441), "ValidationError", "one day"),
        (alarm(Period=3600, EvaluationPeriods=169), "ValidationError", "seven days"),
        (alarm(Statistic=None), "InvalidParameterCombination", "ExtendedStatistic"),
        (alarm(ExtendedStatistic="p90"), "InvalidParameterCombination", "not both"),
        (alarm(Statistic=None, ExtendedStatistic="tm90"), "ValidationError", "tm90 is not supported by slipway"),
        (alarm(Threshold=None), "MissingParameter", "Threshold"),
        (alarm(MetricName=None), "MissingParameter", "MetricName"),
        (alarm(TreatMissingData="perhaps"), "ValidationError", "perhaps"),
        (alarm(AlarmActions=["stop it"]), "ValidationError", "Invalid arn syntax"),
        (alarm(AlarmActions=["arn:aws:automate:eu-central-1:ec2:stop"]), "ValidationError", "not supported by slipway"),
        (alarm(AlarmActions=[TOPIC] * 6), "ValidationError", "length less than or equal to 5"),
        (alarm(ComparisonOperator="GreaterThanUpperThreshold"), "ValidationError", "anomaly detection"),
        (alarm(ThresholdMetricId="a"), "InvalidParameterValue", "anomaly detection"),
        (math(MetricName="m"), "InvalidParameterCombination", "mutually exclusive"),
        (math(Metrics=[{"Id": "e", "Expression": "1"}]), "ValidationError", "of a metric"),
        (math(Metrics=[{"Id": "e", "Expression": "ANOMALY_DETECTION_BAND(e)"}]), "ValidationError", "is not supported"),
    ],
)
def test_what_is_wrong_is_refused(client: Any, request_: dict[str, Any], code: str, words: str) -> None:
    told = refused(client.put_metric_alarm, **request_)
    assert told[0] == code
    assert words in told[1]
    assert client.describe_alarms()["MetricAlarms"] == []


def test_alarms_are_found_by_name_prefix_state_and_action(cloud: Cloud, client: Any) -> None:
    topic = TOPIC.format(account=cloud.account)
    for name in ("a-1", "a-2", "b-1", "a_1"):
        client.put_metric_alarm(**alarm(name, **({"OKActions": [topic]} if name == "b-1" else {})))
    client.set_alarm_state(AlarmName="a-2", StateValue="OK", StateReason="fine")

    def names(**asked: Any) -> list[str]:
        return [found["AlarmName"] for found in client.describe_alarms(**asked)["MetricAlarms"]]

    assert names() == ["a-1", "a-2", "a_1", "b-1"]
    assert names(AlarmNames=["b-1", "a-1", "none"]) == ["a-1", "b-1"]
    assert names(AlarmNamePrefix="a-") == ["a-1", "a-2"]
    assert names(StateValue="OK") == ["a-2"]
    assert names(ActionPrefix="arn:aws:sns") == ["b-1"]
    assert names(AlarmTypes=["CompositeAlarm"]) == []
    pages = client.get_paginator("describe_alarms").paginate(PaginationConfig={"PageSize": 3})
    assert [len(page["MetricAlarms"]) for page in pages] == [3, 1]
    assert refused(client.describe_alarms, AlarmNames=["a"], AlarmNamePrefix="b")[0] == "InvalidParameterCombination"
    assert refused(client.describe_alarms, NextToken="x")[0] == "InvalidNextToken"
    assert "composite" in refused(client.describe_alarms, ChildrenOfAlarmName="a")[1]


def test_alarms_of_a_metric(client: Any) -> None:
    client.put_metric_alarm(**alarm("one"))
    client.put_metric_alarm(**alarm("two", Statistic="Maximum"))
    client.put_metric_alarm(**alarm("other", MetricName="Other"))
    client.put_metric_alarm(**math(AlarmName="math"))
    metric = {member: alarm()[member] for member in ("Namespace", "MetricName", "Dimensions")}
    assert [a["AlarmName"] for a in client.describe_alarms_for_metric(**metric)["MetricAlarms"]] == ["one", "two"]
    found = client.describe_alarms_for_metric(**metric, Statistic="Maximum")["MetricAlarms"]
    assert [a["AlarmName"] for a in found] == ["two"]
    assert client.describe_alarms_for_metric(**{**metric, "Dimensions": []})["MetricAlarms"] == []


def test_history(cloud: Cloud, client: Any) -> None:
    client.put_metric_alarm(**alarm())
    data = json.dumps({"recentDatapoints": [9.0]})
    client.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="testing", StateReasonData=data)
    client.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="again")
    client.disable_alarm_actions(AlarmNames=["high", "unknown"])
    assert client.describe_alarms()["MetricAlarms"][0]["ActionsEnabled"] is False
    client.enable_alarm_actions(AlarmNames=["high"])
    assert client.describe_alarms()["MetricAlarms"][0]["ActionsEnabled"] is True
    client.delete_alarms(AlarmNames=["high"])
    items = client.describe_alarm_history(AlarmName="high", ScanBy="TimestampAscending")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in items] == [
        'Alarm "high" created',
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        'Alarm "high" updated',
        'Alarm "high" updated',
        'Alarm "high" deleted',
    ]
    assert {item["AlarmType"] for item in items} == {"MetricAlarm"}
    assert json.loads(items[1]["HistoryData"])["newState"] == {
        "stateValue": "ALARM",
        "stateReason": "testing",
        "stateReasonData": {"recentDatapoints": [9.0]},
    }
    states = client.describe_alarm_history(HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    assert [item["AlarmName"] for item in states] == ["high"]
    pages = client.get_paginator("describe_alarm_history").paginate(AlarmName="high", PaginationConfig={"PageSize": 2})
    newest = [item["HistorySummary"] for page in pages for item in page["AlarmHistoryItems"]]
    assert newest == [item["HistorySummary"] for item in reversed(items)]


def test_what_is_not_there_is_not_found(cloud: Cloud, client: Any) -> None:
    set_state = {"StateValue": "OK", "StateReason": "r"}
    assert refused(client.set_alarm_state, AlarmName="none", **set_state)[0] == "ResourceNotFound"
    assert refused(client.delete_alarms, AlarmNames=["none"])[0] == "ResourceNotFound"
    client.put_metric_alarm(**alarm())
    with pytest.raises(client.exceptions.InvalidFormatFault):
        client.set_alarm_state(AlarmName="high", StateReasonData="{", **set_state)
    for deep in ("[" * 1900 + "]" * 1900, "[" * 200 + "]" * 200):
        assert refused(client.set_alarm_state, AlarmName="high", StateReasonData=deep, **set_state)[0] == "InvalidFormat"
    other = cloud.client("cloudwatch", key=cloud.other_account())
    assert other.describe_alarms()["MetricAlarms"] == []
    assert refused(other.set_alarm_state, AlarmName="high", **set_state)[0] == "ResourceNotFound"
    arn = client.describe_alarms()["MetricAlarms"][0]["AlarmArn"]
    assert refused(other.list_tags_for_resource, ResourceARN=arn)[0] == "ResourceNotFoundException"
    client.delete_alarms(AlarmNames=["none", "high"])
    assert client.describe_alarms()["MetricAlarms"] == []


def test_tags(client: Any) -> None:
    client.put_metric_alarm(**alarm())
    arn = client.describe_alarms()["MetricAlarms"][0]["AlarmArn"]
    client.tag_resource(ResourceARN=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    client.untag_resource(ResourceARN=arn, TagKeys=["a"])
    assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    many = [{"Key": f"k{n}", "Value": ""} for n in range(50)]
    assert refused(client.tag_resource, ResourceARN=arn, Tags=many)[0] == "InvalidParameterValue"
    client.delete_alarms(AlarmNames=["high"])
    client.put_metric_alarm(**alarm())
    assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == []
