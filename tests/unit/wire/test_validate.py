from __future__ import annotations

import time
import warnings
from typing import Any

import pytest

from slipway.wire.corrections import CATALOG
from slipway.wire.errors import AwsError
from slipway.wire.models import ServiceModels
from slipway.wire.patterns import MAX_CHECKED, compiled
from slipway.wire.validate import validate

MODELS = ServiceModels(CATALOG)
VARIANT = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}


def error(service: str, operation: str, params: dict[str, Any]) -> AwsError:
    with pytest.raises(AwsError) as raised:
        validate(MODELS.operation(service, operation), params)
    return raised.value


def message(service: str, operation: str, params: dict[str, Any]) -> str:
    found = error(service, operation, params)
    assert (found.code, found.status) == ("ValidationException", 400)
    return found.message


def config(**variant: Any) -> dict[str, Any]:
    return {"EndpointConfigName": "c", "ProductionVariants": [{**VARIANT, **variant}]}


def test_what_is_allowed_passes() -> None:
    validate(MODELS.operation("sagemaker", "CreateEndpointConfig"), config())
    validate(MODELS.operation("sagemaker", "CreateEndpointConfig"), {**config(), "Tags": [{"Key": "Ä b", "Value": ""}]})
    validate(MODELS.operation("iam", "GetAccountSummary"), {"Anything": 1})
    validate(MODELS.operation("sagemaker-runtime", "InvokeEndpoint"), {"EndpointName": "e"})  # Body is a stream


def test_enum() -> None:
    text = message("sagemaker", "CreateEndpointConfig", config(InstanceType="X"))
    frame = (
        "1 validation error detected: Value 'X' at 'productionVariants.1.member.instanceType' failed to satisfy constraint: "
    )
    assert text.startswith(frame + "Member must satisfy enum value set: [ml.t2.medium, ")
    assert text.endswith("]")


def test_missing() -> None:
    assert message("sagemaker", "CreateEndpoint", {"EndpointName": "e"}) == (
        "1 validation error detected: Value null at 'endpointConfigName' failed to satisfy constraint: Member must not be null"
    )


def test_length_and_pattern() -> None:
    text = message("sagemaker", "DescribeModel", {"ModelName": "-" * 64})
    assert text == (
        f"1 validation error detected: Value '{'-' * 64}' at 'modelName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63"
    )
    pattern = MODELS.service("sagemaker").shape_for("ModelName").metadata["pattern"]
    assert message("sagemaker", "DescribeModel", {"ModelName": "a b"}) == (
        "1 validation error detected: Value 'a b' at 'modelName' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {pattern}"
    )


@pytest.mark.parametrize("name", ["a", "A-b--c", "a" * 63, "0"])
def test_good_names(name: str) -> None:
    validate(MODELS.operation("sagemaker", "DescribeEndpoint"), {"EndpointName": name})
    validate(MODELS.operation("sagemaker", "DescribeModel"), {"ModelName": name})


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a.b", "ü", "a\n", "a" * 64])
def test_bad_names(name: str) -> None:
    message("sagemaker", "DescribeEndpoint", {"EndpointName": name})
    message("sagemaker", "DescribeModel", {"ModelName": name})


def test_ranges_are_values_and_lists_have_lengths() -> None:
    assert "Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1" in (
        message("sagemaker", "ListModels", {"MaxResults": 0})
    )
    assert "Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100" in (
        message("sagemaker", "ListModels", {"MaxResults": 101})
    )
    text = message("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": []})
    assert "Value '[]' at 'productionVariants' failed to satisfy constraint: Member must have length greater" in text


def test_several_are_joined_in_the_models_order() -> None:
    text = message("sagemaker", "CreateEndpointConfig", {"ProductionVariants": [{"InitialInstanceCount": 0}]})
    assert text.startswith("3 validation errors detected: Value null at 'endpointConfigName'")
    parts = text.split("; ")
    assert [part.split("'")[1] for part in parts if "null" in part] == [
        "endpointConfigName",
        "productionVariants.1.member.variantName",
    ]
    assert len(parts) == 3


def test_members_of_scalar_lists_and_maps_are_reported_as_a_whole() -> None:
    params = {"ResourceArn": "arn:aws:sagemaker:eu-west-1:123456789012:model/m", "TagKeys": ["ok", "!"]}
    text = message("sagemaker", "DeleteTags", params)
    assert (
        "Value '[ok, !]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have" in text
    )
    assert text.endswith("Member must not be null]")
    container = {"Image": "i", "Environment": {"OK": "v", "bad key": "v"}}
    text = message("sagemaker", "CreateModel", {"ModelName": "m", "PrimaryContainer": container})
    assert "at 'primaryContainer.environment' failed to satisfy constraint: Map keys must satisfy constraint: [" in text
    container = {"Image": "i", "Environment": {"OK": None}}
    assert "Map value must satisfy" in message("sagemaker", "CreateModel", {"ModelName": "m", "PrimaryContainer": container})


def test_nulls_in_lists_and_maps_of_structures() -> None:
    text = message("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [None]})
    assert "Value null at 'productionVariants.1.member' failed to satisfy constraint: Member must not be null" in text
    attributes = {"QueueUrl": "u", "MessageBody": "b", "MessageAttributes": {"a": None, "b": {}}}
    found = error("sqs", "SendMessage", attributes).message
    assert "Value null at 'messageAttributes.a.member'" in found
    assert "Value null at 'messageAttributes.b.member.dataType'" in found


def test_what_is_secret_is_not_repeated() -> None:
    params = {"EndpointName": "e", "CustomAttributes": "geheim\u00fc"}
    found = error("sagemaker-runtime", "InvokeEndpoint", params)
    assert found.code == "ValidationError"
    assert "Value at 'customAttributes' failed" in found.message
    assert "geheim" not in found.message


def test_errors_are_bounded() -> None:
    tags = [{"Key": "!" * 4000, "Value": "!"}] * 50_000
    begun = time.process_time()
    text = message("sagemaker", "AddTags", {"ResourceArn": "x" * 10_000_000, "Tags": tags})
    assert text.startswith("100 validation errors detected")
    assert len(text) < 200_000
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("service", "operation", "params", "code"),
    [
        ("sts", "AssumeRole", {"RoleArn": "x" * 20}, "ValidationError"),
        ("iam", "GetRole", {}, "ValidationError"),
        ("logs", "CreateLogGroup", {"logGroupName": "!"}, "InvalidParameterException"),
        ("ecr", "CreateRepository", {"repositoryName": "!"}, "InvalidParameterException"),
        ("cloudwatch", "PutMetricData", {}, "ValidationError"),
        ("application-autoscaling", "DescribeScalableTargets", {}, "ValidationException"),
        ("s3", "PutObject", {"Bucket": "b", "Key": ""}, "InvalidArgument"),
        ("s3", "DeleteObjects", {"Bucket": "b", "Delete": {"Objects": [{}]}}, "MalformedXML"),
        ("s3", "PutObject", {"Bucket": "b", "Key": "k", "StorageClass": "X"}, "InvalidStorageClass"),
        (
            "s3",
            "CreateBucket",
            {"Bucket": "b", "CreateBucketConfiguration": {"LocationConstraint": "moon"}},
            "InvalidLocationConstraint",
        ),
    ],
)
def test_codes_of_services(service: str, operation: str, params: dict[str, Any], code: str) -> None:
    assert error(service, operation, params).code == code


def test_values_are_shown_as_java_shows_them() -> None:
    dimensions = {"Namespace": "n", "MetricData": [{"MetricName": "", "Values": [1.5, True, None]}]}
    assert (
        "Value '[1.5, true, null]' at 'metricData.1.member.values'" in error("cloudwatch", "PutMetricData", dimensions).message
    )
    params = {"ModelName": "m", "PrimaryContainer": {"Image": "i", "Environment": {"bad key": "v", "b": "w"}}}
    assert "Value '{bad key=v, b=w}'" in message("sagemaker", "CreateModel", params)
    found = error("ecr", "UploadLayerPart", {"repositoryName": "r", "layerPartBlob": b"x" * 20_971_521}).message
    assert "Value 'java.nio.HeapByteBuffer[pos=0 lim=20971521 cap=20971521]' at 'layerPartBlob'" in found


def _patterns() -> dict[str, int]:
    found: dict[str, int] = {}
    for service in CATALOG:
        model = MODELS.service(service)
        for name in model.shape_names:
            metadata = model.shape_for(name).metadata
            if "pattern" in metadata:
                longest = min(metadata.get("max", MAX_CHECKED), MAX_CHECKED)
                found[metadata["pattern"]] = max(longest, found.get(metadata["pattern"], 0))
    return found


def test_every_pattern_compiles_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pattern in _patterns():
            compiled(pattern)


def test_no_pattern_can_be_made_to_run_long() -> None:
    starts = ("", "arn:aws:", "https://", "arn:aws:iam::123456789012:role/", "arn:aws:sagemaker:us-east-1:123456789012:")
    for pattern, longest in _patterns().items():
        for start in starts:
            for unit in ("a", "-", "a-", "/", " ", "a.", ":", "1", "a_", "a/"):
                for length in (min(30, longest), longest):
                    text = (start + unit * length)[: length - 1]
                    for end in ("!", "\n"):
                        begun = time.process_time()
                        compiled(pattern).fullmatch(text + end)
                        assert time.process_time() - begun < 0.2, (pattern, start, unit)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Zürich 日本 ٣_.:/=+-@\u00a0", "a!"),
        (r"\p{ASCII}*", "a\n~", "ü"),
        (r"\A\S[\p{Print}]*\z", "a b~", "a\n"),
        (r"[\w-_]*", "a-_1", "a b"),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "a 🚀\t", "\n"),
        (r"[a-zA-Z0-9-_.]+", "a-_.", "a/"),
        (r"[a[b]+", "a[b", "c"),
        (r"[^]a]+", "bc", "]"),
        (r"[\p{Alnum}-]+", "a-1", "_"),
        (r"[\d-x]+", "1-x", "y"),
        (r"([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,128}", "a/b", "!"),
        (r"[a-z0-9]([-a-z0-9]*[a-z0-9]){0,39}?", "a-b", "a-"),
        (r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$", "a-b/*c.d1", "a--b"),
        (r"^[ \t]*[^\x00-\x1F:\x7F]+([ \t]+[^\x00-\x1F:\x7F]+)*[ \t]*$", "\t a\t\tb ", "\t"),
        (r"^[ \t]*[\x20-\x7E]+([ \t]+[\x20-\x7E]+)*[ \t]*$", "\t a\t\tb ", "a\x00"),
        (r"\/?.+\/.+", "/a/b", "a/"),
        (r"https://([.\-_a-zA-Z0-9]+/?){3,1016}", "https://a.b/c/", "https://ab"),
    ],
)
def test_patterns_of_java(pattern: str, good: str, bad: str) -> None:
    assert compiled(pattern).fullmatch(good)
    assert not compiled(pattern).fullmatch(bad)


def test_an_unknown_category_is_no_pattern() -> None:
    with pytest.raises(Exception, match="unknown category Xx"):
        compiled(r"\p{Xx}")
