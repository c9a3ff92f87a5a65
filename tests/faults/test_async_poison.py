"""Inputs that kill their worker, hang, exhaust memory or raise, among good ones: they fail and say why, the others complete."""

from __future__ import annotations

import collections
import json
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from slipway.cli.launch import temporary
from slipway.replicas.cgroups import Cgroups
from tests.deadlines import LONG
from tests.e2e.asynchronous import Asynchronous
from tests.e2e.deployments import Deployments
from tests.faults import async_model
from tests.faults.async_audit import ATTEMPTS, ask, drained, ends, heard, listed, nothing_is_left, table
from tests.faults.async_clients import Clients
from tests.faults.async_consumer import Consumer
from tests.faults.async_model import Executions

REQUESTS = 300
SHARE = 100
"""One of so many has each illness."""
MEMORY = "384MiB"
KILLERS = ("exits", "kills", "eats")
"""Illnesses that the worker dies of: it is tried again."""


@pytest.fixture(scope="module")
def memory_is_bounded() -> bool:
    """Whether a replica can be held to its memory, so that the kernel ends the one process that exceeds it."""
    groups = Cgroups.probe(f"slipway-test-{uuid.uuid4().hex}")
    groups.close()
    return groups.version > 0 and "memory" in groups.parents


@pytest.fixture
def executions() -> Iterator[Executions]:
    found = Executions()
    yield found
    found.close()


def test_poison_fails_and_says_why_and_everything_else_completes(executions: Executions, memory_is_bounded: bool) -> None:
    kinds = ["exits", "kills", "hangs", "raises", *(["eats"] if memory_is_bounded else [])]
    with temporary(["--replica-memory", MEMORY]) as launched:
        found = Asynchronous(Deployments(launched), "poison", async_model.model(executions.port))
        found.scale(2)
        clients = Clients(found)
        clients.ill = infected(kinds)
        ill = collections.Counter(clients.ill.values())
        consumer = Consumer(found, clients.tries)
        try:
            clients.submit(REQUESTS, 6.0)
            drained(found, 120)
            rows = listed(found)
            heard(consumer, rows, 60)
            ends(clients, consumer, rows)
            for row in rows:
                _as_its_illness(row, clients, consumer, executions)
            _healed(found, clients, consumer, executions, rows)
        finally:
            consumer.close()
        good = collections.Counter(f"{row['state']} after {row['attempts']}" for row in rows)
        print(table("poison", {"requests": len(rows), "ended": dict(good), **ill}))
        nothing_is_left(found, 2)
    if not memory_is_bounded:
        pytest.skip("all but exhausted memory was tried: there are no cgroups here, so nothing bounds a replica's memory alone")


def infected(kinds: list[str]) -> dict[int, str]:
    """One of a hundred inputs has each illness, by serial number."""
    chance = random.Random(7)
    chosen = chance.sample(range(1, REQUESTS + 1), len(kinds) * (REQUESTS // SHARE))
    return {serial: kinds[place % len(kinds)] for place, serial in enumerate(chosen)}


def illness(row: dict[str, Any], clients: Clients) -> str:
    return str(json.loads(clients.tries[row["inference_id"]].body).get("ill", ""))


def _as_its_illness(row: dict[str, Any], clients: Clients, consumer: Consumer, executions: Executions) -> None:
    kind, name = illness(row, clients), json.loads(clients.tries[row["inference_id"]].body)["id"]
    (notice,) = consumer.of[row["inference_id"]]
    if not kind:  # beside one that dies it may have been hit
        assert (row["state"], row["cause_kind"]) == ("succeeded", None), row
        return
    assert (row["state"], row["dead"]) == ("failed", kind in KILLERS), row
    if kind in KILLERS:
        assert (row["attempts"], executions.count(name)) == (ATTEMPTS, ATTEMPTS)
        assert "The worker died 3 times" in row["cause"]
        assert "The worker died 3 times" in notice.reason
        return
    assert (row["attempts"], executions.count(name)) == (1, 1), "a model's own failure is not tried again"
    if kind == "hangs":
        assert row["cause_kind"] == "timeout"
        assert "did not answer within 2 s (InvocationTimeoutSeconds)" in row["cause"]
        assert "InvocationTimeoutSeconds" in notice.reason
    else:
        assert row["cause_kind"] == "model-error"
        assert f"poisoned by {name}" in row["cause"]
        assert f"poisoned by {name}" in notice.reason


def _healed(
    found: Asynchronous, clients: Clients, consumer: Consumer, executions: Executions, rows: list[dict[str, Any]]
) -> None:
    """The dead letters are listed; replayed with a model that can bear them, each completes."""
    dead = {row["id"] for row in rows if illness(row, clients) in KILLERS}
    assert {json.loads(line)["id"] for line in command(found, "dead", "poison", "--json").splitlines()} == dead
    server = found.server
    server.model("healed", async_model.model(executions.port, ill=False))
    told = server.sagemaker.describe_endpoint_config(EndpointConfigName="poison")
    (variant,) = told["ProductionVariants"]
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="healed",
        ProductionVariants=[{**variant, "ModelName": "healed", "InitialInstanceCount": 2}],
        AsyncInferenceConfig=told["AsyncInferenceConfig"],
    )
    server.sagemaker.update_endpoint(EndpointName="poison", EndpointConfigName="healed")
    server.settle("poison", "InService")
    assert command(found, "replay", "poison").count("is queued again") == len(dead)
    drained(found, 60)
    again = [row for row in listed(found) if row["replay_of"]]
    assert {row["replay_of"] for row in again} == dead
    for row in again:
        assert (row["state"], row["attempts"]) == ("succeeded", 1)
        assert found.read(row["output_location"]) == async_model.answer(clients.tries[row["inference_id"]].body)
    assert command(found, "dead", "poison").strip() == "none"
    clients.ill = {}
    before = {row["id"] for row in listed(found)}
    clients.submit(20, 0.5)
    drained(found, 30)
    fresh = [row for row in listed(found) if row["id"] not in before]
    assert [(row["state"], row["attempts"]) for row in fresh] == [("succeeded", 1)] * 20
    assert ask(server, "")["endpoints"][0]["running"] == 0
    heard(consumer, fresh, 30)
    assert consumer.wrong == []


def command(found: Asynchronous, *arguments: str) -> str:
    """What `slipway async …` prints."""
    start = [sys.executable, "-m", "slipway.cli.main", "async", "--data-dir", str(found.server.launched.data_dir)]
    told = subprocess.run([*start, *arguments], capture_output=True, text=True, timeout=LONG, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout
