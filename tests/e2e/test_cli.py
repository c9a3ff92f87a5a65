"""The commands, as a person types them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import trustme
from botocore.exceptions import ClientError

from slipway.cli import launch
from slipway.cli.main import COMMANDS
from tests.deadlines import Watch
from tests.e2e.deployments import IDENTITY, Deployments, script, until


def slipway(*arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slipway.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def test_overview_lists_every_command() -> None:
    told = slipway("--help")
    assert told.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", told.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_with_an_example(command: str) -> None:
    told = slipway(command, "--help")
    assert told.returncode == 0
    assert "example:" in told.stdout
    assert "slipway" in told.stdout.split("example:")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("up", "--port", "x"),
        ("env", "--data-dir", "/nowhere/at/all"),
        ("run",),
        ("logs", "e", "--data-dir", "/nowhere"),
        ("logs",),
        ("up", "extra"),
        ("up", "--config", "/"),
        ("up", "--tls-cert", "/dev/null", "--tls-key", "/dev/null"),
        ("env", "--data-dir", "/dev/null"),
        ("status", "--data-dir", "/dev/null"),
    ],
)
def test_mistakes_are_one_line_with_a_mend(arguments: tuple[str, ...]) -> None:
    told = slipway(*arguments)
    assert told.returncode == 2
    assert len(told.stderr.strip().splitlines()) == 1
    assert told.stderr.startswith("slipway")


def test_a_role_that_cannot_start_is_told_once(tmp_path: Path) -> None:
    database = ("--database", "postgresql://nobody@127.0.0.1:1/none")
    told = slipway("up", "--port", "0", "--data-dir", str(tmp_path), *database)
    assert told.returncode == 1
    assert len(told.stderr.strip().splitlines()) == 1
    assert "check --database" in told.stderr


def test_up_says_where_it_listens_and_what_to_type(server: Deployments) -> None:
    lines = (server.launched.data_dir / "up.log").read_text().splitlines()
    answers = next(line for line in lines if line.startswith("slipway answers at"))
    assert server.launched.endpoint_url in answers
    assert "slipway env" in answers


def test_env_prints_shell_lines(server: Deployments) -> None:
    told = slipway("env", "--data-dir", str(server.launched.data_dir))
    lines = told.stdout.strip().splitlines()
    assert f"export AWS_ENDPOINT_URL={server.launched.endpoint_url}" in lines
    assert {line.split("=")[0] for line in lines if line.startswith("export")} == {
        f"export {name}"
        for name in (
            "AWS_ENDPOINT_URL",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_DEFAULT_REGION",
            "AWS_REGION",
            "SAGEMAKER_USER_CONFIG_OVERRIDE",
            "SLIPWAY_DATA_DIR",
        )
    }
    there = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export"))
    told = subprocess.run(
        [sys.executable, "-m", "slipway.cli.main", "status"],
        env={**os.environ, "SLIPWAY_DATA_DIR": there["SLIPWAY_DATA_DIR"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, there["AWS_ENDPOINT_URL"] in told.stdout) == (0, True), told.stderr


def test_status_and_logs_of_an_endpoint(server: Deployments) -> None:
    server.deploy("spoken", script("print('hello from the model', flush=True)\n" + IDENTITY))
    where = ("--data-dir", str(server.launched.data_dir))
    told = slipway("status", *where)
    assert told.returncode == 0, told.stderr
    assert re.search(r"spoken\s+InService", told.stdout)
    for role in ("gateway", "control"):
        assert role in told.stdout
    until(lambda: "hello from the model" in slipway("logs", "spoken", *where).stdout)
    told = slipway("logs", "no-such-endpoint", *where)
    assert told.returncode == 2
    assert "slipway status" in told.stderr


def test_logs_follow(server: Deployments) -> None:
    chatty = IDENTITY.replace("return data", "print('got', data, flush=True)\n    return data")
    server.deploy("chatty", script(chatty))
    command = [sys.executable, "-m", "slipway.cli.main", "logs", "chatty", "-f", "--data-dir", str(server.launched.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        try:
            server.invoke("chatty", b"first", ContentType="text/plain")
            begun = Watch()
            for line in following.stdout:
                if "first" in line:
                    break
            assert begun.free < 10
        finally:
            following.kill()


def test_run_passes_the_exit_status_and_cleans_up() -> None:
    program = "import os, sys; print(os.environ['AWS_ENDPOINT_URL']); sys.exit(7)"
    told = slipway("run", "--", sys.executable, "-c", program)
    assert told.returncode == 7
    assert told.stdout.startswith("http://127.0.0.1:")


def test_images_are_listed_and_shown() -> None:
    told = slipway("images", "list")
    assert told.returncode == 0
    assert "scikit-learn" in told.stdout
    told = slipway("images", "show", "1.dkr.ecr.x/nothing-known:1")
    assert told.returncode == 2


def test_doctor_names_what_it_looked_at() -> None:
    assert "check --database" in slipway("doctor", "--database", "postgresql://nobody@127.0.0.1:1/none").stdout
    told = slipway("doctor")
    for word in ("python", "sandbox", "memory limits", "disk"):
        assert word in told.stdout


def test_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    arguments = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"), "--host", "0.0.0.0"]
    launched = launch.start(tmp_path / "data", arguments)
    try:
        port = launched.endpoint_url.rsplit(":", 1)[1]
        sts = boto3.client(
            "sts",
            endpoint_url=f"https://127.0.0.1:{port}",
            verify=str(tmp_path / "ca.pem"),
            region_name="us-east-1",
            aws_access_key_id=launched.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=launched.environment["AWS_SECRET_ACCESS_KEY"],
        )
        assert sts.get_caller_identity()["Account"] == "123456789012"
    finally:
        launch.stop(launched)


def test_several_keys_map_to_accounts_that_see_nothing_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_KEYS", "test:test,other:secret:222222222222")
    launched = launch.start(tmp_path)
    try:

        def client(service: str, key: str, secret: str) -> Any:
            return boto3.client(
                service,
                endpoint_url=launched.endpoint_url,
                region_name="us-east-1",
                aws_access_key_id=key,
                aws_secret_access_key=secret,
            )

        assert client("sts", "test", "test").get_caller_identity()["Account"] == "123456789012"
        assert client("sts", "other", "secret").get_caller_identity()["Account"] == "222222222222"
        for account, (key, secret) in {"123456789012": ("test", "test"), "222222222222": ("other", "secret")}.items():
            role = f"arn:aws:iam::{account}:role/any"
            client("sagemaker", key, secret).create_model(
                ModelName=f"of-{key}", ExecutionRoleArn=role, PrimaryContainer={"Image": "image:1"}
            )
        for key, secret in (("test", "test"), ("other", "secret")):
            assert [m["ModelName"] for m in client("sagemaker", key, secret).list_models()["Models"]] == [f"of-{key}"]
        with pytest.raises(ClientError, match="Could not find model"):
            client("sagemaker", "other", "secret").describe_model(ModelName="of-test")
    finally:
        launch.stop(launched)
    monkeypatch.delenv("SLIPWAY_KEYS")
    launched = launch.start(tmp_path)
    try:
        sts = boto3.client(
            "sts",
            endpoint_url=launched.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            sts.get_caller_identity()
    finally:
        launch.stop(launched)
