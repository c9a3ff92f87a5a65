"""Transform jobs through boto3: taken, given back, listed, stopped; refused where AWS refuses them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud
from tests.aws.sagemaker_requests import ROLE, SageMaker
from tests.aws.test_sagemaker_models import refused


class Jobs(SageMaker):
    """Requests that are right as they are."""

    def request(self, name: str = "j", **more: Any) -> dict[str, Any]:
        return {
            "TransformJobName": name,
            "ModelName": "m",
            "TransformInput": self.input(),
            "TransformOutput": {"S3OutputPath": "s3://bucket/out"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **more,
        }

    def input(self, **more: Any) -> dict[str, Any]:
        return {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in/"}}, **more}

    def create(self, name: str = "j", **more: Any) -> str:
        answer: str = self.client.create_transform_job(**self.request(name, **more))["TransformJobArn"]
        return answer


@pytest.fixture
def jobs(cloud: Cloud) -> Jobs:
    made = Jobs(cloud)
    made.model()
    return made


def test_everything_given_comes_back(jobs: Jobs) -> None:
    given = {
        "MaxConcurrentTransforms": 4,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 30, "InvocationsMaxRetries": 0},
        "MaxPayloadInMB": 25,
        "BatchStrategy": "SingleRecord",
        "Environment": {"A": "b"},
        "TransformInput": jobs.input(ContentType="text/csv", CompressionType="Gzip", SplitType="Line"),
        "TransformOutput": {"S3OutputPath": "s3://bucket/out", "Accept": "text/csv", "AssembleWith": "Line", "KmsKeyId": "k"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeKmsKeyId": "v"},
        "DataCaptureConfig": {"DestinationS3Uri": "s3://bucket/captured", "GenerateInferenceId": True},
        "DataProcessing": {"InputFilter": "$[1:]", "OutputFilter": "$[0,-1]", "JoinSource": "Input"},
        "ExperimentConfig": {"ExperimentName": "e", "RunName": "r"},
    }
    arn = jobs.create("Name-1", **given, Tags=[{"Key": "a", "Value": "b"}])
    assert arn == jobs.arn("transform-job", "name-1")
    told = jobs.client.describe_transform_job(TransformJobName="Name-1")
    assert {name: told[name] for name in given} == given
    assert (told["TransformJobName"], told["TransformJobArn"], told["ModelName"]) == ("Name-1", arn, "m")
    assert told["TransformJobStatus"] == "InProgress"
    assert not {"FailureReason", "TransformStartTime", "TransformEndTime"} & told.keys()
    assert jobs.client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]


def test_only_what_was_given_is_shown(jobs: Jobs) -> None:
    jobs.create()
    told = jobs.client.describe_transform_job(TransformJobName="j")
    assert not {"MaxPayloadInMB", "MaxConcurrentTransforms", "BatchStrategy", "DataProcessing"} & told.keys()


def code(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_names_are_unique_and_have_to_be_known(jobs: Jobs) -> None:
    jobs.create()
    assert code(jobs.client.create_transform_job, **jobs.request("J"))[0] == "ResourceInUse"
    assert code(jobs.client.create_transform_job, **jobs.request("k", ModelName="none"))[0] == "ResourceNotFound"
    for call in (jobs.client.describe_transform_job, jobs.client.stop_transform_job):
        assert code(call, TransformJobName="none") == ("ResourceNotFound", "Requested resource not found.")


def test_jobs_are_listed_with_filters(jobs: Jobs) -> None:
    for name in ("a-1", "a-2", "b-1"):
        jobs.create(name)
    jobs.client.stop_transform_job(TransformJobName="a-2")

    def listed(**filters: Any) -> list[str]:
        found = jobs.client.list_transform_jobs(**filters)["TransformJobSummaries"]
        return [each["TransformJobName"] for each in found]

    assert listed(SortBy="Name", SortOrder="Ascending") == ["a-1", "a-2", "b-1"]
    assert listed() == ["b-1", "a-2", "a-1"]
    assert listed(NameContains="A-", SortBy="Name") == ["a-2", "a-1"]
    assert listed(StatusEquals="Stopping") == ["a-2"]
    assert listed(SortBy="Status", SortOrder="Ascending")[-1] == "a-2"
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    assert listed(CreationTimeAfter=later) == listed(LastModifiedTimeAfter=later) == []
    assert len(listed(CreationTimeBefore=later, LastModifiedTimeBefore=later)) == 3
    page = jobs.client.list_transform_jobs(MaxResults=2)
    assert len(page["TransformJobSummaries"]) == 2
    assert listed(NextToken=page["NextToken"], MaxResults=2) == ["a-1"]
    assert {"TransformJobArn", "CreationTime", "LastModifiedTime", "TransformJobStatus"} <= page["TransformJobSummaries"][
        0
    ].keys()


def test_stopping(jobs: Jobs) -> None:
    jobs.create()
    jobs.client.stop_transform_job(TransformJobName="j")
    assert jobs.client.describe_transform_job(TransformJobName="j")["TransformJobStatus"] == "Stopping"
    jobs.client.stop_transform_job(TransformJobName="j")


CSV = {"ContentType": "text/csv", "SplitType": "Line"}
OUT = {"S3OutputPath": "s3://bucket/out"}
JOIN = {"JoinSource": "Input"}
IDS = {"DestinationS3Uri": "s3://bucket/captured", "GenerateInferenceId": True}


@pytest.mark.parametrize(
    ("more", "source", "words"),
    [
        ({"BatchStrategy": "MultiRecord"}, {}, "BatchStrategy is MultiRecord, and SplitType is None"),
        ({"MaxPayloadInMB": 101}, {}, "at most 100 are allowed"),
        ({"MaxPayloadInMB": 60, "MaxConcurrentTransforms": 2}, {}, "is over 100 MB"),
        ({"MaxConcurrentTransforms": 17}, {}, "is over 100 MB"),
        ({"DataProcessing": {"InputFilter": "$[0]"}}, {}, "DataProcessing needs a TransformInput.ContentType"),
        ({"DataProcessing": {"InputFilter": "$[0]"}}, {"ContentType": "text/csv"}, "SplitType must be Line"),
        ({"DataProcessing": {"InputFilter": "$[0]"}}, {**CSV, "SplitType": "TFRecord"}, "cannot look into TFRecord"),
        ({"DataProcessing": {"InputFilter": "$.a"}}, CSV, "have no names"),
        (
            {"DataProcessing": {"OutputFilter": "$[x]"}},
            CSV,
            'Invalid OutputFilter: "$[x]". Unexpected "x" in JsonPath',
        ),
        ({"DataProcessing": JOIN, "TransformOutput": {**OUT, "AssembleWith": "Line"}}, CSV, "Accept must be the same"),
        ({"DataProcessing": JOIN, "TransformOutput": {**OUT, "Accept": "text/csv"}}, CSV, "must be Line"),
        ({"TransformOutput": {"S3OutputPath": "https://example.com/x"}}, {}, "is not an S3 address"),
        ({"Tags": [{"Key": "slipway.quarantine", "Value": "maybe"}]}, {}, "may be true or false"),
        ({"DataCaptureConfig": {"DestinationS3Uri": "https://example.com/x"}}, {}, "is not an S3 address"),
        ({"DataCaptureConfig": IDS}, {}, "set TransformOutput.Accept"),
        ({"DataCaptureConfig": IDS}, {"ContentType": "image/png"}, "GenerateInferenceId needs an output of text/csv"),
        ({"DataCaptureConfig": IDS}, {**CSV, "SplitType": "RecordIO"}, "SplitType must be Line or None"),
        ({"DataCaptureConfig": IDS}, CSV, "needs TransformOutput.AssembleWith Line"),
    ],
)
def test_what_does_not_go_together_is_refused(jobs: Jobs, more: dict[str, Any], source: dict[str, Any], words: str) -> None:
    request = jobs.request(**{"TransformInput": jobs.input(**source), **more})
    assert words in refused(jobs.client.create_transform_job, **request)


@pytest.mark.parametrize("kind", ["AugmentedManifestFile", "Converse"])
def test_kinds_of_input_that_batch_transform_has_not(jobs: Jobs, kind: str) -> None:
    source = {"DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": "s3://bucket/in"}}}
    assert kind in refused(jobs.client.create_transform_job, **jobs.request(TransformInput=source))


def test_a_csv_answer_may_be_filtered_from_json(jobs: Jobs) -> None:
    processing = {"OutputFilter": "$['class']"}
    output = {**OUT, "Accept": "application/json", "AssembleWith": "Line"}
    jobs.create(TransformInput=jobs.input(**CSV), TransformOutput=output, DataProcessing=processing)


def test_models_that_batch_transform_cannot_use(jobs: Jobs) -> None:
    several = [jobs.container(ContainerHostname=name) for name in ("a", "b")]
    direct = {"InferenceExecutionConfig": {"Mode": "Direct"}}
    jobs.client.create_model(ModelName="direct", ExecutionRoleArn=ROLE, Containers=several, **direct)
    assert "its containers are called directly" in refused(jobs.client.create_transform_job, **jobs.request(ModelName="direct"))
