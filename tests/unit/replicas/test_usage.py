"""What replicas use, of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.core.replicas import ReplicaSpec
from slipway.replicas.cgroups import Cgroup
from slipway.replicas.usage import Measured, measure
from tests.deadlines import PATIENCE

CHILD = """
import subprocess, sys, time
held = bytearray(64 << 20)
held[::4096] = b"x" * len(held[::4096])
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print("up", flush=True)
try:
    sys.stdin.read()
finally:
    child.kill()
    child.wait()
"""


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that holds 64 MiB, and its child, which is busy."""
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.stdin.close()
    process.wait()
    process.stdout.close()


def spec(memory: int = 0) -> ReplicaSpec:
    return ReplicaSpec(
        id="i-1",
        instance="i-1",
        owner="arn",
        endpoint="e",
        variant="v",
        container="primary",
        image="image",
        environment={},
        platform={},
        artifacts=(),
        account="1",
        region="r",
        log_group="g",
        log_stream="s",
        memory_bytes=memory,
    )


def test_a_family_of_processes_is_measured_whole(busy: int, tmp_path: Path) -> None:
    source = Measured(spec(), busy, None, str(tmp_path))
    (first,) = measure([source])
    assert (first.id, first.endpoint, first.variant) == ("i-1", "e", "v")
    assert first.memory_bytes > 64 << 20
    assert first.memory_limit == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < first.disk_percent <= 100
    deadline = time.monotonic() + PATIENCE
    while measure([source])[0].cpu_seconds < first.cpu_seconds + 0.05:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_knows_better(version: int, busy: int, tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.usage_in_bytes").write_text("2000\n")
    (tmp_path / "cpu.stat").write_text("nr_periods 0\nusage_usec 2500000\n")
    cgroup = Cgroup(version, {"memory": str(tmp_path)}, 4096)
    (found,) = measure([Measured(spec(4096), busy, cgroup, str(tmp_path))])
    assert found.cpu_seconds == 2.5
    assert (found.memory_bytes, found.memory_limit) == (1000 if version == 2 else 2000, 4096)


def test_what_has_ended_uses_nothing(tmp_path: Path) -> None:
    cgroup = Cgroup(2, {"memory": str(tmp_path / "gone")}, 4096)
    (found,) = measure([Measured(spec(), 2**22 + 1, cgroup, str(tmp_path / "gone"))])
    assert (found.cpu_seconds, found.memory_bytes, found.disk_percent) == (0.0, 0, 0.0)
    assert measure([]) == []
