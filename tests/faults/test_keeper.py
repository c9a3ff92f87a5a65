"""`slipway up` as its users and their machines treat it: killed, doubled, refused, interrupted. Real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.replicas.process import stat_fields
from tests.deadlines import LONG, PATIENCE, Watch

UP = [sys.executable, "-m", "slipway.cli.main", "up"]


class Up:
    """One `slipway up` and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.process: subprocess.Popen[str] | None = None
        self.said = folder / "terminal"

    def arguments(self, *more: str) -> list[str]:
        return [*UP, "--data-dir", str(self.data), "--cache-dir", str(self.folder / "cache"), "--port", "0", *more]

    def start(self, *more: str) -> dict[str, Any]:
        with self.said.open("a") as out:
            self.process = subprocess.Popen(
                self.arguments(*more), stdout=out, stderr=out, text=True, env=self.environment(), start_new_session=True
            )
        eventually(lambda: self.found() or self.process_ended())
        assert self.found(), self.said.read_text()
        return self.found()

    def environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.folder)}

    def process_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def found(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            up: dict[str, Any] = json.loads((self.data / "up.json").read_text())
            if self.process is not None and up["pid"] == self.process.pid:
                return up
        return {}

    def children(self) -> list[int]:
        assert self.process is not None
        return children(self.process.pid)

    def role(self, name: str) -> int:
        """The pid of a role; 0 when there is none now."""
        for pid in self.children():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
                if f"slipway.roles.{name}" in file.read():
                    return pid
        return 0

    def healthy(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.found()['endpoint_url']}/_slipway/health", timeout=2) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def children(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(stat_fields(int(entry))[1]) == pid and stat_fields(int(entry))[0] != "Z":
                found.append(int(entry))
    return found


def gone(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return stat_fields(pid)[0] == "Z"  # dead, whoever its new parent is
    return True


def eventually(condition: Callable[[], object]) -> float:
    """Wait until it is so; how long it took, of a machine without other work."""
    began = Watch()
    while not condition():
        assert began.seconds < PATIENCE, "it did not come to pass"
        time.sleep(0.005)
    return began.free


@pytest.fixture
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="slw") as folder:  # short: sockets' paths hold 107 bytes
        made = Up(Path(folder))
        yield made
        made.end()


def test_it_starts_says_so_and_stops_cleanly(up: Up) -> None:
    found = up.start()
    assert up.healthy()
    run_dir = Path(found["run_dir"])
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(up.data.stat().st_mode) == 0o700
    for name in ("control.sock", "keeper.sock"):
        assert stat.S_IMODE((run_dir / name).stat().st_mode) & 0o077 == 0
    roles = [up.role("control"), up.role("gateway")]
    assert all(roles)
    for pid in roles:
        with open(f"/proc/{pid}/cmdline") as file:
            assert str(up.data) not in file.read()
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(PATIENCE) == 0
    assert all(gone(pid) for pid in roles)
    assert not (up.data / "up.json").exists()
    assert not run_dir.exists(), "its route table holds keys"
    said = up.said.read_text()
    assert found["endpoint_url"] in said
    warned = [line for line in said.splitlines() if "WARNING" in line]
    assert not [line for line in warned if os.getuid() == 0 or "cgroup" not in line], "only others may lack cgroups"
    up.start()
    assert up.healthy()


def test_kill_9_takes_all_along_and_the_next_starts_clean(up: Up) -> None:
    up.start()
    roles = up.children()
    assert len(roles) >= 2
    assert up.process is not None
    up.process.kill()
    assert eventually(lambda: all(gone(pid) for pid in roles)) < 1.0
    up.process.wait()
    assert (up.data / "up.json").exists()
    up.start()
    assert up.healthy()


@pytest.mark.parametrize("role", ["control", "gateway"])
def test_a_killed_role_is_back_at_once(up: Up, role: str) -> None:
    up.start()
    pid = up.role(role)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: up.role(role) not in (0, pid))
    eventually(up.healthy)
    assert "role-ended" in (up.data / "logs" / "roles" / "keeper.log").read_text()


def test_a_second_up_names_the_first(up: Up) -> None:
    up.start()
    result = subprocess.run(up.arguments(), capture_output=True, text=True, env=up.environment(), timeout=LONG, check=False)
    assert result.returncode == 1
    assert up.process is not None
    (line,) = result.stderr.strip().splitlines()
    assert f"slipway already runs in {up.data} (pid {up.process.pid})" in line
    assert up.healthy()


def test_a_port_in_use_is_one_line_with_a_mend(up: Up) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = up.arguments("--port", port)
        result = subprocess.run(command, capture_output=True, text=True, env=up.environment(), timeout=LONG, check=False)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "--port" in line
    up.start()


def test_a_role_that_ends_at_once_is_told_with_its_words(up: Up) -> None:
    up.data.mkdir(mode=0o700)
    (up.data / "slipway.db").write_text("this is no database, " * 100)
    result = subprocess.run(up.arguments(), capture_output=True, text=True, env=up.environment(), timeout=LONG, check=False)
    assert result.returncode == 1
    assert "the control process ends at once" in result.stderr
    assert "Traceback" not in result.stderr.splitlines()[-1]


def test_a_run_directory_of_somebody_else_is_not_used(up: Up) -> None:
    found = up.start()
    up.end()
    run_dir = Path(found["run_dir"])
    assert run_dir.parent == up.folder
    for path in sorted(run_dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    run_dir.rmdir()
    (up.folder / "elsewhere").mkdir()
    run_dir.symlink_to(up.folder / "elsewhere")
    result = subprocess.run(up.arguments(), capture_output=True, text=True, env=up.environment(), timeout=LONG, check=False)
    assert result.returncode == 1
    assert "belongs to somebody else" in result.stderr


def test_twice_ctrl_c_does_not_wait(up: Up) -> None:
    up.start()
    roles = up.children()
    assert up.process is not None
    os.kill(up.role("control"), signal.SIGSTOP)
    up.process.send_signal(signal.SIGINT)
    eventually(lambda: "stopping" in up.said.read_text())
    up.process.send_signal(signal.SIGINT)
    up.process.wait(PATIENCE)
    assert all(gone(pid) for pid in roles)
