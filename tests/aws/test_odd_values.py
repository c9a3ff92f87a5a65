"""Values that are well-formed and make no sense: refused in AWS's words, and never kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
VARIANT = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_is_a_number(cloud: Cloud, weight: float) -> None:
    client = cloud.client("sagemaker")
    client.create_model(ModelName="m", PrimaryContainer={"Image": "image:1"}, ExecutionRoleArn=ROLE)
    variants = [{**VARIANT, "InitialVariantWeight": weight}]
    told = refused(client.create_endpoint_config, EndpointConfigName="c", ProductionVariants=variants)
    assert told[0] == "ValidationException"
    assert "'productionVariants.1.member.initialVariantWeight' failed to satisfy constraint" in told[1]
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[VARIANT])
    client.create_endpoint(EndpointName="e", EndpointConfigName="c")
    changes = [{"VariantName": "A", "DesiredWeight": weight}]
    told = refused(client.update_endpoint_weights_and_capacities, EndpointName="e", DesiredWeightsAndCapacities=changes)
    assert told[0] == "ValidationException"
    assert "desiredWeight' failed to satisfy constraint" in told[1]


def test_a_variable_that_no_process_can_have(cloud: Cloud) -> None:
    container = {"Image": "image:1", "Environment": {"A": "before\0after"}}
    told = refused(cloud.client("sagemaker").create_model, ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    assert told == ("ValidationException", "The environment variable A holds a null character, which no process can be given.")
