"""The autoscaler with the real alarms, endpoints and store, on a clock of its own: AWS's timings, and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from slipway.cli.scaling import explanation
from slipway.control.autoscaler import KIND
from slipway.control.capacity import set_counts
from slipway.core.replicas import Failure
from slipway.services import cloudwatch, slipway_scaling
from slipway.services.authenticate import Caller
from slipway.store import scaling
from slipway.store.db import Db
from slipway.wire.errors import AwsError
from tests.unit.control.stage import ARN, ASYNC, VARIANT, Stage
from tests.unit.control.world import ACCOUNT, REGION

BROKEN = Failure("exited", "it broke")


@pytest.fixture
async def stage(db: Db, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """An asynchronous endpoint E with one instance of its variant A. Parameters: Stage's."""
    made = Stage(db, tmp_path, **getattr(request, "param", {}))
    await made.up()
    await made.deploy(asynchronous=ASYNC)
    await made.drive()
    yield made
    await made.routes.stop()


async def to_zero(stage: Stage) -> None:
    await stage.db.write(lambda c: set_counts(c, ARN, {"A": 0}, stage.now))
    stage.wake("endpoint", ARN)
    await stage.drive()
    assert await stage.count() == 0


@pytest.mark.parametrize("stage", [{"scale": 1.0}, {"scale": 60.0}], indirect=True)
async def test_the_announcements_story(stage: Stage) -> None:
    """0 → 5 on ten thousand requests, and back to 0 when they are done; whatever the time scale."""
    await stage.register(0, 5)
    await stage.track()
    await stage.minutes(16, backlog=0)
    assert await stage.count() == 0
    (first,) = await stage.activities()
    assert first["Description"] == "Setting desired instance count to 0."
    assert first["StatusCode"] == "Successful"
    assert first["StatusMessage"] == "Successfully set desired instance count to 0. Change successfully fulfilled by sagemaker."
    assert first["Cause"].startswith("monitor alarm TargetTracking-endpoint/E/variant/A-AlarmLow-")
    assert first["Cause"].endswith(" in state ALARM triggered policy track")
    await stage.minutes(3)
    began = stage.now
    await stage.arrive(10_000)
    await stage.until(stage.now)
    assert await stage.count() == 5
    assert await stage.status() == "InService"
    assert stage.now == began
    (second, *_) = await stage.activities()
    assert second["Cause"] == "backlog of 10000 requests at zero instances"
    assert "10000 ÷ 5 = 2000, MaxCapacity allows 5" in second["Details"]
    await stage.minutes(5)
    assert await stage.count() == 5
    await stage.minutes(14, backlog=0)
    assert await stage.count() == 5
    await stage.minutes(2)
    assert await stage.count() == 0
    assert [a["StatusCode"] for a in await stage.activities()] == ["Successful"] * 3


async def test_a_burst_that_grows_while_the_first_instance_starts(stage: Stage) -> None:
    await stage.register(0, 5)
    await stage.track()
    await to_zero(stage)
    stage.keeper.script["A"] = "hangs"
    await stage.arrive(1)
    assert (await stage.count(), await stage.status()) == (1, "Updating")
    await stage.arrive(9_000)
    assert await stage.count() == 1
    stage.keeper.script.clear()
    for id in list(stage.keeper.running()):
        stage.keeper.ready(id)
    await stage.until(stage.now + 2)
    assert await stage.count() == 5
    newest, older = await stage.activities()
    assert newest["Cause"] == "backlog of 9000 requests while the first instances started"
    assert older["Cause"] == "backlog of 1 request at zero instances"


async def test_what_was_measured_before_a_scale_out_does_not_undo_it(stage: Stage) -> None:
    """The low alarm of an idle hour is still in ALARM when the first request comes: its zeros are of before."""
    await stage.register(0, 5)
    await stage.track(ScaleInCooldown=0)
    await stage.minutes(16, backlog=0)
    assert await stage.count() == 0
    await stage.until(stage.now + 150)
    stage.keeper.script["A"] = "hangs"
    await stage.arrive(1)
    assert (await stage.count(), await stage.status()) == (1, "Updating")
    await stage.until(stage.now + 90)  # a cold start
    stage.keeper.script.clear()
    for id in list(stage.keeper.running()):
        stage.keeper.ready(id)
    await stage.until(stage.now + 2)
    assert (await stage.count(), await stage.status()) == (1, "InService")
    noted = (await stage.activities(IncludeNotScaledActivities=True))[0]
    assert noted["Cause"] == "backlog of 1 request at zero instances"
    await stage.minutes(2, backlog=1)
    assert await stage.count() == 1, "one request for one instance"
    assert len(await stage.activities()) == 2
    await stage.minutes(17, backlog=0)
    assert await stage.count() == 0


async def test_out_after_three_periods_and_again_only_by_the_difference(stage: Stage) -> None:
    await stage.register(1, 10)
    await stage.track()
    await stage.minutes(1, backlog=10)
    await stage.minutes(1)
    assert await stage.count() == 1
    await stage.minutes(1)
    assert await stage.count() == 2  # 1 × 10 ÷ 5
    await stage.minutes(1)
    assert await stage.count() == 2


async def test_cooldown_between_scale_outs(stage: Stage) -> None:
    """300 s instead of the minute in which an alarm that lasts is asked again."""
    await stage.register(1, 10)
    await stage.track(ScaleOutCooldown=300)
    await stage.minutes(3, backlog=10)
    assert await stage.count() == 2
    stage.backlog = 16
    await stage.minutes(3)
    assert await stage.count() == 3  # 8 each: 4 asked for, an increase by 2, of which 1 is there
    stage.backlog = 18
    await stage.minutes(2)
    assert await stage.count() == 3
    await stage.minutes(4)
    assert await stage.count() == 4


async def test_scale_in_goes_by_the_metric_and_waits_for_its_cooldown(stage: Stage) -> None:
    await stage.register(1, 10)
    await stage.track(ScaleInCooldown=300)
    await stage.minutes(3, backlog=50)
    assert await stage.count() == 10
    await stage.minutes(14, backlog=30)
    assert await stage.count() == 10
    await stage.minutes(2)
    assert await stage.count() == 6
    stage.backlog = 15
    await stage.minutes(3)
    assert await stage.count() == 6
    await stage.minutes(25)
    assert await stage.count() == 3


async def test_insufficient_data_never_scales(stage: Stage) -> None:
    await stage.register(0, 5)
    await stage.track()
    await stage.until(stage.now + 3600)
    assert await stage.count() == 1
    assert await stage.activities(IncludeNotScaledActivities=True) == []


@pytest.mark.parametrize("stage", [{"on_arrival": False}], indirect=True)
async def test_from_zero_by_awss_alarms(stage: Stage) -> None:
    """HasBacklogWithoutCapacity in two periods of two, with a step policy; requests alone start nothing."""
    await stage.register(0, 5)
    steps = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]}
    policy = await stage.scaling(
        "put_scaling_policy", PolicyName="zero", PolicyType="StepScaling", StepScalingPolicyConfiguration=steps
    )
    await stage.alarm(
        AlarmName="wake-up",
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Dimensions=[{"Name": "EndpointName", "Value": "E"}],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        DatapointsToAlarm=2,
        Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        AlarmActions=[policy["PolicyARN"]],
    )
    await to_zero(stage)
    await stage.minutes(1, backlog=3)
    assert await stage.count() == 0
    await stage.minutes(2)
    assert await stage.count() == 1
    (activity,) = await stage.activities()
    assert activity["Cause"] == "monitor alarm wake-up in state ALARM triggered policy zero"


@pytest.mark.parametrize("stage", [{"on_arrival": False}], indirect=True)
async def test_from_zero_by_target_tracking_alone_needs_more_than_the_target(stage: Stage) -> None:
    await stage.register(0, 5)
    await stage.track()
    await to_zero(stage)
    await stage.minutes(6, backlog=5)
    assert await stage.count() == 0
    await stage.minutes(4, backlog=6)
    assert await stage.count() == 2


async def test_a_lost_wake_is_made_good_by_the_resync(stage: Stage) -> None:
    await stage.register(0, 5)
    await to_zero(stage)
    await stage.arrive(3)
    stage.due.clear()
    assert await stage.autoscaler.all() == [(KIND, ARN)]
    stage.wake(KIND, ARN)
    await stage.drive()
    stage.wake("endpoint", ARN)
    await stage.until(stage.now + 1)
    assert await stage.count() == 1


async def test_capacity_is_moved_into_the_range(stage: Stage) -> None:
    await stage.register(3, 4)
    await stage.until(stage.now + 2)
    assert await stage.count() == 3
    await stage.register(0, 2)
    await stage.until(stage.now + 2)
    assert await stage.count() == 2
    newest, older = await stage.activities()
    assert older["Cause"] == "minimum capacity was set to 3"
    assert newest["Cause"] == "maximum capacity was set to 2"
    assert newest["Description"] == "Setting desired instance count to 2."


async def test_a_real_time_variant_keeps_one_instance(db: Db, tmp_path: Path) -> None:
    stage = Stage(db, tmp_path)
    await stage.up()
    await stage.deploy()
    await stage.drive()
    await stage.register(0, 0)
    await stage.until(stage.now + 2)
    assert await stage.count() == 1
    assert await stage.activities() == []
    await stage.routes.stop()


async def test_not_scaled_activities_say_why(stage: Stage) -> None:
    await stage.register(0, 1)
    await stage.track()
    await stage.minutes(4, backlog=50)
    assert await stage.activities() == []
    (found,) = await stage.activities(IncludeNotScaledActivities=True)
    assert found["NotScaledReasons"] == [{"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 1}]
    assert found["Description"] == "Attempting to scale due to alarm triggered"
    await stage.minutes(5)
    assert len(await stage.activities(IncludeNotScaledActivities=True)) == 1


async def test_scheduled_actions_set_the_range(stage: Stage) -> None:
    await stage.register(0, 1)
    when = datetime.fromtimestamp(stage.now + 100, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    await stage.scaling(
        "put_scheduled_action",
        ScheduledActionName="more",
        Schedule=f"at({when})",
        ScalableTargetAction={"MinCapacity": 3, "MaxCapacity": 6},
    )
    await stage.until(stage.now + 98)
    assert await stage.count() == 1
    await stage.until(stage.now + 5)
    assert await stage.count() == 3
    (target,) = (await stage.scaling("describe_scalable_targets", ResourceIds=[VARIANT["ResourceId"]]))["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (3, 6)
    (activity,) = await stage.activities()
    assert activity["Cause"] == "minimum capacity was set to 3"


@pytest.mark.parametrize("stage", [{"scale": 60.0}], indirect=True)
async def test_a_rate_is_scaled_and_suspension_holds(stage: Stage) -> None:
    await stage.register(0, 9)
    action: dict[str, Any] = {"Schedule": "rate(1 hour)", "ScalableTargetAction": {"MinCapacity": 2}}
    await stage.scaling("put_scheduled_action", ScheduledActionName="hourly", **action)
    await stage.until(stage.now + 61)
    assert await stage.count() == 2
    await stage.register(0, 9, SuspendedState={"ScheduledScalingSuspended": True})
    await stage.until(stage.now + 130)
    (target,) = (await stage.scaling("describe_scalable_targets", ResourceIds=[VARIANT["ResourceId"]]))["ScalableTargets"]
    assert target["MinCapacity"] == 0


async def test_instances_that_do_not_start_fail_the_activity_and_are_tried_again(stage: Stage) -> None:
    await stage.register(0, 5)
    await to_zero(stage)
    stage.keeper.script["A"] = BROKEN
    await stage.arrive(3)
    await stage.until(stage.now + 0.5)
    (activity,) = await stage.activities()
    assert activity["StatusCode"] == "Failed"
    assert activity["StatusMessage"].startswith("Failed to set desired instance count to 1. Reason: ")
    await stage.until(stage.now + 10)
    assert len(await stage.activities()) in (3, 4)  # after 1, 2, 4 … seconds
    stage.keeper.script.clear()
    await stage.until(stage.now + 70)
    assert await stage.count() == 1
    assert (await stage.activities())[0]["StatusCode"] == "Successful"


async def test_a_quota_is_told_in_awss_words(stage: Stage) -> None:
    await stage.register(101, 200)
    await stage.until(stage.now + 0.5)
    (activity,) = await stage.activities()
    assert activity["StatusCode"] == "Failed"
    assert activity["StatusMessage"].startswith(
        "Failed to set desired instance count to 101. Reason: The account-level service limit 'ml.m5.large for endpoint usage'"
    )
    assert activity["StatusMessage"].endswith("(Service: AmazonSageMaker; Status Code: 400; Error Code: ResourceLimitExceeded)")
    await stage.until(stage.now + 3600)
    assert len(await stage.activities()) < 75


async def test_while_the_endpoint_is_updating_it_is_postponed_and_said(stage: Stage) -> None:
    await stage.register(0, 5)
    await stage.configure("c2", asynchronous=ASYNC)
    stage.keeper.script["A"] = "hangs"
    await stage.call("update_endpoint", EndpointName="E", EndpointConfigName="c2")
    await stage.drive()
    await stage.register(2, 5)
    await stage.until(stage.now + 3)
    assert await stage.count() == 1
    (found,) = await stage.activities(IncludeNotScaledActivities=True)
    assert found["NotScaledReasons"] == [{"Code": "TargetServicePutResourceAsUnscalable"}]
    assert "postponed, the endpoint is Updating" in found["StatusMessage"]
    for id in list(stage.keeper.running()):
        stage.keeper.ready(id)
    stage.keeper.script.clear()
    await stage.until(stage.now + 5)
    assert await stage.count() == 2


async def test_a_restart_in_the_middle_of_a_change(stage: Stage) -> None:
    await stage.register(0, 5)
    await to_zero(stage)
    stage.keeper.script["A"] = "hangs"
    await stage.arrive(3)
    (activity,) = await stage.activities()
    assert activity["StatusCode"] == "InProgress"
    assert "EndTime" not in activity
    stage.due.clear()
    stage.restart()
    for id in list(stage.keeper.running()):
        stage.keeper.ready(id)
    stage.keeper.script.clear()
    stage.wake("endpoint", ARN)
    for key in await stage.autoscaler.all():
        stage.wake(*key)
    await stage.until(stage.now + 3)
    (activity,) = await stage.activities()
    assert activity["StatusCode"] == "Successful"


async def test_deregistration_takes_policies_alarms_and_actions(stage: Stage) -> None:
    await stage.register(0, 5)
    policy = await stage.track()
    await stage.scaling(
        "put_scheduled_action",
        ScheduledActionName="a",
        Schedule="rate(1 day)",
        ScalableTargetAction={"MinCapacity": 1},
    )
    await stage.scaling("deregister_scalable_target")
    assert await stage.db.read(lambda c: scaling.policy_by_arn(c, policy)) is None
    assert (await stage.scaling("describe_scheduled_actions"))["ScheduledActions"] == []
    await stage.minutes(20, backlog=100)
    assert await stage.count() == 1


async def test_a_deleted_endpoint_is_cleaned_up_and_its_successor_has_nothing(stage: Stage) -> None:
    await stage.register(1, 5)
    policy = await stage.track()
    await stage.call("delete_endpoint", EndpointName="E")
    await stage.until(stage.now + 5)
    assert await stage.db.read(lambda c: scaling.policy_by_arn(c, policy)) is None
    assert await stage.db.read(lambda c: scaling.targets_of(c, ARN)) == []
    await stage.call("create_endpoint", EndpointName="E", EndpointConfigName="c")
    await stage.drive()
    with pytest.raises(AwsError, match="No scalable target"):
        await stage.track()


async def test_suspended_scaling_at_zero_is_noted_once(stage: Stage) -> None:
    await stage.register(0, 5, SuspendedState={"DynamicScalingOutSuspended": True})
    await to_zero(stage)
    await stage.arrive(3)
    await stage.arrive(3)
    assert await stage.count() == 0
    await stage.register(0, 5, SuspendedState={"DynamicScalingOutSuspended": False})
    assert await stage.count() == 1


async def test_wakes_by_any_name(stage: Stage) -> None:
    """A policy's ARN (alarms have it), a target's, an endpoint's, an incarnation's; and what is gone."""
    await stage.register(0, 5)
    policy = await stage.track()
    target = (await stage.scaling("describe_scalable_targets", ResourceIds=[VARIANT["ResourceId"]]))["ScalableTargets"][0]
    for key in (policy, target["ScalableTargetARN"], f"{ARN}#123.0"):
        stage.due.clear()
        assert await stage.autoscaler.reconcile(key) is None
        assert (KIND, ARN) in stage.due
    await stage.scaling("deregister_scalable_target")
    stage.due.clear()
    for key in (policy, target["ScalableTargetARN"]):
        assert await stage.autoscaler.reconcile(key) is None
    assert not stage.due


# What `slipway scaling explain` tells


async def explain(stage: Stage) -> dict[str, Any]:
    caller = Caller(ACCOUNT, REGION, "", "")
    match = re.fullmatch(rb"/_slipway/scaling/(?P<endpoint>.*)", b"/_slipway/scaling/E")
    assert match is not None
    response = await slipway_scaling.explained(stage.world, cast("Any", None), caller, match)
    assert response.status == 200
    assert isinstance(response.body, bytes)
    found: dict[str, Any] = json.loads(response.body)
    assert "\n".join(explanation(found))
    return found


async def test_explain_a_policy_at_work(stage: Stage) -> None:
    assert "no scalable target" in (await explain(stage))["doubts"][0]
    await stage.register(0, 5)
    await stage.track()
    await stage.minutes(2, backlog=10)
    (target,) = (await explain(stage))["targets"]
    assert target["doubts"] == []
    (policy,) = target["policies"]
    assert policy["doubts"] == ["ApproximateBacklogSizePerInstance lacks 1 of the last 3 datapoints"]
    high = next(alarm for alarm in policy["alarms"] if alarm["side"] == "high")
    assert (high["value"], high["threshold"], high["missing"]) == (10.0, 5.0, 1)
    assert target["next"]["why"] == "no alarm asks for a change"
    await stage.minutes(1)
    (target,) = (await explain(stage))["targets"]
    assert target["capacity"] == 2
    assert target["history"][0]["why"] == "ApproximateBacklogSizePerInstance is 10 against a target of 5: 1 × 10 ÷ 5 asks for 2"
    assert target["policies"][0]["scale_out_cooldown_left"] > 100


@pytest.mark.parametrize(
    ("metric", "word"),
    [
        ({"Dimensions": [{"Name": "EndpointName", "Value": "Other"}]}, "its dimension EndpointName is 'Other'"),
        (
            {"Dimensions": [{"Name": "EndpointName", "Value": "E"}, {"Name": "VariantName", "Value": "A"}]},
            "is published with the dimensions EndpointName, it asks for EndpointName and VariantName",
        ),
        ({"MetricName": "InvocationsPerInstance"}, "an asynchronous endpoint does not publish InvocationsPerInstance"),
        ({"Namespace": "AWS/Sagemaker"}, "its namespace is 'AWS/Sagemaker', SageMaker publishes in 'AWS/SageMaker'"),
        ({"MetricName": "ApproximateBacklogSizePerInstanc"}, "does not publish ApproximateBacklogSizePerInstanc"),
        ({"Namespace": "Mine", "MetricName": "M"}, "M was never published under its dimensions"),
    ],
)
async def test_explain_policies_that_can_never_act(stage: Stage, metric: dict[str, Any], word: str) -> None:
    await stage.register(0, 5)
    spec = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": "E"}],
        "Statistic": "Average",
    }
    await stage.track(CustomizedMetricSpecification=spec | metric)
    await stage.minutes(2, backlog=10)
    (target,) = (await explain(stage))["targets"]
    assert any(word in doubt for doubt in target["policies"][0]["doubts"]), target["policies"][0]["doubts"]


async def test_explain_what_holds_everything(stage: Stage) -> None:
    await stage.register(1, 1, SuspendedState={"DynamicScalingInSuspended": True})
    await stage.track(DisableScaleIn=True)
    steps = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]}
    await stage.scaling(
        "put_scaling_policy", PolicyName="steps", PolicyType="StepScaling", StepScalingPolicyConfiguration=steps
    )
    (target,) = (await explain(stage))["targets"]
    assert any("both 1" in doubt for doubt in target["doubts"])
    assert any("DynamicScalingInSuspended" in doubt for doubt in target["doubts"])
    told = {policy["name"]: policy["doubts"] for policy in target["policies"]}
    assert any("DisableScaleIn" in doubt for doubt in told["track"])
    assert any("no alarm names it" in doubt for doubt in told["steps"])
    alarm = next(a for a in next(p for p in target["policies"] if p["name"] == "track")["alarms"] if a["side"] == "high")
    await cloudwatch.delete_alarms(stage.ctx, {"AlarmNames": [alarm["name"]]})
    (target,) = (await explain(stage))["targets"]
    assert any("was deleted or changed" in doubt for policy in target["policies"] for doubt in policy["doubts"])


async def test_explain_at_zero_and_the_list(stage: Stage) -> None:
    await stage.register(0, 5)
    await stage.track()
    await to_zero(stage)
    (target,) = (await explain(stage))["targets"]
    assert any("at zero instances there is no" in doubt for doubt in target["policies"][0]["doubts"])
    caller = Caller(ACCOUNT, REGION, "", "")
    response = await slipway_scaling.listed(stage.world, cast("Any", None), caller, cast("Any", None))
    (row,) = json.loads(cast("bytes", response.body))["targets"]
    assert (row["endpoint"], row["variant"], row["capacity"], row["minimum"], row["maximum"]) == ("E", "A", 0, 0, 5)


async def test_metric_math_scales(stage: Stage) -> None:
    """A policy on an expression goes by the expression's newest value, not by the one that set the alarm off."""
    await stage.register(1, 10)
    stat = {
        "Metric": {
            "Namespace": "AWS/SageMaker",
            "MetricName": "ApproximateBacklogSize",
            "Dimensions": [{"Name": "EndpointName", "Value": "E"}],
        },
        "Stat": "Average",
    }
    queries = [{"Id": "m", "MetricStat": stat, "ReturnData": False}, {"Id": "e", "Expression": "m / 10"}]
    await stage.track(1.0, CustomizedMetricSpecification={"Metrics": queries}, ScaleOutCooldown=0)
    await stage.minutes(3, backlog=20)
    assert await stage.count() == 2
    await stage.minutes(1, backlog=30)
    assert await stage.count() == 6


async def test_an_idle_endpoint_costs_next_to_no_writes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its low alarm lasts for ever."""
    await stage.register(0, 5)
    await stage.track()
    await stage.minutes(20, backlog=0)
    writes = 0
    write = stage.autoscaler._write

    def counted(*arguments: Any) -> Any:
        nonlocal writes
        writes += 1
        return write(*arguments)

    monkeypatch.setattr(stage.autoscaler, "_write", counted)
    began = stage.now
    for _ in range(200):
        stage.wake(KIND, ARN)
        await stage.until(stage.now + 0.5)
    assert writes <= (stage.now - began) / 60 + 1
