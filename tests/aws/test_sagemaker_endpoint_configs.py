"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig through boto3; and tags."""

from __future__ import annotations

from typing import Any

import pytest

from tests.aws.cloud import Cloud
from tests.aws.sagemaker_requests import SageMaker
from tests.aws.test_sagemaker_models import refused


@pytest.fixture
def sm(cloud: Cloud) -> SageMaker:
    made = SageMaker(cloud)
    made.model()
    return made


def test_everything_given_comes_back(sm: SageMaker) -> None:
    variant = sm.variant(
        InitialVariantWeight=0.5,
        VolumeSizeInGB=30,
        ModelDataDownloadTimeoutInSeconds=600,
        ContainerStartupHealthCheckTimeoutInSeconds=60,
        EnableSSMAccess=True,
        InferenceAmiVersion="al2-ami-sagemaker-inference-gpu-2",
        RoutingConfig={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        ManagedInstanceScaling={"Status": "DISABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2},
    )
    capture = {
        "EnableCapture": False,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": "s3://b/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    arn = sm.config(
        "My-Config", variant, DataCaptureConfig=capture, KmsKeyId="key", MetricsConfig={"EnableEnhancedMetrics": True}
    )
    assert arn == sm.arn("endpoint-config", "my-config")
    found = sm.client.describe_endpoint_config(EndpointConfigName="MY-config")
    assert (found["EndpointConfigName"], found["EndpointConfigArn"]) == ("My-Config", arn)
    assert found["ProductionVariants"] == [variant]
    assert (found["DataCaptureConfig"], found["KmsKeyId"]) == (capture, "key")
    assert found["MetricsConfig"] == {"EnableEnhancedMetrics": True}


def test_defaults_and_nothing_empty(sm: SageMaker) -> None:
    sm.config()
    found = sm.client.describe_endpoint_config(EndpointConfigName="c")
    assert found["ProductionVariants"] == [sm.variant(InitialVariantWeight=1.0)]
    assert set(found) == {"EndpointConfigName", "EndpointConfigArn", "ProductionVariants", "CreationTime", "ResponseMetadata"}


def test_deleted_is_gone_and_lists(sm: SageMaker) -> None:
    sm.config("one")
    sm.config("two")
    assert [c["EndpointConfigName"] for c in sm.client.list_endpoint_configs()["EndpointConfigs"]] == ["two", "one"]
    sm.client.delete_endpoint_config(EndpointConfigName="one")
    missing = f'Could not find endpoint configuration "{sm.arn("endpoint-config", "one")}".'
    assert refused(sm.client.describe_endpoint_config, EndpointConfigName="One") == missing
    assert refused(sm.client.delete_endpoint_config, EndpointConfigName="one") == missing
    existing = f'Cannot create already existing endpoint configuration "{sm.arn("endpoint-config", "two")}".'
    assert refused(sm.client.create_endpoint_config, EndpointConfigName="TWO", ProductionVariants=[sm.variant()]) == existing


@pytest.mark.parametrize(
    ("variant", "more", "words"),
    [
        ({"ModelName": "nope"}, {}, "Could not find model"),
        ({"InstanceType": "ml.none.large"}, {}, "productionVariants.1.member.instanceType"),
        ({"InstanceType": None}, {}, "Value null at 'productionVariants.1.member.instanceType'"),
        ({"InitialInstanceCount": 0}, {}, "greater than or equal to 1"),
        ({"InitialInstanceCount": None}, {}, "Value null at 'productionVariants.1.member.initialInstanceCount'"),
        ({"InitialVariantWeight": -1.0}, {}, "greater than or equal to 0"),
        ({"ModelName": None}, {}, "ProductionVariants.1"),
        ({"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}, {}, "ProductionVariants.1.ServerlessConfig"),
        ({"CoreDumpConfig": {"DestinationS3Uri": "s3://b/k"}}, {}, "CoreDumpConfig"),
        ({"AcceleratorType": "ml.eia1.medium"}, {}, "AcceleratorType"),
        ({"InstancePools": [{"InstanceType": "ml.m5.large", "Priority": 1}]}, {}, "InstancePools"),
        ({"ManagedInstanceScaling": {"Status": "ENABLED"}}, {}, "ManagedInstanceScaling.Status is ENABLED"),
        ({"RoutingConfig": {"RoutingStrategy": "KV_AWARE"}}, {}, "RoutingStrategy is KV_AWARE"),
        ({}, {"ExplainerConfig": {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {}}}}}, "ExplainerConfig"),
        (
            {},
            {
                "DataCaptureConfig": {
                    "InitialSamplingPercentage": 1,
                    "DestinationS3Uri": "s3://b/k",
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                }
            },
            "DataCaptureConfig.EnableCapture is True",
        ),
        (
            {},
            {"CrossRegionTrafficConfig": {"MaxInvocationsPerSecondPerInstance": 1, "MaxCrossRegionPercentPerEndpoint": 1}},
            "CrossRegion",
        ),
    ],
)
def test_bad_input_is_named(sm: SageMaker, variant: dict[str, Any], more: dict[str, Any], words: str) -> None:
    production = {name: value for name, value in sm.variant(**variant).items() if value is not None}
    message = refused(sm.client.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[production], **more)
    assert words in message
    assert sm.client.list_endpoint_configs()["EndpointConfigs"] == []


def test_variants_have_different_names(sm: SageMaker) -> None:
    twice = [sm.variant("A"), sm.variant("A")]
    message = refused(sm.client.create_endpoint_config, EndpointConfigName="c", ProductionVariants=twice)
    assert message == 'The variant name "A" was non-unique within the request.'
    shadow = {"ProductionVariants": [sm.variant("A")], "ShadowProductionVariants": [sm.variant("B")]}
    assert "ShadowProductionVariants" in refused(sm.client.create_endpoint_config, EndpointConfigName="c", **shadow)


def test_tags(sm: SageMaker) -> None:
    arn = sm.config("Tagged", Tags=[{"Key": "b", "Value": "1"}, {"Key": "a", "Value": ""}])
    assert sm.client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "1"}]
    as_written = sm.arn("endpoint-config", "Tagged")
    after = sm.client.add_tags(ResourceArn=as_written, Tags=[{"Key": "b", "Value": "2"}, {"Key": "ä", "Value": "x y"}])
    assert after["Tags"] == [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "2"}, {"Key": "ä", "Value": "x y"}]
    sm.client.delete_tags(ResourceArn=arn, TagKeys=["a", "none"])
    assert [tag["Key"] for tag in sm.client.list_tags(ResourceArn=arn)["Tags"]] == ["b", "ä"]
    sm.client.delete_endpoint_config(EndpointConfigName="Tagged")
    assert "Could not find endpoint configuration" in refused(sm.client.list_tags, ResourceArn=arn)
    sm.config("Tagged")
    assert sm.client.list_tags(ResourceArn=arn)["Tags"] == []


def test_tag_limits_and_pages(sm: SageMaker, cloud: Cloud) -> None:
    arn = sm.arn("model", "m")
    tags = [{"Key": f"k{n:02}", "Value": "v"} for n in range(50)]
    sm.client.add_tags(ResourceArn=arn, Tags=tags)
    assert "at most 50 tags" in refused(sm.client.add_tags, ResourceArn=arn, Tags=[{"Key": "more", "Value": "v"}])
    assert "aws:" in refused(sm.client.add_tags, ResourceArn=arn, Tags=[{"Key": "AWS:x", "Value": "v"}])
    first = sm.client.list_tags(ResourceArn=arn, MaxResults=50)
    assert first["Tags"] == tags
    assert "NextToken" not in first
    assert "NextToken" in refused(sm.client.list_tags, ResourceArn=arn, NextToken="%%%")
    other = cloud.client("sagemaker", key=cloud.other_account())
    assert "Could not find" in refused(other.list_tags, ResourceArn=arn)
    assert "Could not find resource" in refused(sm.client.list_tags, ResourceArn=sm.arn("app", "x"))
    assert "resourceArn" in refused(sm.client.list_tags, ResourceArn="arn:aws:s3:::bucket")
