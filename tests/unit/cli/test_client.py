"""Commands that speak AWS: a slipway that refuses, or goes away in between, is told in one line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from slipway.cli import logs, status
from slipway.cli.main import main

URL = "http://127.0.0.1:4566"


class Client:
    """Answers once, then says `error`."""

    def __init__(self, error: Exception, *answers: dict[str, Any]) -> None:
        self.error = error
        self.answers = list(answers)

    def filter_log_events(self, **arguments: Any) -> dict[str, Any]:
        if self.answers:
            return self.answers.pop()
        raise self.error

    def get_paginator(self, name: str) -> Client:
        return self

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        yield from self.answers
        raise self.error


def refusal(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "FilterLogEvents")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EndpointConnectionError(endpoint_url=URL), f'slipway does not answer: Could not connect to the endpoint URL: "{URL}"'),
        (refusal("ServiceUnavailableException", "The store cannot be reached."), "The store cannot be reached."),
        (refusal("ResourceNotFoundException", "no group"), "no log of 'mine': `slipway status` lists the endpoints"),
    ],
)
def test_logs_that_cannot_be_read(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "connect", lambda args, service: Client(error))
    assert main(["logs", "mine"]) == 2
    assert capsys.readouterr().err == f"slipway logs: {told}\n"


def test_following_a_log_ends_with_a_line_when_slipway_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"eventId": "1", "timestamp": 1_700_000_000_000, "logStreamName": "v/i-1", "message": "hello"}
    client = Client(EndpointConnectionError(endpoint_url=URL), {"events": [event]})
    monkeypatch.setattr(logs, "connect", lambda args, service: client)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert main(["logs", "mine", "-f"]) == 2
    captured = capsys.readouterr()
    assert captured.out.endswith("v/i-1  hello\n")
    assert captured.err.startswith("slipway logs: slipway does not answer")
    assert len(captured.err.splitlines()) == 1


def test_status_goes_on_without_the_endpoints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal("ServiceUnavailableException", "The store cannot be reached.")
    monkeypatch.setattr(status, "connect", lambda args, service: Client(error))
    status._endpoints(argparse.Namespace())
    assert capsys.readouterr().out == "\nENDPOINT\nunknown: The store cannot be reached.\n"
