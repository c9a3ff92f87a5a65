"""The data directory's disk is full: an error for what is new, nothing lost of what was acknowledged, recovery with room."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway.cli import launch
from tests.e2e.deployments import BUCKET, IDENTITY, ROLE, Deployments, archive, script, until

SIZE_MB = 24


def mount(folder: Path) -> str:
    """Why there is no small disk at `folder`; empty when there is one."""
    if os.geteuid() != 0:
        return "a small disk of one's own needs root"
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stderr.strip()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if reason := mount(folder):
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def room(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def refused(error: ClientError) -> bool:
    return error.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503, 507)


def test_errors_while_it_is_full_and_nothing_acknowledged_is_lost(disk: Path) -> None:
    data = disk / "data"
    launched = launch.start(data, log=disk.parent / "up.log")
    try:
        server = Deployments(launched)
        server.deploy("identity", script(IDENTITY))
        kept = {f"kept/{number}": os.urandom(size) for number, size in enumerate((10, 60_000, 200_000, 2_000_000))}
        for key, body in kept.items():
            server.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        blobs = files(data / "objects")
        assert blobs
        filler = fill(disk)

        with pytest.raises(ClientError) as caught:
            server.s3.put_object(Bucket=BUCKET, Key="large", Body=bytes(5 << 20))
        assert refused(caught.value)
        with pytest.raises(ClientError) as caught:
            server.s3.put_object(Bucket=BUCKET, Key="kept/3", Body=bytes(3 << 20))
        os.truncate(filler, filler.stat().st_size - (512 << 10))
        acknowledged = written_until_full(server)
        until(lambda: files(data / "objects") == blobs, what="what was refused does not lie around")

        # what is there can be read, and what runs goes on
        for key, body in kept.items():
            assert server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        assert server.invoke("identity", b"still here") == b"still here"
        assert server.status("identity") == "InService"

        filler.unlink()
        until(lambda: put_works(server), what="its recovery")
        for key, body in kept.items():
            assert server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        assert acknowledged
        models = {
            item["ModelName"] for page in server.sagemaker.get_paginator("list_models").paginate() for item in page["Models"]
        }
        assert acknowledged <= models
        server.deploy("after", script(IDENTITY))

        fill(disk)
        launched.process.kill()
        launched.process.wait()
        (disk / "filler").unlink()
        launched = launch.start(data, log=disk.parent / "up.log")
        server = Deployments(launched)
        server.settle("identity", "InService")
        for key, body in kept.items():
            assert server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
    finally:
        launch.stop(launched)
    with sqlite3.connect(data / "slipway.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def written_until_full(server: Deployments) -> set[str]:
    """Names of models that were acknowledged before the database, too, had no room."""
    names: set[str] = set()
    for number in range(2000):
        name = f"m-{number}"
        tags = [{"Key": f"k{tag}", "Value": "v" * 200} for tag in range(40)]
        try:
            server.sagemaker.create_model(
                ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "an-image:latest"}, Tags=tags
            )
        except ClientError as error:
            if refused(error):
                assert "disk" in str(error)  # noqa: PT017  the reason of the one that was refused
                return names
            raise
        names.add(name)
    raise AssertionError("the disk is full, and models are still created")


def put_works(server: Deployments) -> bool:
    try:
        server.s3.put_object(Bucket=BUCKET, Key="again", Body=bytes(1 << 20))
    except ClientError:
        return False
    return True


def test_a_model_that_finds_no_room_fails_with_the_reason(disk: Path) -> None:
    launched = launch.start(disk / "data", log=disk.parent / "up.log")
    try:
        server = Deployments(launched)
        server.model("roomy", archive({"code/inference.py": IDENTITY, "weights": bytes(20 << 20)}))
        server.config("roomy")
        filler = disk / "filler"
        filler.write_bytes(bytes(room(disk) - (4 << 20)))
        server.sagemaker.create_endpoint(EndpointName="roomy", EndpointConfigName="roomy")
        reason = server.settle("roomy", "Failed")["FailureReason"]
        assert "disk" in reason.lower() or "space" in reason.lower() or "room" in reason.lower()
        filler.unlink()
        server.delete("roomy")
        server.gone("roomy")
        assert not list((disk / "data" / "artifacts").rglob("weights"))
    finally:
        launch.stop(launched)
