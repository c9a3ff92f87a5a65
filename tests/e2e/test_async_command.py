"""`slipway async`, as a person types it, against an asynchronous endpoint of a real slipway."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from slipway.cli.main import main
from tests.e2e.asynchronous import ADD, Asynchronous
from tests.e2e.deployments import Deployments, script, until


class Commands:
    """`slipway async` for one slipway; in this process, since a busy machine takes seconds to start another."""

    def __init__(self, server: Deployments) -> None:
        self._start = ["async", "--data-dir", str(server.launched.data_dir)]

    def __call__(self, *arguments: str) -> str:
        status, out, error = self._run(*arguments)
        assert status == 0, error
        return out

    def refused(self, *arguments: str) -> str:
        status, _, error = self._run(*arguments)
        assert status == 2
        assert len(error.splitlines()) == 1
        return error

    def _run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output, errors."""
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            status = main([*self._start, *arguments])
        return status, out.getvalue(), error.getvalue()

    def state(self, name: str) -> str:
        found: list[dict[str, Any]] = json.loads(self("status", name, "--json"))
        (request,) = found
        return str(request["state"])


def test_requests_are_seen_cancelled_replayed_and_watched(server: Deployments) -> None:
    command = Commands(server)
    assert "no asynchronous endpoint" in command("list")
    adder = Asynchronous(server, "adder", script(ADD), {"MaxConcurrentInvocationsPerInstance": 1})
    adder.invoke([1, 2], InferenceId="good")
    assert adder.notification()["inferenceId"] == "good"
    assert "/adder/out/" in command("status", "good")
    assert command("watch", "adder", "--until-done").split("   ")[2] == "done 1"

    adder.invoke({"sleep": 300}, InferenceId="slow", InvocationTimeoutSeconds=600)
    until(lambda: command.state("slow") == "running")
    until(lambda: " on i-" in command("status", "slow"))
    for number in range(5):
        adder.invoke([number], InferenceId="waiting")
    assert "1 in its queue" in command("status", "waiting"), "whatever the dispatcher took ahead"
    assert command("list", "adder", "--state", "queued,running").count("waiting") == 5
    assert "is cancelled" in command("cancel", "slow")
    told = adder.notification()
    assert (told["inferenceId"], told["failureReason"]) == ("slow", "ClientError: Cancelled by the caller.")
    assert {adder.notification()["inferenceId"] for _ in range(5)} == {"waiting"}, "those it held up go on"

    adder.invoke("no numbers", InferenceId="bad")
    assert adder.notification()["invocationStatus"] == "Failed"
    assert "failed" in command("list", "adder", "--state", "failed")
    assert "is queued again" in command("replay", "bad")
    assert adder.notification()["inferenceId"] == "bad"
    assert command("status", "bad").count("bad") == 2
    assert command("dead", "adder").strip() == "none"
    assert "has no dead letters" in command("replay", "adder")
    assert command("purge", "adder").strip() == "0 cancelled, 0 queued"
    assert "There is no asynchronous request" in command.refused("status", "never")
