"""What the keeper hands to a host, and what it believes of a report."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import pytest

from slipway.replicas.doors import Doors
from slipway.replicas.environments import Environment
from slipway.replicas.launch import MAX_WORKERS, workers
from tests.unit.replicas.fakes import make_spec


@pytest.fixture
def doors() -> Iterator[Doors]:
    with tempfile.TemporaryDirectory() as folder:
        made = Doors(folder, 2)
        yield made
        made.close()


def tell(doors: Doors, data: bytes) -> None:
    os.write(doors.descriptors()[-1], data)


def test_addresses_are_there_at_once_and_for_the_keepers_user_alone(doors: Doors) -> None:
    assert [address.rpartition("/")[2] for address in doors.addresses] == ["w0.sock", "w1.sock"]
    for address in doors.addresses:
        path = address.removeprefix("unix:")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
    config = doors.config()
    assert [*config["sockets"], config["report"]] == doors.descriptors()  # type: ignore[misc]
    assert len(doors.descriptors()) == 4


def test_once_handed_over_a_dead_host_is_seen(doors: Doors) -> None:
    doors.handed_over()
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(doors.addresses[0].removeprefix("unix:"))


def test_the_first_report_counts(doors: Doors) -> None:
    for message in ("first", "second"):
        tell(doors, json.dumps({"kind": "no-model", "message": message}).encode() + b"\n")
    failure = doors.failure()
    assert failure is not None
    assert (failure.kind, failure.message) == ("no-model", "first")


@pytest.mark.parametrize(
    "said", [b"", b"\n\n", b"nothing\n", b"{}\n", b'{"kind": 1, "message": "x"}\n', b"[" * 5000, b"\xff\n"]
)
def test_what_is_no_report_is_none(doors: Doors, said: bytes) -> None:
    tell(doors, said)
    assert doors.failure() is None


def test_a_report_is_bounded_and_has_a_known_kind(doors: Doors) -> None:
    said = {"kind": "spoken by a model", "message": "m" * 5000, "mend": "n" * 5000, "traceback": ["t" * 100] * 200}
    tell(doors, json.dumps(said).encode())
    failure = doors.failure()
    assert failure is not None
    assert failure.kind == "exited"
    assert (len(failure.message), len(failure.mend), len(failure.log_tail)) == (2000, 1000, 50)


def test_a_host_that_writes_without_end_blocks_nobody(doors: Doors) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(10_000):
            tell(doors, b"x" * 4096)
        pytest.fail("the pipe has no bound")
    assert doors.failure() is None


def test_a_path_that_is_too_long_leaves_nothing_open() -> None:
    with tempfile.TemporaryDirectory() as folder:
        deep = os.path.join(folder, "d" * 120)
        os.mkdir(deep)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="too long"):
            Doors(deep, 2)
        assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("said", "wanted"), [("", 3), ("5", 5), (" 2 ", 2), ("many", 3), ("0", 3), ("-1", 3), ("99999", 3), ("9999", MAX_WORKERS)]
)
def test_how_many_workers(said: str, wanted: int) -> None:
    environment = Environment("", "", (), "", "")
    spec = make_spec(environment={"SAGEMAKER_MODEL_SERVER_WORKERS": said}, cpus=3)
    assert workers(spec, environment) == wanted
    assert workers(spec, replace(environment, workers=1)) == (1 if wanted == 3 else wanted)
