"""Delivery policies: when a delivery is tried again, and what is no policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.core.sns_retries import DEFAULT, BadDeliveryPolicy, DeliveryPolicy, effective, parse, parse_topic


def delays(policy: DeliveryPolicy) -> list[float]:
    found: list[float] = []
    while (delay := policy.delay(len(found) + 1)) is not None:
        found.append(delay)
    return found


def test_the_default_tries_for_some_minutes() -> None:
    found = delays(DEFAULT)
    assert len(found) == 50
    assert found[:5] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert found[5] == 1.0
    assert found[14:] == [20.0] * 36
    assert found == sorted(found)
    assert 700 < sum(found) < 900


def healthy(**members: Any) -> str:
    return json.dumps({"healthyRetryPolicy": members})


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("linear", [2.0, 8.0, 14.0, 20.0]),
        ("arithmetic", [2.0, 6.0, 12.0, 20.0]),
        ("geometric", [2.0, 4.31, 9.28, 20.0]),
        ("exponential", [2.0, 2.16, 3.77, 20.0]),
    ],
)
def test_backoff(function: str, expected: list[float]) -> None:
    policy = parse(healthy(minDelayTarget=2, maxDelayTarget=20, numRetries=4, backoffFunction=function))
    assert [round(delay, 2) for delay in delays(policy)] == expected


def test_phases_in_order() -> None:
    text = healthy(
        minDelayTarget=1, maxDelayTarget=9, numRetries=7, numNoDelayRetries=1, numMinDelayRetries=2, numMaxDelayRetries=1
    )
    assert delays(parse(text)) == [0.0, 1.0, 1.0, 1.0, 5.0, 9.0, 9.0]
    assert delays(parse(healthy(numRetries=0))) == []
    assert delays(parse(healthy(minDelayTarget=3))) == [3.0, 11.5, 20.0], "what is not said is AWS's: three retries, 20 s"
    assert delays(parse(healthy(numRetries=1, minDelayTarget=5))) == [20.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "failed to parse"),
        ("[" * 30_000, "failed to parse"),
        ("[]", "must be an object"),
        ('{"x": 1}', "unexpected JSON member: x"),
        ('{"healthyRetryPolicy": 5}', "must be an object"),
        (healthy(numRetries="3"), "numRetries must be a number"),
        (healthy(numRetries=True), "numRetries must be a number"),
        (healthy(numRetries=101), "between 0 and 100"),
        (healthy(minDelayTarget=0), "between 1 and 3600"),
        (healthy(minDelayTarget=30, maxDelayTarget=20), "at least minDelayTarget"),
        (healthy(numRetries=3, numNoDelayRetries=4), "greater than or equal to total"),
        (healthy(backoffFunction="wild"), "backoffFunction"),
        ('{"throttlePolicy": {"maxReceivesPerSecond": 0}}', "between 1"),
        ('{"requestPolicy": {"headerContentType": "image/png"}}', "headerContentType"),
        ('{"requestPolicy": {"headerContentType": "text/plain\\r\\nX: y"}}', "headerContentType"),
        ('{"sicklyRetryPolicy": {"numRetries": 1}}', "not supported"),
        ('{"guaranteed": true}', "not supported"),
    ],
)
def test_what_is_no_policy(text: str, words: str) -> None:
    with pytest.raises(BadDeliveryPolicy, match=words):
        parse(text)


def test_a_topics_policy_stands_where_the_subscription_has_none_or_may_not() -> None:
    general = {"defaultHealthyRetryPolicy": {"numRetries": 1}, "defaultThrottlePolicy": {"maxReceivesPerSecond": 5}}
    own = healthy(numRetries=2)
    topic = json.dumps({"http": general})
    assert effective(None, None) == DEFAULT
    assert effective(None, topic).retries == 1
    assert effective(None, topic).rate == 5
    assert effective(own, topic).retries == 2
    assert effective(own, json.dumps({"http": {**general, "disableSubscriptionOverrides": True}})).retries == 1
    with pytest.raises(BadDeliveryPolicy):
        parse_topic('{"http": {"healthyRetryPolicy": {}}}')


def test_what_is_shown_can_be_read_again() -> None:
    policy = parse(healthy(numRetries=9, numMaxDelayRetries=2, minDelayTarget=2))
    shown = {name: value for name, value in policy.effective().items() if value}
    shown.pop("requestPolicy")
    assert parse(json.dumps(shown)) == policy
