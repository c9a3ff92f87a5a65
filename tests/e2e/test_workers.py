"""Workers that die: each is replaced, its caller gets a ModelError with the cause, and nobody else notices."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.deadlines import PATIENCE, Watch
from tests.e2e.deployments import SCRIPT_MODE, Deployments, script, until

MODEL = """
import ctypes, json, os, time

def model_fn(model_dir):
    return os.getpid(), bytes(range(256)) * 4096

def transform_fn(model, data, content_type, accept):
    wish = json.loads(data)
    if wish == "exit":
        os._exit(3)
    if wish == "crash":
        ctypes.string_at(0)
    if wish == "hungry":
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1) * (16 << 20)))
    time.sleep(60 if wish == "hang" else 0.002)
    return json.dumps([os.getpid(), model[0], os.getppid()]), "application/json"
"""
MEMORY = "384MiB"


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    with temporary(["--replica-memory", MEMORY]) as launched:
        made = Deployments(launched)
        for workers in (1, 4):
            environment = {
                **SCRIPT_MODE,
                "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers),
                "SAGEMAKER_MODEL_SERVER_TIMEOUT": "4",
                "MMS_JOB_QUEUE_SIZE": "7",
            }
            made.start(f"crew-{workers}", script(MODEL), environment=environment)
        for workers in (1, 4):
            made.settle(f"crew-{workers}", "InService")
        yield made


def ask(server: Deployments, name: str) -> Any:
    return json.loads(server.invoke(name, b"0"))


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    ("wish", "word"), [("exit", "status 3"), ("crash", "SIGSEGV"), ("hungry", "SIGKILL")], ids=["exit", "crash", "memory"]
)
def test_a_worker_that_dies(server: Deployments, workers: int, wish: str, word: str) -> None:
    name = f"crew-{workers}"
    _, loader, _ = ask(server, name)
    others = [Others(server, name) for _ in range(workers - 1)]
    with pytest.raises(ClientError) as caught:
        server.invoke(name, json.dumps(wish))
    error = caught.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert "the model process exited" in error["OriginalMessage"]
    after = ask(server, name)
    for other in others:
        other.stop()
        assert other.errors == []
        assert other.answers
    if workers > 1:
        assert after[1] == loader, "what was loaded is still there"
    until(lambda: word in server.log(name), what="the cause in the log")
    assert server.status(name) == "InService"


def test_a_worker_that_outlives_the_servers_timeout(server: Deployments) -> None:
    before = Watch()
    with pytest.raises(ClientError) as caught:
        server.invoke("crew-1", b'"hang"')
    assert before.free < 30
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert ask(server, "crew-1")
    assert "did not end its request in time: killed" in server.log("crew-1")
    assert "MMS_JOB_QUEUE_SIZE has no effect: multi-model-server does not run here" in server.log("crew-1")


class Others:
    """A client that calls on and on."""

    def __init__(self, server: Deployments, name: str) -> None:
        self.answers: list[Any] = []
        self.errors: list[ClientError] = []
        self._server, self._name = server, name
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        until(lambda: bool(self.answers or self.errors), what="an answer")

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.answers.append(ask(self._server, self._name))
            except ClientError as error:
                self.errors.append(error)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(PATIENCE)
