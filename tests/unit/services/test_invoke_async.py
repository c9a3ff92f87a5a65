"""What control's end of InvokeEndpointAsync refuses, and the names that it gives."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from slipway.core.asynchronous import INLINE_BODY, AcceptRequest
from slipway.services.runtime.invoke_async import fingerprint, ordered_uuid, refusal
from slipway.settings import Limits

GOOD = AcceptRequest("1", "eu-central-1", "Echo", input_location="s3://bucket/in.csv")
LIMITS = Limits()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"input_location": None, "body": b""},
        {"input_location": None, "body": b"x" * INLINE_BODY},
        {"ttl": 60},
        {"ttl": 21_600, "timeout": 1},
        {"timeout": 3600},
        {"filename": "a.json"},
        {"filename": "A-b_c"},
        {"extension": "2026/02/run(1)"},
        {"token": "t" * 128},
        {"inference_id": "x" * 64},
        {"input_location": "https://s3.eu-central-1.amazonaws.com/bucket/in.csv"},
    ],
)
def test_what_is_good_passes(changes: dict[str, Any]) -> None:
    assert refusal(replace(GOOD, **changes), LIMITS) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"body": b"x"}, "Exactly one"),
        ({"input_location": None}, "Exactly one"),
        ({"input_location": None, "body": b"x" * (INLINE_BODY + 1)}, "length less than or equal to 128000"),
        ({"input_location": "s3://bucket"}, "S3 URI"),
        ({"input_location": "s3://bucket/"}, "S3 URI"),
        ({"input_location": "/etc/passwd"}, "S3 URI"),
        ({"input_location": "s3://bucket/" + "x" * 1024}, "length less than or equal to 1024"),
        ({"ttl": 59}, "'requestTTLSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60"),
        ({"ttl": 21_601}, "less than or equal to 21600"),
        ({"timeout": 0}, "greater than or equal to 1"),
        ({"timeout": 3601}, "less than or equal to 3600"),
        ({"custom_attributes": "x" * 1025}, "customAttributes"),
        ({"inference_id": "x" * 65}, "inferenceId"),
        ({"filename": "a.b.c"}, "filename"),
        ({"filename": "-a"}, "filename"),
        ({"filename": "x" * 33}, "filename"),
        ({"filename": "../x"}, "filename"),
        ({"extension": "s3://other"}, "s3OutputPathExtension"),
        ({"extension": "a b"}, "s3OutputPathExtension"),
        ({"token": "two words"}, "Idempotency"),
        ({"token": "t" * 129}, "Idempotency"),
    ],
)
def test_what_is_not_is_a_validation_error(changes: dict[str, Any], words: str) -> None:
    answer = refusal(replace(GOOD, **changes), LIMITS)
    assert answer is not None
    assert (answer.code, answer.status) == ("ValidationError", 400)
    assert words in answer.message
    assert len(answer.message) < 1000


def test_limits_are_the_settings() -> None:
    assert refusal(replace(GOOD, timeout=901), Limits(async_timeout_seconds=900)) is not None


def test_names_are_uuids_in_the_order_of_time() -> None:
    first, second = ordered_uuid(1_700_000_000.0, b"\xff" * 10), ordered_uuid(1_700_000_000.001, b"\0" * 10)
    assert first < second
    for name in (first, second):
        assert str(uuid.UUID(name)) == name
        assert uuid.UUID(name).version == 7
    assert len({ordered_uuid(1.0, n.to_bytes(10)) for n in range(1000)}) >= 999


def test_a_fingerprint_is_of_what_the_container_gets_and_where_its_answer_goes() -> None:
    same = [replace(GOOD, inference_id="x"), replace(GOOD, ttl=60), replace(GOOD, timeout=5), replace(GOOD, token="t")]
    assert {fingerprint(each) for each in same} == {fingerprint(GOOD)}
    others = [
        replace(GOOD, input_location="s3://bucket/other"),
        replace(GOOD, input_location=None, body=b""),
        replace(GOOD, content_type="a"),
        replace(GOOD, accept="a"),
        replace(GOOD, custom_attributes="a"),
        replace(GOOD, filename="a"),
        replace(GOOD, extension="a"),
    ]
    assert len({fingerprint(each) for each in [GOOD, *others]}) == 1 + len(others)
