from __future__ import annotations

import time

import pytest
from botocore.session import get_session

from slipway.wire.corrections import CATALOG, QUERY_CODES, S3_ROOTS
from slipway.wire.models import ServiceModels, streaming_input, streaming_output

MODELS = ServiceModels(CATALOG)


@pytest.mark.parametrize("name", CATALOG)
def test_the_catalogue_says_what_botocore_says(name: str) -> None:
    model, facts = MODELS.service(name), CATALOG[name]
    assert model.metadata.get("signingName", model.metadata["endpointPrefix"]) == facts.scope
    assert model.metadata["apiVersion"] == facts.version
    assert model.metadata.get("targetPrefix") == facts.prefix
    theirs = get_session().get_service_model(name)
    assert facts.protocols[0] == theirs.resolved_protocol
    assert set(facts.protocols) - set(theirs.protocols) in (set(), {"query"})


def test_models_are_read_when_asked_for_and_once() -> None:
    models = ServiceModels(("sagemaker", "sts"))
    assert models.service("sts") is models.service("sts")
    begun = time.process_time()
    models.service("sagemaker")
    assert time.process_time() - begun < 0.5


def test_what_is_not_there_is_a_key_error() -> None:
    models = ServiceModels(("sts",))
    with pytest.raises(KeyError):
        models.service("s3")
    with pytest.raises(KeyError):
        models.operation("sts", "Nope")


def test_streams() -> None:
    assert streaming_input(MODELS.operation("s3", "PutObject")) == "Body"
    assert streaming_input(MODELS.operation("s3", "DeleteObjects")) is None
    assert streaming_input(MODELS.operation("s3", "PutBucketPolicy")) is None
    assert streaming_input(MODELS.operation("iam", "GetAccountSummary")) is None
    assert streaming_output(MODELS.operation("s3", "GetObject")) == "Body"
    assert streaming_output(MODELS.operation("sagemaker-runtime", "InvokeEndpointWithResponseStream")) == "Body"
    assert streaming_output(MODELS.operation("sagemaker", "DeleteModel")) is None


def test_corrections_name_what_is_in_the_models() -> None:
    assert set(S3_ROOTS) <= set(MODELS.service("s3").operation_names)
    for service, codes in QUERY_CODES.items():
        assert set(codes) <= set(MODELS.service(service).shape_names)


def test_sqs_has_its_query_traits_back_in_that_protocol_alone() -> None:
    former, today = (MODELS.operation("sqs", "GetQueueAttributes", protocol) for protocol in ("query", "json"))
    assert former.input_shape is not None
    assert today.input_shape is not None
    assert former.input_shape.members["AttributeNames"].member.serialization["name"] == "AttributeName"
    assert "name" not in today.input_shape.members["AttributeNames"].member.serialization
