"""The announcement's policy, real processes, a time scale of 60: to zero, up on a burst, and back; and its explanation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from slipway.cli.launch import child_environment, temporary
from tests.deadlines import LONG, Watch
from tests.e2e.asynchronous import ADD, Asynchronous
from tests.e2e.deployments import Deployments, script, until

REQUESTS = 60
VARIANT: dict[str, Any] = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    "ResourceId": "endpoint/adder/variant/AllTraffic",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    with temporary(["--time-scale", "60"]) as launched:
        yield Deployments(launched)


def slipway(server: Deployments, *arguments: str) -> str:
    command = [sys.executable, "-m", "slipway.cli.main", *arguments, "--data-dir", str(server.launched.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, env=child_environment(server.launched))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_zero_to_three_and_back(server: Deployments) -> None:
    adder = Asynchronous(server, "adder", script(ADD), {"MaxConcurrentInvocationsPerInstance": 2})
    scaling = server.client("application-autoscaling")
    scaling.register_scalable_target(**VARIANT, MinCapacity=0, MaxCapacity=3)
    scaling.put_scaling_policy(
        **VARIANT,
        PolicyName="Invocations-ScalingPolicy",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": "adder"}],
                "Statistic": "Average",
            },
            "ScaleInCooldown": 120,
            "ScaleOutCooldown": 120,
        },
    )

    def instances() -> int:
        told = server.sagemaker.describe_endpoint(EndpointName="adder")
        return int(told["ProductionVariants"][0]["CurrentInstanceCount"])

    until(lambda: instances() == 0, LONG)
    began = Watch()
    requests = [adder.invoke({"sleep": 0.3}) for _ in range(REQUESTS)]

    def scaled_out() -> bool:
        """Until then there is always a backlog, however long a busy machine takes to start an instance."""
        if instances() == 3:
            return True
        requests.extend(adder.invoke({"sleep": 0.3}) for _ in range(8))
        time.sleep(0.5)
        return False

    until(scaled_out, LONG, "three instances")
    assert began.free < 45
    told = json.loads(slipway(server, "scaling", "explain", "adder", "--json"))
    assert told["targets"][0]["capacity"] == 3
    assert "backlog of" in slipway(server, "scaling", "explain", "adder")
    assert "adder/AllTraffic" in slipway(server, "scaling", "list")
    ends = [adder.notification() for _ in requests]
    assert {end["inferenceId"] for end in ends} == {request.id for request in requests}
    assert {end["invocationStatus"] for end in ends} == {"Completed"}
    until(lambda: instances() == 0, LONG)

    def activities() -> list[dict[str, Any]]:
        return list(scaling.describe_scaling_activities(**VARIANT)["ScalingActivities"])

    until(lambda: {activity["StatusCode"] for activity in activities()} == {"Successful"}, LONG)
    done = activities()
    assert done[0]["Cause"].endswith("in state ALARM triggered policy Invocations-ScalingPolicy")
    scaling.deregister_scalable_target(**VARIANT)
    server.sagemaker.delete_endpoint(EndpointName="adder")
