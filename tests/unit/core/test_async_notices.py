"""Notifications, letter by letter (hosting.md 4.4), and the words of failures."""

from __future__ import annotations

import base64
import json

from slipway.core import async_notices
from slipway.core.async_notices import Told
from slipway.core.asynchronous import INCLUDED_BODY

RECEIVED, FINISHED = 1643150760.455, 1643150760.608
TOLD = Told("us-east-1", "ep", "11bcab", RECEIVED, FINISHED, "s3://b/in.csv", "text/csv")


def test_success_is_the_reference_letter_by_letter() -> None:
    text = async_notices.success_notice(TOLD, "s3://b/out/x.out", "text/csv; charset=utf-8", b"1", include=False)
    assert text == (
        '{"awsRegion":"us-east-1","eventTime":"2022-01-25T22:46:00.608Z","receivedTime":"2022-01-25T22:46:00.455Z",'
        '"invocationStatus":"Completed",'
        '"requestParameters":{"contentType":"text/csv","endpointName":"ep","inputLocation":"s3://b/in.csv"},'
        '"responseParameters":{"contentType":"text/csv; charset=utf-8","outputLocation":"s3://b/out/x.out"},'
        '"inferenceId":"11bcab","eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"InferenceResult"}'
    )


def test_what_was_not_given_is_not_told() -> None:
    told = Told("us-east-1", "ep", "1", RECEIVED, FINISHED)
    notice = json.loads(async_notices.success_notice(told, "s3://b/o", "", None, include=False))
    assert notice["requestParameters"] == {"endpointName": "ep"}
    assert notice["responseParameters"] == {"outputLocation": "s3://b/o"}
    full = Told("us-east-1", "ep", "1", RECEIVED, FINISHED, "s3://b/i", "a/b", "c/d", "e=f")
    notice = json.loads(async_notices.success_notice(full, "s3://b/o", "", None, include=False))
    assert notice["requestParameters"] == {
        "contentType": "a/b",
        "endpointName": "ep",
        "inputLocation": "s3://b/i",
        "accept": "c/d",
        "customAttributes": "e=f",
    }


def test_an_answer_is_included_if_it_is_short_enough() -> None:
    def included(answer: bytes | None) -> dict[str, str]:
        found: dict[str, str] = json.loads(async_notices.success_notice(TOLD, "s3://b/o", "", answer, include=True))[
            "responseBody"
        ]
        return found

    most = b"\xff" * INCLUDED_BODY
    assert included(most) == {"content": base64.b64encode(most).decode(), "encoding": "BASE64"}
    assert "content" not in included(most + b"x")
    assert "output location" in included(None)["message"]


def test_failure_names_reason_and_failure_object() -> None:
    notice = json.loads(async_notices.failure_notice(TOLD, "why", "s3://b/x-error.out", b"no\xff", include=True))
    assert (notice["invocationStatus"], notice["failureReason"]) == ("Failed", "why")
    assert notice["responseParameters"] == {"outputLocation": "s3://b/x-error.out", "failureLocation": "s3://b/x-error.out"}
    assert notice["responseBody"] == {"content": "no\ufffd"}
    bare = json.loads(async_notices.failure_notice(TOLD, "why", None, None, include=True))
    assert "responseParameters" not in bare
    assert "responseBody" not in bare


def test_a_models_own_error_begins_with_awss_sentence() -> None:
    reason = async_notices.failure_reason("model-error", 500, "whatever", b"  boom ")
    assert reason == (
        "ClientError: Received server error (500) from model. See the SageMaker Endpoint logs in your account for more "
        'information. The model said: "boom"'
    )
    assert "client error (415)" in async_notices.failure_reason("model-error", 415, "", None)
    assert async_notices.failure_reason("timeout", 0, "Too late.", b"x") == "ClientError: Too late."
    assert len(async_notices.failure_reason("timeout", 0, "x" * 10_000, None)) == async_notices.REASON_BYTES


def test_a_failure_object_has_all_that_the_model_said() -> None:
    assert async_notices.failure_object("model-error", 'It said "boom".', b"boom") == b'It said "boom".'
    assert async_notices.failure_object("model-error", "It failed.", b"Traceback") == b"It failed.\n\nTraceback"
    assert async_notices.failure_object("timeout", "Too late.", b"part of an answer") == b"Too late."


def test_causes() -> None:
    assert async_notices.cause_of("no-answer", 0, "ep", 60) == (
        "Amazon SageMaker could not get a response from the ep endpoint. This can occur when CPU or memory utilization is high."
    )
    assert "InvocationTimeoutSeconds of 60" in async_notices.cause_of("timeout", 0, "ep", 60)
    kinds = ("model-error", "download", "upload", "too-large", "")
    assert len({async_notices.cause_of(kind, 500, "ep", 60) for kind in kinds}) == len(kinds)
    assert "61 s" in async_notices.expired_cause(0.0, 60.0, 61.2)
    assert "The last time: killed" in async_notices.dead_cause(3, "killed")


def test_a_data_log_line_is_one_line() -> None:
    line = async_notices.data_log_line(1648034243.723, "id", "Received server error\n(500)\tfrom primary")
    assert line == "2022-03-23T11:17:23.723:[sagemaker logs] [id] Received server error (500) from primary"
