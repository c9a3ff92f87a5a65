"""An asynchronous endpoint that is deleted, made anew, updated or scaled in while requests wait and run."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.deadlines import Watch
from tests.e2e.asynchronous import Asynchronous
from tests.e2e.deployments import Deployments, until
from tests.faults import async_model
from tests.faults.async_audit import counts, drained, ends, heard, listed, nothing_is_left, objects, settled
from tests.faults.async_clients import Clients
from tests.faults.async_consumer import Consumer
from tests.faults.async_model import Executions


@pytest.fixture
def executions() -> Iterator[Executions]:
    found = Executions()
    yield found
    found.close()


@pytest.fixture
def others() -> Iterator[Executions]:
    """Executions of the endpoint's second model."""
    found = Executions()
    yield found
    found.close()


def test_an_endpoint_deleted_under_load_settles_everything_and_its_name_is_free(
    server: Deployments, executions: Executions, others: Executions
) -> None:
    found = Asynchronous(server, "goes", async_model.model(executions.port))
    found.scale(2)
    clients = Clients(found)
    clients.work = 0.4
    consumer = Consumer(found, clients.tries)
    submitting = threading.Thread(target=clients.submit, args=(400, 8.0))
    try:
        submitting.start()
        until(lambda: counts(found).get("queued", 0) > 100 and len(executions.unfinished()) >= 2, what="a queue and work")
        clients.over, clients.work = True, 0.05
        at_work = set(executions.unfinished())
        began = Watch()
        server.delete("goes")
        server.gone("goes")
        server.model("new", async_model.model(others.port))
        _configuration(found, "new", 1)
        server.sagemaker.create_endpoint(EndpointName="goes", EndpointConfigName="new")
        assert began.free < 5
        submitting.join()
        told = server.settle("goes", "InService")
        fresh = Clients(found, name="n")
        fresh.tries = clients.tries
        fresh.submit(40, 1.0)
        settled(found, 60)
        rows = listed(found)
        heard(consumer, rows, 60)
    finally:
        submitting.join()
        consumer.close()
    assert fresh.surprises == []
    ends(clients, consumer, rows)
    objects(found, rows)
    assert not executions.of.keys() & others.of.keys(), "an input that both endpoints have had"
    inputs = clients.inputs()
    new = [row for row in rows if inputs[row["inference_id"]] in others.of]
    assert len([row for row in new if row["inference_id"].startswith("n")]) == 40
    assert {row["state"] for row in new} == {"succeeded"}
    assert min(row["received"] for row in new) >= told["CreationTime"].timestamp()
    gone = [row for row in rows if row["state"] == "failed"]
    assert len(gone) > 20, "of the hundred that were queued some were done meanwhile"
    late = 0
    for row in gone:
        (notice,) = consumer.of[row["inference_id"]]
        begun = row["cause"] == "The endpoint was deleted while the request was being processed."
        assert begun or row["cause"] == "The endpoint was deleted before the request was processed.", row
        assert begun or inputs[row["inference_id"]] not in at_work, row
        late += begun and inputs[row["inference_id"]] not in at_work
        assert row["cause"] in notice.reason
    assert late <= 8, "some began between our look and the deletion, as many as there are workers at most, and twice"


def test_updating_and_scaling_in_under_load_ends_no_running_request(server: Deployments, executions: Executions) -> None:
    found = Asynchronous(server, "shrinks", async_model.model(executions.port))
    clients = Clients(found, threads=2)
    clients.work = 2.0
    consumer = Consumer(found, clients.tries)
    try:
        _scale(found, 5)
        clients.submit(80, 1.0)
        until(lambda: len(executions.unfinished()) >= 5, what="requests at work")
        server.model("second", async_model.model(executions.port))
        _configuration(found, "second", 5)
        server.sagemaker.update_endpoint(EndpointName="shrinks", EndpointConfigName="second")
        server.settle("shrinks", "InService")
        clients.submit(80, 1.0)  # what was there before may all have ended meanwhile
        until(lambda: len(executions.unfinished()) >= 5, what="work again")
        _scale(found, 1)
        until(lambda: executions.unfinished() != [], what="work on one instance")
        _scale(found, 0)
        until(lambda: executions.unfinished() == [] and counts(found)["running"] == 0, what="the end of what ran")
        held = counts(found)
        assert held["failed"] == 0
        assert held["queued"] > 0
        clients.submit(10, 0.2)
        assert counts(found)["queued"] == held["queued"] + 10
        _scale(found, 2)
        drained(found, 120)
        rows = listed(found)
        heard(consumer, rows, 30)
    finally:
        consumer.close()
    ends(clients, consumer, rows)
    assert [(row["state"], row["attempts"]) for row in rows] == [("succeeded", 1)] * 170
    assert {len(runs) for runs in executions.of.values()} == {1}
    assert all(run.ended is not None for runs in executions.of.values() for run in runs)
    objects(found, rows)
    nothing_is_left(found, 2)


def _configuration(found: Asynchronous, name: str, instances: int) -> None:
    """The endpoint's, with another model."""
    told = found.server.sagemaker.describe_endpoint_config(EndpointConfigName=found.name)
    (variant,) = told["ProductionVariants"]
    found.server.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{**variant, "ModelName": name, "InitialInstanceCount": instances}],
        AsyncInferenceConfig=told["AsyncInferenceConfig"],
    )


def _scale(found: Asynchronous, count: int) -> None:
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
    found.server.sagemaker.update_endpoint_weights_and_capacities(EndpointName=found.name, DesiredWeightsAndCapacities=wanted)
    told = found.server.settle(found.name, "InService")
    assert told["ProductionVariants"][0]["CurrentInstanceCount"] == count
