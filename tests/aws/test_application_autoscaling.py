"""Application Auto Scaling with boto3: the announcement's sample, every operation, its limits and errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud

SAGEMAKER: dict[str, Any] = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
VARIANT: dict[str, Any] = SAGEMAKER | {"ResourceId": "endpoint/Ep/variant/AllTraffic"}
BACKLOG = {
    "TargetValue": 5.0,
    "CustomizedMetricSpecification": {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": "Ep"}],
        "Statistic": "Average",
    },
    "ScaleInCooldown": 120,
    "ScaleOutCooldown": 120,
}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    "Cooldown": 300,
    "MetricAggregationType": "Average",
}


@pytest.fixture
def scaling(cloud: Cloud) -> Any:
    """A client, and an endpoint `Ep` with the variants AllTraffic and Other."""
    sagemaker, s3 = cloud.client("sagemaker"), cloud.client("s3")
    bucket = f"scaling-{cloud.account}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket=bucket, Key="model.tar.gz", Body=b"x")
    image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
    role = f"arn:aws:iam::{cloud.account}:role/sagemaker"
    sagemaker.create_model(
        ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": image, "ModelDataUrl": f"s3://{bucket}/model.tar.gz"}
    )
    variants = [
        {"VariantName": name, "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        for name in ("AllTraffic", "Other")
    ]
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants)
    sagemaker.create_endpoint(EndpointName="Ep", EndpointConfigName="c")
    return cloud.client("application-autoscaling")


def register(scaling: Any, low: int = 0, high: int = 5, **more: Any) -> str:
    arn: str = scaling.register_scalable_target(**VARIANT | {"MinCapacity": low, "MaxCapacity": high} | more)[
        "ScalableTargetARN"
    ]
    return arn


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found = error.value.response["Error"]
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return found["Code"], found["Message"]


def put(scaling: Any, name: str = "Invocations-ScalingPolicy", **more: Any) -> Any:
    kind = {"PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": BACKLOG}
    return scaling.put_scaling_policy(**VARIANT | {"PolicyName": name} | (more or kind))


def test_the_announcements_sample(cloud: Cloud, scaling: Any) -> None:
    """Register 0 to 5, track the backlog per instance with cooldowns of two minutes, deregister with the sample's slip."""
    arn = register(scaling)
    assert arn.startswith(f"arn:aws:application-autoscaling:eu-central-1:{cloud.account}:scalable-target/")
    assert len(arn.rpartition("/")[2]) == 34
    answer = put(scaling)
    resource = "resource/sagemaker/endpoint/Ep/variant/AllTraffic:policyName/Invocations-ScalingPolicy"
    assert answer["PolicyARN"].startswith(f"arn:aws:autoscaling:eu-central-1:{cloud.account}:scalingPolicy:")
    assert answer["PolicyARN"].endswith(resource)
    (policy,) = scaling.describe_scaling_policies(**VARIANT)["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"] == BACKLOG
    assert policy["Alarms"] == sorted(answer["Alarms"], key=lambda alarm: alarm["AlarmName"])
    assert ("scaling", f"arn:aws:sagemaker:eu-central-1:{cloud.account}:endpoint/ep") in cloud.wakes
    code, message = refused(scaling.deregister_scalable_target, **SAGEMAKER, ResourceId="resource_id")
    assert (code, message) == (
        "ValidationException",
        "Unsupported service namespace, resource type or scalable dimension",
    )
    scaling.deregister_scalable_target(**VARIANT)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []
    code, message = refused(scaling.deregister_scalable_target, **VARIANT)
    assert code == "ObjectNotFoundException"
    assert message == (
        "No scalable target found for service namespace: sagemaker, resource ID: endpoint/Ep/variant/AllTraffic, "
        "scalable dimension: sagemaker:variant:DesiredInstanceCount"
    )


def alarm_rows(cloud: Cloud, policy_arn: str) -> dict[str, Any]:
    from slipway.store import alarms  # noqa: PLC0415 - what CloudWatch's own tests see through its API

    async def read() -> Any:
        return await cloud.server.db.read(lambda c: alarms.by_action(c, policy_arn))

    return {alarm.name: alarm for alarm in cloud.run(read())}


def test_target_tracking_makes_two_alarms_as_aws_does(cloud: Cloud, scaling: Any) -> None:
    register(scaling)
    answer = put(scaling)
    names = [alarm["AlarmName"] for alarm in answer["Alarms"]]
    prefix = "TargetTracking-endpoint/Ep/variant/AllTraffic-Alarm"
    assert names[0].startswith(f"{prefix}High-")
    assert names[1].startswith(f"{prefix}Low-")
    rows = alarm_rows(cloud, answer["PolicyARN"])
    high, low = rows[names[0]].spec, rows[names[1]].spec
    assert (high["ComparisonOperator"], high["Threshold"]) == ("GreaterThanThreshold", 5.0)
    assert (high["Period"], high["EvaluationPeriods"], high["DatapointsToAlarm"]) == (60, 3, 3)
    assert (low["ComparisonOperator"], low["Threshold"]) == ("LessThanThreshold", 4.5)
    assert (low["Period"], low["EvaluationPeriods"], low["DatapointsToAlarm"]) == (60, 15, 15)
    for spec in (high, low):
        assert spec["AlarmDescription"] == f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {answer['PolicyARN']}."
        assert spec["AlarmActions"] == [answer["PolicyARN"]]
        assert (spec["MetricName"], spec["Statistic"]) == ("ApproximateBacklogSizePerInstance", "Average")
    changed = put(
        scaling,
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=BACKLOG | {"TargetValue": 10.0},
    )
    assert changed == answer | {"ResponseMetadata": changed["ResponseMetadata"]}
    assert alarm_rows(cloud, answer["PolicyARN"])[names[1]].spec["Threshold"] == 9.0
    scaling.delete_scaling_policy(**VARIANT, PolicyName="Invocations-ScalingPolicy")
    assert alarm_rows(cloud, answer["PolicyARN"]) == {}


def test_predefined_metrics(cloud: Cloud, scaling: Any) -> None:
    register(scaling)
    config = {
        "TargetValue": 70.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    arn = put(scaling, PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=config)["PolicyARN"]
    for alarm in alarm_rows(cloud, arn).values():
        assert (alarm.spec["MetricName"], alarm.spec["Statistic"]) == ("InvocationsPerInstance", "Sum")
        assert alarm.spec["Dimensions"] == [
            {"Name": "EndpointName", "Value": "Ep"},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ]
    for kind in ("SageMakerVariantProvisionedConcurrencyUtilization", "ECSServiceAverageCPUUtilization"):
        wrong = config | {"PredefinedMetricSpecification": {"PredefinedMetricType": kind}}
        code, message = refused(
            put, scaling=scaling, PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=wrong
        )
        assert code == "ValidationException"
        assert kind in message


def test_metric_math(cloud: Cloud, scaling: Any) -> None:
    register(scaling)
    stat = {"Metric": {"Namespace": "N", "MetricName": "M", "Dimensions": [{"Name": "a", "Value": "b"}]}, "Stat": "Sum"}
    queries: list[dict[str, Any]] = [
        {"Id": "m1", "MetricStat": stat, "ReturnData": False},
        {"Id": "e1", "Expression": "m1 / 2", "Label": "half"},
    ]

    def config(queries: list[dict[str, Any]]) -> dict[str, Any]:
        return {"TargetValue": 1.0, "CustomizedMetricSpecification": {"Metrics": queries}}

    def attempt(queries: list[dict[str, Any]]) -> str:
        code, message = refused(
            put, scaling=scaling, PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=config(queries)
        )
        assert code == "ValidationException"
        return message

    made = put(scaling, PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=config(queries))
    (first, _) = alarm_rows(cloud, made["PolicyARN"]).values()
    assert first.spec["Metrics"][0]["MetricStat"]["Period"] == 60
    assert "ReturnData" in attempt([{"Id": "m1", "MetricStat": stat}, queries[1]])
    assert "ReturnData" in attempt([queries[0]])
    assert "m2" in attempt([queries[0], {"Id": "e1", "Expression": "m1 + m2"}])
    assert "not valid" in attempt([queries[0], {"Id": "e1", "Expression": "m1 +"}])
    assert "different" in attempt([queries[0], {"Id": "m1", "Expression": "m1"}])
    assert "statistic" in attempt([{"Id": "m1", "MetricStat": stat | {"Stat": "Mean"}}])
    assert "either" in attempt([{"Id": "m1"}])


def test_step_policies_make_no_alarms(scaling: Any) -> None:
    register(scaling)
    answer = put(scaling, "step", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS)
    assert answer["Alarms"] == []
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", PolicyNames=["step"])["ScalingPolicies"]
    assert policy["StepScalingPolicyConfiguration"] == STEPS
    assert policy["PolicyType"] == "StepScaling"
    code, message = refused(
        put,
        scaling=scaling,
        name="bad",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration=STEPS | {"StepAdjustments": []},
    )
    assert (code, message) == ("ValidationException", "Step adjustments must be specified.")
    many = [
        {"MetricIntervalLowerBound": float(n), "MetricIntervalUpperBound": n + 1.0, "ScalingAdjustment": 1} for n in range(21)
    ]
    code, _ = refused(
        put,
        scaling=scaling,
        name="bad",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration=STEPS | {"StepAdjustments": many},
    )
    assert code == "LimitExceededException"
    code, message = refused(
        put,
        scaling=scaling,
        name="bad",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration=STEPS | {"MinAdjustmentMagnitude": 2},
    )
    assert "MinAdjustmentMagnitude" in message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"TargetValue": 0.0}, "target value"),
        ({"TargetValue": -1.0}, "target value"),
        ({"ScaleInCooldown": -1}, "ScaleInCooldown"),
        ({"CustomizedMetricSpecification": {"MetricName": "M", "Namespace": "N"}}, "Statistic"),
        ({"CustomizedMetricSpecification": {"Namespace": "N", "Statistic": "Sum"}}, "MetricName"),
        (
            {"PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}},
            "Exactly one",
        ),
    ],
)
def test_target_tracking_that_aws_refuses(scaling: Any, changes: dict[str, Any], word: str) -> None:
    register(scaling)
    code, message = refused(
        put,
        scaling=scaling,
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=BACKLOG | changes,
    )
    assert code == "ValidationException"
    assert word in message


def test_policies_that_do_not_fit_together(scaling: Any) -> None:
    register(scaling)
    tracking = {"TargetTrackingScalingPolicyConfiguration": BACKLOG}
    _, message = refused(put, scaling=scaling, **tracking)
    assert "PolicyType is required" in message
    _, message = refused(put, scaling=scaling, PolicyType="StepScaling", **tracking)
    assert "cannot be specified" in message
    _, message = refused(put, scaling=scaling, PolicyType="TargetTrackingScaling")
    assert "must be specified" in message
    _, message = refused(put, scaling=scaling, PolicyType="PredictiveScaling")
    assert "PredictiveScaling is not supported" in message
    put(scaling)
    _, message = refused(put, scaling=scaling, name="another", PolicyType="TargetTrackingScaling", **tracking)
    assert message == "Only one TargetTrackingScaling policy for a given metric specification is allowed."
    assert put(scaling, PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS)["Alarms"] == []


def test_registering_is_an_upsert(scaling: Any) -> None:
    arn = register(scaling, 1, 4, Tags={"team": "a"})
    suspended = {"DynamicScalingInSuspended": True}
    assert scaling.register_scalable_target(**VARIANT, MaxCapacity=6, SuspendedState=suspended)["ScalableTargetARN"] == arn
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 6)
    assert target["SuspendedState"] == {
        "DynamicScalingInSuspended": True,
        "DynamicScalingOutSuspended": False,
        "ScheduledScalingSuspended": False,
    }
    assert target["RoleARN"].endswith("AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "a"}
    _, message = refused(scaling.register_scalable_target, **VARIANT, MinCapacity=7)
    assert message == "Maximum capacity cannot be less than minimum capacity"
    _, message = refused(scaling.register_scalable_target, **VARIANT, Tags={"a": "b"})
    assert "TagResource" in message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ServiceNamespace": "ecs"}, "Unsupported service namespace"),
        ({"ScalableDimension": "ecs:service:DesiredCount"}, "Unsupported service namespace"),
        ({"ScalableDimension": "sagemaker:variant:DesiredProvisionedConcurrency"}, "serverless"),
        ({"ScalableDimension": "sagemaker:inference-component:DesiredCopyCount"}, "inference components"),
        ({"ResourceId": "endpoint/Ep"}, "Unsupported service namespace"),
        ({"ResourceId": "endpoint/nope/variant/AllTraffic"}, "endpoint doesn't exist"),
        ({"ResourceId": "endpoint/ep/variant/AllTraffic"}, "written Ep"),
        ({"ResourceId": "endpoint/Ep/variant/nope"}, "variant doesn't exist"),
        ({"MinCapacity": -1}, "greater than or equal to 0"),
        ({"MinCapacity": 3, "MaxCapacity": 2}, "Maximum capacity"),
        ({"MaxCapacity": None}, "required"),
        ({"Tags": {"aws:x": "y"}}, "reserved"),
    ],
)
def test_registrations_that_are_refused(scaling: Any, changes: dict[str, Any], word: str) -> None:
    arguments = VARIANT | {"MinCapacity": 0, "MaxCapacity": 5} | changes
    code, message = refused(
        scaling.register_scalable_target, **{name: value for name, value in arguments.items() if value is not None}
    )
    assert code == "ValidationException"
    assert word in message


def test_an_unregistered_target_has_neither_policies_nor_actions(scaling: Any) -> None:
    code, message = refused(
        put, scaling=scaling, PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=BACKLOG
    )
    assert code == "ObjectNotFoundException"
    assert message.startswith("No scalable target registered for service namespace: sagemaker")
    action = {"ScheduledActionName": "a", "Schedule": "rate(1 hour)", "ScalableTargetAction": {"MinCapacity": 1}}
    assert refused(scaling.put_scheduled_action, **VARIANT, **action)[0] == "ObjectNotFoundException"
    assert refused(scaling.delete_scaling_policy, **VARIANT, PolicyName="p")[0] == "ObjectNotFoundException"
    assert refused(scaling.delete_scheduled_action, **VARIANT, ScheduledActionName="p")[0] == "ObjectNotFoundException"


def test_scheduled_actions(scaling: Any) -> None:
    register(scaling)
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    action = {"MinCapacity": 2, "MaxCapacity": 4}
    scaling.put_scheduled_action(
        **VARIANT,
        ScheduledActionName="mornings",
        Schedule="cron(0 9 ? * MON-FRI *)",
        Timezone="Europe/Berlin",
        StartTime=start,
        EndTime=start + timedelta(days=30),
        ScalableTargetAction=action,
    )
    scaling.put_scheduled_action(**VARIANT, ScheduledActionName="mornings", ScalableTargetAction={"MinCapacity": 3})
    (found,) = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]
    assert found["Schedule"] == "cron(0 9 ? * MON-FRI *)"
    assert found["Timezone"] == "Europe/Berlin"
    assert found["StartTime"] == start
    assert found["ScalableTargetAction"] == {"MinCapacity": 3}
    assert ":scheduledAction:" in found["ScheduledActionARN"]
    scaling.delete_scheduled_action(**VARIANT, ScheduledActionName="mornings")
    assert scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"] == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"Schedule": "hourly"}, "Invalid schedule"),
        ({"Schedule": "at(2001-01-01T00:00:00)"}, "future"),
        ({"Schedule": None}, "Schedule is required"),
        ({"Timezone": "Mars/Olympus"}, "time zone"),
        ({"Timezone": "../../etc/passwd"}, "time zone"),
        ({"ScalableTargetAction": {}}, "MinCapacity"),
        ({"ScalableTargetAction": None}, "ScalableTargetAction is required"),
        ({"ScalableTargetAction": {"MinCapacity": 3, "MaxCapacity": 2}}, "Maximum capacity"),
        ({"StartTime": datetime(2100, 1, 2, tzinfo=UTC), "EndTime": datetime(2100, 1, 1, tzinfo=UTC)}, "later"),
        ({"ScheduledActionName": "a:b"}, "scheduledActionName"),
    ],
)
def test_scheduled_actions_that_are_refused(scaling: Any, changes: dict[str, Any], word: str) -> None:
    register(scaling)
    arguments = {
        "ScheduledActionName": "a",
        "Schedule": "rate(1 hour)",
        "ScalableTargetAction": {"MinCapacity": 1},
    } | changes
    given = {name: value for name, value in arguments.items() if value is not None}
    code, message = refused(scaling.put_scheduled_action, **VARIANT, **given)
    assert code == "ValidationException"
    assert word in message


def test_pages(scaling: Any) -> None:
    register(scaling)
    for number in range(12):
        put(scaling, f"p{number:02}", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS)
        scaling.put_scheduled_action(
            **VARIANT,
            ScheduledActionName=f"a{number:02}",
            Schedule="rate(1 hour)",
            ScalableTargetAction={"MinCapacity": number},
        )
    first = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")
    assert len(first["ScalingPolicies"]) == 10
    pages = scaling.get_paginator("describe_scaling_policies").paginate(**VARIANT)
    names = [policy["PolicyName"] for page in pages for policy in page["ScalingPolicies"]]
    assert names == [f"p{number:02}" for number in range(12)]
    pages = scaling.get_paginator("describe_scheduled_actions").paginate(**VARIANT, PaginationConfig={"PageSize": 5})
    names = [action["ScheduledActionName"] for page in pages for action in page["ScheduledActions"]]
    assert names == [f"a{number:02}" for number in range(12)]
    scaling.register_scalable_target(**SAGEMAKER, ResourceId="endpoint/Ep/variant/Other", MinCapacity=0, MaxCapacity=1)
    page = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", MaxResults=1)
    more = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", MaxResults=1, NextToken=page["NextToken"])
    ids = [page["ScalableTargets"][0]["ResourceId"], more["ScalableTargets"][0]["ResourceId"]]
    assert ids == ["endpoint/Ep/variant/AllTraffic", "endpoint/Ep/variant/Other"]
    assert "NextToken" not in more
    for call, most in ((scaling.describe_scaling_policies, 10), (scaling.describe_scalable_targets, 50)):
        code, message = refused(call, ServiceNamespace="sagemaker", MaxResults=most + 1)
        assert f"less than or equal to {most}" in message
        assert refused(call, ServiceNamespace="sagemaker", NextToken="x")[0] == "InvalidNextTokenException"
    code, _ = refused(scaling.describe_scaling_policies, ServiceNamespace="sagemaker", NextToken=page["NextToken"])
    assert code == "InvalidNextTokenException"
    code, message = refused(scaling.describe_scaling_policies, **SAGEMAKER)
    assert "resource ID must be specified" in message


def test_limits_of_a_target(cloud: Cloud, scaling: Any) -> None:
    register(scaling)
    for number in range(50):
        put(scaling, f"p{number:02}", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS)
    code, message = refused(
        put, scaling=scaling, name="one-more", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS
    )
    assert code == "LimitExceededException"
    assert "50 scaling policies" in message
    put(scaling, "p00", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS | {"Cooldown": 1})


def test_tags(scaling: Any) -> None:
    arn = register(scaling)
    scaling.tag_resource(ResourceARN=arn, Tags={"a": "1", "b": "2"})
    scaling.untag_resource(ResourceARN=arn, TagKeys=["a", "zz"])
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"b": "2"}
    code, _ = refused(scaling.tag_resource, ResourceARN=arn, Tags={f"k{number}": "v" for number in range(50)})
    assert code == "TooManyTagsException"
    code, _ = refused(scaling.list_tags_for_resource, ResourceARN=f"{arn[:-3]}xyz")
    assert code == "ResourceNotFoundException"
    scaling.deregister_scalable_target(**VARIANT)
    assert refused(scaling.list_tags_for_resource, ResourceARN=arn)[0] == "ResourceNotFoundException"


def test_other_namespaces_have_nothing_and_accounts_see_only_their_own(cloud: Cloud, scaling: Any) -> None:
    register(scaling)
    assert scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"] == []
    assert scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"] == []
    assert scaling.describe_scheduled_actions(ServiceNamespace="ecs")["ScheduledActions"] == []
    assert scaling.describe_scaling_activities(ServiceNamespace="ecs")["ScalingActivities"] == []
    other = cloud.client("application-autoscaling", key=cloud.other_account())
    assert other.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert refused(other.deregister_scalable_target, **VARIANT)[0] == "ObjectNotFoundException"


def test_a_deleted_endpoint_takes_its_target_along(cloud: Cloud, scaling: Any) -> None:
    register(scaling)
    cloud.client("sagemaker").delete_endpoint(EndpointName="Ep")
    code, _ = refused(
        put, scaling=scaling, PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=BACKLOG
    )
    assert code == "ObjectNotFoundException"


def test_predictive_forecasts_are_refused(scaling: Any) -> None:
    now = datetime.now(UTC)
    code, message = refused(
        scaling.get_predictive_scaling_forecast, **VARIANT, PolicyName="p", StartTime=now, EndTime=now + timedelta(hours=1)
    )
    assert code == "ValidationException"
    assert "PredictiveScaling" in message
