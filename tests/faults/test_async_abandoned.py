"""Running asynchronous requests that are cancelled, or too slow: their worker is free soon, and costs no other request."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from slipway.cli.launch import temporary
from tests.deadlines import Watch
from tests.e2e.asynchronous import Asynchronous, Request
from tests.e2e.deployments import SCRIPT_MODE, Deployments, script, until
from tests.e2e.test_async_command import Commands

GRACE = 5.0
"""How long a worker may go on with a request that nobody waits for any more (design.md 2)."""

SLEEPER = """
import os, time
def model_fn(model_dir):
    return None
def transform_fn(model, data, content_type, accept):
    name, seconds, *_ = (data if isinstance(data, str) else bytes(data).decode()).split()
    print("began", name, flush=True)
    time.sleep(float(seconds))
    print("ended", name, flush=True)
    return str(os.getpid()), "text/plain"
"""


class Sleeper(Asynchronous):
    """One worker, so that it is known who is at it."""

    def __init__(self, server: Deployments) -> None:
        super().__init__(server, "sleeper", script(SLEEPER), environment={**SCRIPT_MODE, "SAGEMAKER_MODEL_SERVER_WORKERS": "1"})
        self.command = Commands(server)

    def submit(self, name: str, seconds: float, padding: int = 0, **more: object) -> Request:
        body = f"{name} {seconds} {'x' * padding}".encode()
        return self.invoke(InputLocation=self.put(name, body, "text/plain"), InferenceId=name, **more)

    def ran(self, name: str, what: str = "began") -> int:
        return self.server.log("sleeper").splitlines().count(f"{what} {name}")

    def running(self, name: str) -> None:
        until(lambda: self.ran(name) > 0, what=f"the begin of {name}")

    def worker(self, name: str) -> str:
        """Its process, as told by a request of this name."""
        request = self.submit(name, 0)
        told = self.notification()
        assert (told["inferenceId"], told["invocationStatus"]) == (name, "Completed"), told
        return self.read(request.output).decode()

    def cancelled(self, name: str) -> None:
        """Cancels it; that is true at once."""
        assert "is cancelled" in self.command("cancel", name)
        assert self.command.state(name) == "cancelled"
        told = self.notification()
        assert (told["inferenceId"], told["failureReason"]) == (name, "ClientError: Cancelled by the caller.")


@pytest.fixture(scope="module")
def sleeper() -> Iterator[Sleeper]:
    with temporary([]) as launched:
        yield Sleeper(Deployments(launched))


@pytest.mark.parametrize("padding", [0, 300_000], ids=["frame", "http"])
def test_a_cancelled_request_frees_its_worker(sleeper: Sleeper, padding: int) -> None:
    before = sleeper.worker(f"before-{padding}")
    sleeper.submit(f"hour-{padding}", 600, padding, InvocationTimeoutSeconds=900)
    sleeper.running(f"hour-{padding}")
    began = Watch()
    sleeper.cancelled(f"hour-{padding}")
    assert began.free < 4
    after = sleeper.worker(f"after-{padding}")
    assert began.seconds > GRACE - 1
    assert began.free < GRACE + 5
    assert after != before
    assert sleeper.ran(f"hour-{padding}") == 1
    assert sleeper.ran(f"after-{padding}") == 1
    until(
        lambda: "went on with a request that nobody waits for: killed" in sleeper.server.log("sleeper"),
        what="a line in the log",
    )


def test_a_request_that_ends_within_the_grace_does_not_cost_the_worker(sleeper: Sleeper) -> None:
    before = sleeper.worker("before")
    sleeper.submit("short", 4, InvocationTimeoutSeconds=900)
    sleeper.running("short")
    sleeper.cancelled("short")
    sleeper.submit("neighbour", 8)  # the worker is still at it when the grace of the other is over
    told = sleeper.notification()
    assert (told["inferenceId"], told["invocationStatus"]) == ("neighbour", "Completed")
    assert sleeper.worker("afterwards") == before
    assert [sleeper.ran(name, "ended") for name in ("short", "neighbour")] == [1, 1]


def test_what_was_sent_ahead_is_not_lost_and_runs_once(sleeper: Sleeper) -> None:
    for number in range(20):  # requests are short: the next ones are sent ahead
        sleeper.worker(f"warm-{number}")
    sleeper.submit("slow", 600, InvocationTimeoutSeconds=900)
    sleeper.running("slow")
    names = [f"ahead-{number}" for number in range(4)]
    for name in names:
        sleeper.submit(name, 0)
    time.sleep(1)  # for the claims: nothing outside shows who is claimed and waits behind another one
    sleeper.cancelled(names[1])
    sleeper.cancelled("slow")
    told = [sleeper.notification() for _ in names[1:]]
    assert {each["inferenceId"]: each["invocationStatus"] for each in told} == {
        name: "Completed" for name in names if name != names[1]
    }
    assert [sleeper.ran(name) for name in ("slow", *names)] == [1, 1, 0, 1, 1]


def test_a_timeout_frees_the_worker(sleeper: Sleeper) -> None:
    before = sleeper.worker("first")
    sleeper.submit("late", 600, InvocationTimeoutSeconds=1)
    sleeper.running("late")
    began = Watch()
    assert sleeper.notification()["inferenceId"] == "late"
    assert began.free < 3
    assert sleeper.worker("last") != before
    assert began.free < 1 + GRACE + 4
    assert sleeper.ran("last") == 1
