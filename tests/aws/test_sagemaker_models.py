"""CreateModel, DescribeModel, ListModels, DeleteModel through boto3."""

from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud
from tests.aws.sagemaker_requests import IMAGE, ROLE, SageMaker


@pytest.fixture
def sm(cloud: Cloud) -> SageMaker:
    return SageMaker(cloud)


def refused(call: Any, **request: Any) -> str:
    """The message of the ValidationException that the call gets."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    message: str = caught.value.response["Error"]["Message"]
    return message


def test_everything_given_comes_back(sm: SageMaker) -> None:
    container = sm.container(
        ContainerHostname="front",
        ImageConfig={"RepositoryAccessMode": "Vpc"},
        Mode="SingleModel",
        Environment={"SAGEMAKER_PROGRAM": "inference.py", "EMPTY": ""},
        ContainerMetricsConfig={"MetricsEndpoints": [{"MetricsEndpointPath": "/metrics"}]},
    )
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    arn = sm.model("My-Model", PrimaryContainer=container, VpcConfig=vpc, EnableNetworkIsolation=True)
    assert arn == sm.arn("model", "my-model")
    found = sm.client.describe_model(ModelName="my-MODEL")
    assert found["ModelName"] == "My-Model"
    assert found["ModelArn"] == arn
    assert found["PrimaryContainer"] == container
    assert (found["VpcConfig"], found["EnableNetworkIsolation"], found["ExecutionRoleArn"]) == (vpc, True, ROLE)
    assert isinstance(found["CreationTime"], datetime.datetime)


def test_defaults_are_filled_in_and_what_is_empty_left_out(sm: SageMaker) -> None:
    sm.client.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE, "Environment": {}}, Tags=[])
    found = sm.client.describe_model(ModelName="m")
    del found["ResponseMetadata"], found["CreationTime"]
    assert found == {
        "ModelName": "m",
        "ModelArn": sm.arn("model", "m"),
        "EnableNetworkIsolation": False,
        "PrimaryContainer": {"Image": IMAGE, "Mode": "SingleModel"},
    }


def test_model_data_sources(sm: SageMaker) -> None:
    source = {"S3DataSource": {"S3Uri": sm.data, "S3DataType": "S3Object", "CompressionType": "Gzip"}}
    sm.model(PrimaryContainer={"Image": IMAGE, "ModelDataSource": source})
    assert sm.client.describe_model(ModelName="m")["PrimaryContainer"]["ModelDataSource"] == source
    sm.client.create_model(ModelName="one", Containers=[sm.container()])
    assert sm.client.describe_model(ModelName="one")["Containers"] == [sm.container(Mode="SingleModel")]


def test_names_are_unique_without_regard_to_case(sm: SageMaker) -> None:
    sm.model("Abc")
    message = refused(sm.client.create_model, ModelName="aBC", PrimaryContainer=sm.container())
    assert message == f'Cannot create already existing model "{sm.arn("model", "abc")}".'


def test_of_two_that_race_one_wins(sm: SageMaker) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            sm.model("race")
            outcomes.append("made")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Message"])

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[-1] == "made"
    assert sorted(outcomes)[:-1] == [f'Cannot create already existing model "{sm.arn("model", "race")}".'] * 5


def test_deleted_is_gone(sm: SageMaker) -> None:
    sm.model()
    sm.client.delete_model(ModelName="M")
    missing = f'Could not find model "{sm.arn("model", "m")}".'
    assert refused(sm.client.describe_model, ModelName="m") == missing
    assert refused(sm.client.delete_model, ModelName="m") == missing


def test_accounts_and_regions_see_nothing_of_each_other(sm: SageMaker, cloud: Cloud) -> None:
    sm.model()
    other = cloud.client("sagemaker", key=cloud.other_account())
    assert "Could not find model" in refused(other.describe_model, ModelName="m")
    assert "Could not find model data" in refused(other.create_model, ModelName="m", PrimaryContainer=sm.container())
    elsewhere = cloud.client("sagemaker", region="us-west-2")
    assert elsewhere.list_models()["Models"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PrimaryContainer": None}, "Neither PrimaryContainer nor Containers"),
        ({"Containers": [{"Image": IMAGE}]}, "Both PrimaryContainer and Containers"),
        ({"PrimaryContainer": {}}, "no Image"),
        ({"PrimaryContainer": {"Image": ":::"}}, 'ECR image ":::" is invalid.'),
        (
            {"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://nobody/none"}},
            "Could not find model data at s3://nobody/none.",
        ),
        ({"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://nobody/"}}, "Could not find model data at s3://nobody/."),
        ({"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "ftp://x/y"}}, "modelDataUrl"),
        ({"PrimaryContainer": {"Image": IMAGE, "Environment": {"A-B": "x"}}}, "environment"),
        ({"PrimaryContainer": {"Image": IMAGE, "Environment": {f"K{n}": "x" * 1000 for n in range(40)}}}, "32768"),
        ({"ExecutionRoleArn": "arn:aws:iam::123:role/short-account"}, "executionRoleArn"),
        ({"ModelName": "-bad-"}, "modelName"),
        ({"Tags": [{"Key": "aws:x", "Value": "1"}]}, "aws:"),
        ({"Tags": [{"Key": "x", "Value": "1"}, {"Key": "x", "Value": "2"}]}, "Duplicate"),
        (
            {"PrimaryContainer": {"Image": IMAGE, "Mode": "MultiModel"}},
            "A container whose Mode is MultiModel needs a ModelDataUrl",
        ),
        ({"PrimaryContainer": {"ModelPackageName": "p"}}, "PrimaryContainer.ModelPackageName"),
        ({"InferenceExecutionConfig": {"Mode": "Direct"}}, "InferenceExecutionConfig.Mode is Direct"),
    ],
)
def test_bad_input_is_named(sm: SageMaker, change: dict[str, Any], words: str) -> None:
    request = {"ModelName": "m", "PrimaryContainer": sm.container(), **change}
    assert words in refused(sm.client.create_model, **{k: v for k, v in request.items() if v is not None})
    assert sm.client.list_models()["Models"] == []


def test_more_of_what_is_refused(sm: SageMaker) -> None:
    both = sm.container(
        ModelDataSource={"S3DataSource": {"S3Uri": sm.data, "S3DataType": "S3Object", "CompressionType": "Gzip"}}
    )
    assert "Both ModelDataUrl and ModelDataSource" in refused(sm.client.create_model, ModelName="m", PrimaryContainer=both)
    prefix = {"S3DataSource": {"S3Uri": f"s3://{sm.bucket}/p/", "S3DataType": "S3Prefix", "CompressionType": "None"}}
    message = refused(sm.client.create_model, ModelName="m", PrimaryContainer={"Image": IMAGE, "ModelDataSource": prefix})
    assert "PrimaryContainer.ModelDataSource.S3DataSource.S3DataType is S3Prefix" in message


def test_several_containers_come_back(sm: SageMaker) -> None:
    several = [sm.container(ContainerHostname=name, Mode="SingleModel") for name in ("front", "back")]
    sm.client.create_model(ModelName="m", Containers=several, InferenceExecutionConfig={"Mode": "Direct"})
    found = sm.client.describe_model(ModelName="m")
    assert found["Containers"] == several
    assert found["InferenceExecutionConfig"] == {"Mode": "Direct"}
    unnamed = [sm.container(Mode="SingleModel") for _ in range(15)]
    sm.client.create_model(ModelName="pipeline", Containers=unnamed)
    assert sm.client.describe_model(ModelName="pipeline")["Containers"] == unnamed


DIRECT = {"Mode": "Direct"}


@pytest.mark.parametrize(
    ("hostnames", "more", "words"),
    [
        ([None] * 16, {}, "at 'containers' failed to satisfy constraint: Member must have length less than or equal to 15"),
        (["a", "b", "a"], {}, 'ContainerHostname "a" is not unique within Containers.'),
        (["a", "A"], {}, "is not unique within Containers."),
        (["a", None, "c"], {}, "Either all containers have a ContainerHostname, or none has: a, c stand beside Containers.2"),
        (["a", None], DIRECT, "Direct: every container needs a ContainerHostname. It is missing in Containers.2."),
        ([None, None], DIRECT, "It is missing in Containers.1, Containers.2."),
        (["a"], DIRECT, "Direct, which needs at least two containers in Containers: there is 1."),
        (["under_score", "b"], {}, "containerHostname"),
    ],
)
def test_containers_that_do_not_go_together(
    sm: SageMaker, hostnames: list[str | None], more: dict[str, Any], words: str
) -> None:
    containers = [sm.container(**({"ContainerHostname": name} if name else {})) for name in hostnames]
    request = {"Containers": containers, **({"InferenceExecutionConfig": more} if more else {})}
    assert words in refused(sm.client.create_model, ModelName="m", **request)
    assert sm.client.list_models()["Models"] == []


def test_every_containers_model_data_must_be_there(sm: SageMaker) -> None:
    containers = [sm.container(), {"Image": IMAGE, "ModelDataUrl": "s3://nobody/none"}]
    assert "s3://nobody/none" in refused(sm.client.create_model, ModelName="m", Containers=containers)


def test_containers_invoked_directly_are_not_asynchronous(sm: SageMaker) -> None:
    several = [sm.container(ContainerHostname=name) for name in ("front", "back")]
    sm.client.create_model(ModelName="m", Containers=several, InferenceExecutionConfig=DIRECT)
    variant = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    output = {"OutputConfig": {"S3OutputPath": f"s3://{sm.bucket}/out"}}
    message = refused(
        sm.client.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[variant], AsyncInferenceConfig=output
    )
    assert "InvokeEndpointAsync has no TargetContainerHostname" in message


def test_lists(sm: SageMaker) -> None:
    for number in range(12):
        sm.model(f"Model-{number:02}")
    names = [m["ModelName"] for m in sm.client.list_models()["Models"]]
    assert names == [f"Model-{number:02}" for number in range(11, 1, -1)], "newest first, ten to a page"
    pages = list(sm.client.get_paginator("list_models").paginate(SortBy="Name", SortOrder="Ascending", MaxResults=5))
    assert [len(page["Models"]) for page in pages] == [5, 5, 2]
    assert [m["ModelName"] for page in pages for m in page["Models"]] == [f"Model-{number:02}" for number in range(12)]
    assert [m["ModelName"] for m in sm.client.list_models(NameContains="-0")["Models"]] == [
        f"Model-{number:02}" for number in range(9, -1, -1)
    ]
    made = sm.client.describe_model(ModelName="Model-05")["CreationTime"]
    future = made + datetime.timedelta(hours=1)
    assert sm.client.list_models(CreationTimeAfter=future)["Models"] == []
    assert len(sm.client.list_models(CreationTimeBefore=future, MaxResults=100)["Models"]) == 12
    assert "NextToken" in refused(sm.client.list_models, NextToken="nonsense")
    token = sm.client.list_models()["NextToken"]
    assert "NextToken" in refused(sm.client.list_models, NextToken=token, SortBy="Name")
    assert "maxResults" in refused(sm.client.list_models, MaxResults=101)
