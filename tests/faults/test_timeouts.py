"""Models that are slower than they may be: the caller is told in time, the worker is killed and replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, EventStreamError

from slipway.cli.launch import temporary
from tests.deadlines import PATIENCE, Watch
from tests.e2e.deployments import Deployments, script, until

LIMIT = 1.0
GRACE = 5.0
"""How long a worker may go on with a request that nobody waits for any more (design.md 2)."""

SLEEPER = """
import os, time
def model_fn(model_dir):
    return None
def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, str) else bytes(data).decode()
    if text == "drip":
        def pieces():
            while True:
                yield b"drop;"
                time.sleep(0.2)
        return pieces(), "text/plain"
    time.sleep(float(text.partition(" ")[0]))
    return str(os.getpid()), "text/plain"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    """One worker, so that it is known who is at it."""
    with temporary(["--invoke-limit", str(LIMIT), "--stream-limit", "2"]) as launched:
        made = Deployments(launched)
        environment = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
        made.deploy("sleeper", script(SLEEPER), environment=environment)
        yield made


def call(server: Deployments, text: str) -> str:
    return server.invoke("sleeper", text, ContentType="text/plain").decode()


@pytest.mark.parametrize("padding", [0, 200_000], ids=["frame", "http"])
def test_a_model_that_is_too_slow_is_told_in_awss_words(server: Deployments, padding: int) -> None:
    worker = at_last(server)
    began = Watch()
    with pytest.raises(ClientError) as caught:
        call(server, f"3 {'x' * padding}")
    assert began.seconds >= LIMIT
    assert began.free < LIMIT + 1
    told = caught.value.response
    assert told["Error"]["Code"] == "ModelError"
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert told["OriginalStatusCode"] == 0
    assert told["OriginalMessage"].startswith(
        "Your invocation timed out while waiting for a response from container primary. Review the latency metrics"
    )
    assert told["Message"].startswith("Received server error (0) from primary with message")
    # it ends within its grace: the same worker goes on
    until(lambda: answers(server) == worker, what="the worker's return")


def test_a_worker_that_stays_busy_is_killed_and_replaced(server: Deployments) -> None:
    worker = int(at_last(server))
    processes = {p.pid for p in server.processes("slipway_host")}
    began = Watch()
    with pytest.raises(ClientError):
        call(server, "600")
    waited = Watch()
    until(lambda: {p.pid for p in server.processes("slipway_host")} != processes, what="the end of the busy worker")
    assert waited.seconds > GRACE - 1
    assert waited.free < GRACE + 3
    until(lambda: answers(server) not in ("", str(worker)), what="a new worker")
    assert began.free < LIMIT + GRACE + 4
    assert server.status("sleeper") == "InService"
    until(lambda: "kill" in server.log("sleeper").lower(), what="a line in the log")


def at_last(server: Deployments) -> str:
    """The worker's pid, however long a busy machine takes to say it."""
    until(lambda: answers(server) != "", what="an answer")
    while not (told := answers(server)):
        continue
    return told


def answers(server: Deployments) -> str:
    """The worker's pid, as it sees it; empty when it does not answer."""
    try:
        return call(server, "0")
    except ClientError:
        return ""


def test_who_waits_behind_a_slow_request_is_served_or_told(server: Deployments) -> None:
    with ThreadPoolExecutor(6) as pool:
        slow = pool.submit(call, server, "0.4")
        time.sleep(0.1)  # it must be the first; nothing outside shows that it is inside
        others = [pool.submit(call, server, "0.05") for _ in range(5)]
        assert slow.result(PATIENCE)
        outcomes = [other.exception(PATIENCE) for other in others]
    assert all(outcome is None or isinstance(outcome, ClientError) for outcome in outcomes)
    assert outcomes.count(None) >= 1


def test_a_stream_that_does_not_end_gets_the_exception_frame(server: Deployments) -> None:
    until(lambda: answers(server) != "")
    began = Watch()
    answer = server.runtime.invoke_endpoint_with_response_stream(EndpointName="sleeper", Body=b"drip", ContentType="text/plain")
    pieces: list[bytes] = []
    with pytest.raises(EventStreamError) as caught:
        pieces.extend(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    answer["Body"].close()
    assert began.seconds > 1.5
    assert began.free < 4
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert "allotted time" in str(caught.value)
    until(lambda: answers(server) != "", what="the worker's return")


def test_a_caller_that_stops_reading_a_stream_frees_the_worker_at_once(server: Deployments) -> None:
    for _ in range(3):
        answer = server.runtime.invoke_endpoint_with_response_stream(
            EndpointName="sleeper", Body=b"drip", ContentType="text/plain"
        )
        assert next(iter(answer["Body"]))["PayloadPart"]["Bytes"]
        answer["Body"].close()
        began = Watch()
        assert call(server, "0")
        assert began.free < 1.0


def test_a_stream_that_does_not_begin_is_a_model_error(server: Deployments) -> None:
    with pytest.raises(ClientError) as caught:
        server.runtime.invoke_endpoint_with_response_stream(EndpointName="sleeper", Body=b"4", ContentType="text/plain")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 0
    until(lambda: answers(server) != "", what="the worker's return")
