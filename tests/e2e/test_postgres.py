"""One pass through everything with PostgreSQL as the store: deploy, invoke, update, kill, start again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway.cli import launch
from slipway.cli.launch import Launched
from tests import postgres
from tests.deadlines import LONG
from tests.e2e.deployments import BUCKET, IDENTITY, Deployments, script, until
from tests.faults.load import hosts, load, role

SAYS = "def model_fn(d):\n    return None\ndef transform_fn(m, data, ct, accept):\n    return %r, 'text/plain'\n"


def start(folder: Path, url: str) -> Launched:
    return launch.start(folder, ["--database", url])


@pytest.fixture
def launched(tmp_path: Path, postgres_url: str) -> Iterator[Launched]:
    launched = start(tmp_path, postgres_url)
    try:
        yield launched
    finally:
        launch.stop(launched)


def test_deploy_invoke_update_delete(launched: Launched) -> None:
    server = Deployments(launched)
    assert not (launched.data_dir / "slipway.db").exists()
    server.deploy("says", script(SAYS % b"old"))
    assert server.invoke("says", b"x") == b"old"
    server.model("says-2", script(SAYS % b"new"))
    server.config("says-2", {"InitialInstanceCount": 2})
    with load(server, "says") as calls:
        server.sagemaker.update_endpoint(EndpointName="says", EndpointConfigName="says-2")
        server.settle("says", "InService")
        calls.more()
    assert calls.errors == []
    assert server.invoke("says", b"x") == b"new"
    server.s3.put_object(Bucket=BUCKET, Key="large", Body=bytes(1 << 20))
    assert len(server.s3.get_object(Bucket=BUCKET, Key="large")["Body"].read()) == 1 << 20
    until(lambda: bool(server.logs.describe_log_groups()["logGroups"]))
    with pytest.raises(ClientError, match="Cannot create already existing model"):
        server.model("says", script(SAYS % b"again"))
    server.delete("says")
    server.gone("says")


def test_control_killed_under_load_and_slipway_started_again(tmp_path: Path, postgres_url: str) -> None:
    launched = start(tmp_path, postgres_url)
    try:
        server = Deployments(launched)
        server.deploy("identity", script(IDENTITY))
        before = [p.pid for p in hosts(server)]
        with load(server) as calls:
            for _ in range(3):
                old = role(server, "control")
                old.kill()
                calls.more()
                until(lambda old=old: role(server, "control").pid != old.pid)  # type: ignore[misc]
                assert server.status("identity") == "InService"
        assert calls.errors == []
        assert [p.pid for p in hosts(server)] == before
        server.deploy("after", script(IDENTITY))
        launched.process.kill()
        launched.process.wait()
        launched = start(tmp_path, postgres_url)
        second = Deployments(launched)
        second.settle("identity", "InService")
        until(lambda: second.invoke("identity", b"x") == b"x")
        launch.stop(launched)
        launched = start(tmp_path, postgres_url)
        third = Deployments(launched)
        assert sorted(e["EndpointName"] for e in third.sagemaker.list_endpoints()["Endpoints"]) == ["after", "identity"]
        for name in ("after", "identity"):
            third.delete(name)
            third.gone(name)
    finally:
        launch.stop(launched)


def test_the_database_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Without it the control plane answers an error, the data plane answers; with it again all goes on."""
    programs = postgres.binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres.server(programs) as database:
        launched = start(tmp_path, database.create("store"))
        try:
            server = Deployments(launched)
            server.deploy("identity", script(IDENTITY))
            with load(server) as calls:
                database.stop()
                with pytest.raises(ClientError) as caught:
                    server.status("identity")
                assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503)
                with pytest.raises(ClientError):
                    server.sagemaker.create_model(ModelName="unstored", ExecutionRoleArn="arn:aws:iam::123456789012:role/r")
                calls.more()
                database.start()
                until(lambda: _status(server) == "InService")
                calls.more()
            assert calls.errors == []
            server.delete("identity")
            server.gone("identity")
        finally:
            launch.stop(launched)


def _status(server: Deployments) -> str:
    try:
        return server.status("identity")
    except ClientError:
        return ""


def test_a_database_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slipway.cli.main", "up", "--port", "0", "--data-dir", str(tmp_path / "data")]
    url = f"postgresql://slipway:secret-word@/nowhere?host={tmp_path}"
    told = subprocess.run([*command, "--database", url], capture_output=True, text=True, timeout=LONG, check=False)
    assert told.returncode == 1
    last = told.stderr.strip().splitlines()[-1]
    assert "connection" in last
    assert "check --database" in last
    assert "Traceback" not in told.stderr
    assert "secret-word" not in told.stderr
