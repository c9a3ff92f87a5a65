"""Settings from arguments, environment and file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

from slipway.cli.options import UsageError, add_options, build_settings, run_directory
from slipway.settings import Settings


def settings(tmp_path: Path, *arguments: str, environ: Mapping[str, str] | None = None, file: str = "") -> Settings:
    if file:
        (tmp_path / "slipway.toml").write_text(file)
    parser = argparse.ArgumentParser()
    add_options(parser)
    return build_settings(parser.parse_args(["--data-dir", str(tmp_path), *arguments]), environ or {})


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    built = settings(tmp_path)
    assert (built.host, built.port, built.auth) == ("127.0.0.1", 4566, "sigv4")
    assert (built.account, built.region) == ("123456789012", "us-east-1")
    assert built.endpoint_url == "http://127.0.0.1:4566"


def test_argument_beats_environment_beats_file(tmp_path: Path) -> None:
    file = 'port = 1001\nregion = "eu-west-1"\naccount = "111111111111"\n'
    environ = {"SLIPWAY_PORT": "1002", "SLIPWAY_REGION": "eu-west-2"}
    built = settings(tmp_path, "--port", "1003", environ=environ, file=file)
    assert (built.port, built.region, built.account) == (1003, "eu-west-2", "111111111111")


@pytest.mark.parametrize(
    ("arguments", "environ", "file", "mend"),
    [
        (["--port", "many"], {}, "", "--port"),
        (["--port", "70000"], {}, "", "0 to 65535"),
        ([], {"SLIPWAY_PORT": "x"}, "", "SLIPWAY_PORT"),
        ([], {}, "prot = 1\n", "choose from"),
        ([], {}, "port = \n", "not valid TOML"),
        (["--account", "12"], {}, "", "12 digits"),
        (["--host", "0.0.0.0"], {}, "", "--tls-cert"),
        (["--host", "0.0.0.0", "--auth", "none"], {}, "", "loopback only"),
        (["--tls-cert", "a.pem"], {}, "", "go together"),
        (["--tls-cert", "a.pem", "--tls-key", "b.pem"], {}, "", "no file at a.pem"),
        (["--config", "/nowhere.toml"], {}, "", "--config"),
        (["--s3-endpoint", "http://127.0.0.1:9"], {}, "", "SLIPWAY_S3_SECRET_KEY"),
        ([], {"SLIPWAY_LIMITS": "none"}, "", "aws-2022"),
        (["--invoke-limit", "0"], {}, "", "one answer"),
        (["--start-limit", "nan"], {}, "", "--start-limit"),
        (["--time-scale", "0"], {}, "", "above 0"),
        (["--database", "mysql://localhost/x"], {}, "", "postgresql://"),
        (["--database", "store.db"], {}, "", "SQLite"),
    ],
)
def test_a_mistake_names_its_mend(tmp_path: Path, arguments: list[str], environ: dict[str, str], file: str, mend: str) -> None:
    with pytest.raises(UsageError, match=mend.replace(".", r"\.")):
        settings(tmp_path, *arguments, environ=environ, file=file)


def test_keys_of_the_operator_are_never_arguments_nor_shown(tmp_path: Path) -> None:
    built = settings(tmp_path, environ={"SLIPWAY_KEYS": "test:one, AKIAOTHER:two:222222222222"})
    assert [(k.id, k.secret, k.account) for k in built.keys] == [
        ("test", "one", "123456789012"),
        ("AKIAOTHER", "two", "222222222222"),
    ]
    for wrong in ("test", "a:b,a:c", "a:hidden:12"):
        with pytest.raises(UsageError) as caught:
            settings(tmp_path, environ={"SLIPWAY_KEYS": wrong})
        assert "hidden" not in str(caught.value)
    with pytest.raises(SystemExit):
        settings(tmp_path, "--keys", "test:one")


def test_limit_profiles(tmp_path: Path) -> None:
    assert settings(tmp_path).limits.body_bytes == 25 * 1024 * 1024
    assert settings(tmp_path, "--limits", "aws-2022").limits.body_bytes == 6291456
    assert settings(tmp_path, "--start-limit", "7").limits.start_seconds == 7
    said = settings(tmp_path, "--limits", "off", "--invoke-limit", "1.5", "--stream-limit", "9").limits
    assert (said.invoke_seconds, said.stream_seconds, said.start_seconds) == (1.5, 9, 3600)


def test_sizes(tmp_path: Path) -> None:
    assert settings(tmp_path, "--replica-memory", "512MiB").replica_memory_bytes == 512 * 1024 * 1024
    assert settings(tmp_path, "--replica-memory", "2g").replica_memory_bytes == 2 * 1024**3


def test_sharing_of_gpus(tmp_path: Path) -> None:
    assert settings(tmp_path).gpu_sharing == 1
    assert settings(tmp_path, "--gpu-sharing", "3").gpu_sharing == 3
    for wrong in ("0", "-1", "some", "1000"):
        with pytest.raises(UsageError, match="instances that may share one GPU"):
            settings(tmp_path, "--gpu-sharing", wrong)


def test_the_run_folder_leaves_room_for_socket_names() -> None:
    deep = Path("/a/very/long/path") / ("x" * 200)
    assert len(f"{run_directory(deep)}/r/i-0123456789abcdef0.15/host.sock") < 100
    assert run_directory(deep) != run_directory(deep / "y")


def test_where_notifications_may_go(tmp_path: Path) -> None:
    built = settings(tmp_path, "--notify-allow", "10.0.0.0/8, hooks.internal,192.168.1.7")
    assert built.notify_allow == ("10.0.0.0/8", "hooks.internal", "192.168.1.7")
    with pytest.raises(UsageError, match="--notify-allow"):
        settings(tmp_path, "--notify-allow", "10.0.0.0/99")


@pytest.mark.parametrize(("host", "alone"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)])
def test_who_listens_on_loopback_alone(host: str, alone: bool) -> None:
    assert Settings("d", "r", "c", host=host).on_loopback is alone
