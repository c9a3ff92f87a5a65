"""kill -9 of every process, under a load of real requests (design.md 2, "Life and death")."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from slipway.cli import launch
from tests.deadlines import LONG, PATIENCE, Watch
from tests.e2e.deployments import IDENTITY, Deployments, script, until
from tests.faults.load import hosts, load, role


def test_with_control_dead_the_gateway_keeps_answering(server: Deployments) -> None:
    server.deploy("identity", script(IDENTITY))
    with load(server) as calls:
        before = [p.pid for p in hosts(server)]
        old = role(server, "control")
        old.kill()
        calls.more(50)
        until(lambda: role(server, "control").pid != old.pid)
        assert server.status("identity") == "InService"
        calls.more(20)
        assert [p.pid for p in hosts(server)] == before, "replicas are listed and adopted, not started again"
    assert calls.errors == []


def test_with_the_gateway_dead_no_connection_is_refused_and_it_is_back_within_a_second(server: Deployments) -> None:
    server.deploy("identity", script(IDENTITY))
    before = [p.pid for p in hosts(server)]
    with load(server) as calls:
        for _ in range(3):
            role(server, "gateway").kill()
            killed = Watch()
            seen = calls.good
            until(lambda seen=seen: calls.good > seen + 4)  # type: ignore[misc]
            assert killed.free < 1.5
    # calls that were inside the dead gateway are cut; none that came after it is refused
    assert not any(isinstance(error, EndpointConnectionError) for error in calls.errors)
    assert len(calls.errors) <= 3 * 4
    assert [p.pid for p in hosts(server)] == before


def test_a_gateway_started_while_control_is_dead_serves_from_the_last_table(server: Deployments) -> None:
    server.deploy("identity", script(IDENTITY))
    control = role(server, "control")
    control.suspend()
    try:
        role(server, "gateway").kill()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                assert server.invoke("identity", b"x") == b"x"
                break
            except (ClientError, ConnectionClosedError):
                assert time.monotonic() < deadline
    finally:
        control.resume()


def test_a_killed_replica_comes_back_and_errors_are_typed(server: Deployments) -> None:
    server.deploy("identity", script(IDENTITY), variant={"InitialInstanceCount": 2})
    with load(server) as calls:
        victims = hosts(server)
        victims[0].kill()
        calls.more(50)
        until(lambda: len({p.pid for p in hosts(server)} - {v.pid for v in victims}) > 0, what="a new replica")
        calls.more(20)
    for error in calls.errors:
        assert isinstance(error, ClientError), error
        assert error.response["Error"]["Code"] in ("ModelError", "ServiceUnavailable")
    assert len(calls.errors) <= 8


def ended(process: psutil.Process) -> bool:
    """Or a zombie, for whoever is this machine's init to collect."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_keepers_death_leaves_nothing_behind_and_the_next_up_starts_clean(tmp_path: Path) -> None:
    launched = launch.start(tmp_path)
    server = Deployments(launched)
    server.deploy("identity", script(IDENTITY))
    family = psutil.Process(launched.process.pid).children(recursive=True)
    assert family
    launched.process.kill()
    launched.process.wait()
    began = Watch()
    until(lambda: all(ended(process) for process in family), what="the end of what it had started")
    assert began.free < 5
    again = launch.start(tmp_path)
    try:
        second = Deployments(again)
        assert second.settle("identity", "InService")
        until(lambda: second.invoke("identity", b"x") == b"x")
    finally:
        launch.stop(again)


def test_everything_killed_at_once_during_creation_leaves_nothing_stuck(tmp_path: Path) -> None:
    launched = launch.start(tmp_path)
    server = Deployments(launched)
    server.deploy("served", script(IDENTITY))
    server.start(
        "creating", script("import time\ndef model_fn(d):\n    time.sleep(2)\n" + IDENTITY.replace("model_fn", "_unused"))
    )
    server.start("deleting", script(IDENTITY))
    server.delete("deleting")
    os.killpg(launched.process.pid, signal.SIGKILL)
    launched.process.kill()
    launched.process.wait()
    again = launch.start(tmp_path)
    try:
        second = Deployments(again)
        second.settle("served", "InService")
        second.settle("creating", "InService")
        second.gone("deleting")
    finally:
        launch.stop(again)


def test_ctrl_c_stops_within_five_seconds_and_the_data_is_there_again(tmp_path: Path) -> None:
    launched = launch.start(tmp_path)
    server = Deployments(launched)
    server.deploy("identity", script(IDENTITY))
    family = psutil.Process(launched.process.pid).children(recursive=True)
    begun = Watch()
    launched.process.send_signal(signal.SIGINT)
    assert launched.process.wait(PATIENCE) == 0
    assert begun.free < 5
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    again = launch.start(tmp_path)
    try:
        names = [e["EndpointName"] for e in Deployments(again).sagemaker.list_endpoints()["Endpoints"]]
        assert names == ["identity"]
    finally:
        launch.stop(again)


def test_a_second_up_in_one_folder_says_who_holds_it(server: Deployments) -> None:
    command = [sys.executable, "-m", "slipway.cli.main", "up", "--data-dir", str(server.launched.data_dir), "--port", "0"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert told.returncode != 0
    assert str(server.launched.process.pid) in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
