"""Pipelines under load while their parts are killed: who was on the way is told which container failed, nobody else notices."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.e2e.deployments import IDENTITY, Deployments, script, until
from tests.faults.load import hosts, load, role

SLOW = IDENTITY.replace("    return data,", "    import time; time.sleep(30 if data == b'slow' else 0)\n    return data,")
GARBAGE = """
import os, socket

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return b"x" * (6 << 20) if bytes(data) == b"huge" else data, "text/plain\\r\\nInjected: yes" if data == b"head" else "a/b"
"""


def deploy(server: Deployments, name: str, *scripts: str, instances: int = 1) -> None:
    parts = [{"data": script(each), "hostname": f"c{number}"} for number, each in enumerate(scripts, 1)]
    server.several(name, parts)
    server.config(name, {"InitialInstanceCount": instances})
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    server.settle(name, "InService")


def test_kills_of_gateway_control_and_a_container(server: Deployments) -> None:
    deploy(server, "pipeline", IDENTITY, IDENTITY, instances=2)
    assert len(hosts(server)) >= 4
    with load(server, "pipeline") as calls:
        before = {p.pid for p in hosts(server)}
        role(server, "control").kill()
        calls.more(50)
        until(lambda: server.status("pipeline") == "InService", what="control is back")
        assert {p.pid for p in hosts(server)} == before, "containers are adopted, not started again"
        assert calls.errors == []
        role(server, "gateway").kill()
        calls.more(50)
        assert len(calls.errors) <= 4
        assert all(isinstance(error, ConnectionClosedError) for error in calls.errors)
        calls.errors.clear()
        victims = hosts(server)
        victims[-1].kill()
        calls.more(50)
        until(lambda: len({p.pid for p in hosts(server)} - {v.pid for v in victims}) > 0, what="new processes")
        calls.more(20)
    for error in calls.errors:
        assert isinstance(error, ClientError), error
        assert error.response["Error"]["Code"] in ("ModelError", "ServiceUnavailable")
        assert "c1" in str(error) or "c2" in str(error)
    assert len(calls.errors) <= 8
    assert server.status("pipeline") == "InService"


@pytest.mark.heavy
def test_deleting_a_pipeline_with_requests_in_every_container(server: Deployments) -> None:
    deploy(server, "pipeline", IDENTITY, SLOW)
    with load(server, "pipeline", clients=6) as calls:
        calls.more(10)
        server.delete("pipeline")
        server.gone("pipeline")
        until(lambda: bool(calls.errors), what="calls of an endpoint that is gone")
    for error in calls.errors:
        assert isinstance(error, ClientError), error
        assert error.response["Error"]["Code"] in ("ModelError", "ValidationError", "ServiceUnavailable")
    until(lambda: hosts(server) == [], what="its processes are gone")


@pytest.mark.heavy
def test_garbage_between_containers(server: Deployments) -> None:
    deploy(server, "pipeline", GARBAGE, IDENTITY)
    assert server.invoke("pipeline", b"fine", ContentType="application/octet-stream") == b"fine"
    with pytest.raises(ClientError, match="exceeded the maximum limit of 5 MB") as caught:
        server.invoke("pipeline", b"huge", ContentType="application/octet-stream")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    answer = server.runtime.invoke_endpoint(EndpointName="pipeline", Body=b"head", ContentType="application/octet-stream")
    assert answer["Body"].read() == b"head"
    assert "injected" not in answer["ResponseMetadata"]["HTTPHeaders"]
    assert server.invoke("pipeline", b"fine", ContentType="application/octet-stream") == b"fine"
