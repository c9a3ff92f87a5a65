"""kill -9 of everything while asynchronous requests run: each that was accepted ends once, whole, and is told of once.

`make test` runs the short form, `make heavy` a longer one, `make kills` 20,000 requests under 500 kills.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from slipway.cli import launch
from slipway.cli.launch import temporary
from tests.deadlines import PATIENCE
from tests.e2e.asynchronous import Asynchronous
from tests.e2e.deployments import Deployments
from tests.faults import async_audit, async_model
from tests.faults.async_audit import ask, drained, ends, executed, heard, listed, nothing_is_left, table
from tests.faults.async_clients import Clients
from tests.faults.async_consumer import Consumer
from tests.faults.async_killer import Killer
from tests.faults.async_model import Executions
from tests.ports import free_port

REQUESTS = int(os.environ.get("SLIPWAY_KILLS_REQUESTS", "2000"))
"""Of the heavy form."""
KILLS = int(os.environ.get("SLIPWAY_KILLS", "60"))
SECONDS = 1.1
"""Between two kills, on the average."""
INSTANCES = 2
CALM = 0.1
"""Share of the requests that come before the first kill."""


@pytest.fixture
def executions() -> Iterator[Executions]:
    found = Executions()
    yield found
    found.close()


def storm(executions: Executions, requests: int, kills: int, seed: int) -> None:
    began = time.monotonic()
    with temporary() as launched:
        server = Deployments(launched)
        found = Asynchronous(server, "kills", async_model.model(executions.port))
        found.scale(INSTANCES)
        clients = Clients(found, seed=seed)
        consumer = Consumer(found, clients.tries)
        killer = Killer(server, seed)
        try:
            calm = int(requests * CALM)
            clients.submit(calm, calm / 40)
            undisturbed(found, clients, consumer, executions, calm)
            killing = threading.Thread(target=killer.kill, args=(kills, SECONDS))
            killing.start()
            clients.submit(requests - calm, kills * SECONDS * 0.98)
            killing.join()
            raged = time.monotonic() - began
            behind = async_audit.counts(found)["queued"]
            drained(found, 90)
            heard(consumer, listed(found), 60)
        finally:
            consumer.close()
        killer.look()
        rows = listed(found)
        assert len(rows) >= requests
        ends(clients, consumer, rows)
        histogram = executed(executions, rows, killer.log, clients.inputs())
        uncounted = async_audit.uncounted(executions, rows, clients.inputs())
        assert uncounted <= killer.count["dispatcher"], "a dispatcher dies before it has said what a container has"
        dead = async_audit.dead(rows)
        told = async_audit.counts(found)
        assert told == {"queued": 0, "running": 0, "succeeded": len(rows) - dead, "failed": dead, "expired": 0, "cancelled": 0}
        async_audit.objects(found, rows)
        assert executions.unfinished() == []
        nothing_is_left(found, INSTANCES)
    assert killer.left() == []
    lines: dict[str, object] = {
        "requests accepted": len(clients.accepted),
        "accepted, and the 202 lost": len(rows) - len(clients.accepted),
        "ended": {state: many for state, many in told.items() if many},
        "notifications": sum(len(each) for each in consumer.of.values()),
        "kills": dict(killer.count),
        "executions": dict(sorted(histogram.items())),
        "attempts": tally(row["attempts"] for row in rows),
        "executions not counted": uncounted,
        "errors to clients": dict(clients.troubles),
        "waiting after the last kill": behind,
        "seconds": f"{raged:.0f} of load, {time.monotonic() - began:.0f} in all",
    }
    print(table(f"{requests} requests under {kills} kills", lines))


def undisturbed(found: Asynchronous, clients: Clients, consumer: Consumer, executions: Executions, count: int) -> None:
    """Without kills: each executed once, none lost, none doubled."""
    drained(found, 60)
    rows = listed(found)
    heard(consumer, rows, 30)
    ends(clients, consumer, rows)
    assert len(rows) == count
    assert {row["state"] for row in rows} == {"succeeded"}
    assert {row["attempts"] for row in rows} == {1}
    assert {len(runs) for runs in executions.of.values()} == {1}
    assert len(executions.of) == count


def tally(values: Iterator[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in sorted(values):
        found[value] = found.get(value, 0) + 1
    return found


def test_every_accepted_request_ends_once_and_whole(executions: Executions) -> None:
    storm(executions, 600, 12, seed=1)


@pytest.mark.heavy
@pytest.mark.timeout(600 + KILLS * SECONDS * 2)
def test_every_accepted_request_ends_once_and_whole_in_a_long_storm(executions: Executions) -> None:
    storm(executions, REQUESTS, KILLS, seed=2)


def test_everything_dies_at_once_and_is_started_again(tmp_path: Path, executions: Executions) -> None:
    port = free_port()
    launched = launch.start(tmp_path, ["--port", str(port)])
    try:
        server = Deployments(launched)
        found = Asynchronous(server, "again", async_model.model(executions.port))
        clients = Clients(found, seed=3)
        consumer = Consumer(found, clients.tries)
        killer = Killer(server, 3)
        try:
            submitting = threading.Thread(target=clients.submit, args=(200, 6.0))
            submitting.start()
            for _ in range(2):
                time.sleep(2.0)
                killer.look()
                killer.slay("keeper", psutil.Process(server.launched.process.pid))
                server.launched.process.wait()
                psutil.wait_procs(killer.left(), timeout=PATIENCE)
                assert killer.left() == []
                server.launched = launched = launch.start(tmp_path, ["--port", str(port)])
            submitting.join()
            drained(found, 90)
            heard(consumer, listed(found), 60)
        finally:
            consumer.close()
        rows = listed(found)
        ends(clients, consumer, rows)
        histogram = executed(executions, rows, killer.log, clients.inputs())
        assert async_audit.dead(rows) == 0
        async_audit.objects(found, rows)
        assert ask(server, "")["endpoints"][0]["succeeded"] == len(rows)
        nothing_is_left(found, 1)
        print(table("everything died twice", {"requests": len(rows), "executions": dict(histogram)}))
    finally:
        launch.stop(launched)
