from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.replicas.cgroups import Cgroup, Cgroups
from tests.deadlines import PATIENCE

MIB = 1024 * 1024


@pytest.fixture
def real() -> Iterator[Cgroups]:
    groups = Cgroups.probe(f"slipway-unit-{os.getpid()}")
    if not groups.version:
        pytest.skip(groups.reason)
    yield groups
    groups.close()


def run_in(group: Cgroup, code: str) -> subprocess.CompletedProcess[str]:
    join = "".join(f"echo 0 > {file}; " for file in group.procs_files())
    return subprocess.run(["sh", "-c", f'{join} exec "$@"', "-", sys.executable, "-c", code], capture_output=True, text=True)


def test_memory_is_limited_and_counted(real: Cgroups) -> None:
    group = real.create("i-1", 64 * MIB)
    assert run_in(group, "print(len(bytearray(8 << 20)))").stdout == f"{8 * MIB}\n"
    assert group.memory_events().kills == 0
    result = run_in(group, "held = []\nwhile True: held.append(bytearray(b'x') * (1 << 20))")
    assert result.returncode == -9
    events = group.memory_events()
    assert events.kills >= 1
    assert 32 * MIB < events.peak <= 64 * MIB
    assert events.limit == 64 * MIB
    assert group.remove()
    assert group.remove()
    assert not any(os.path.exists(folder) for folder in group.folders.values())


def test_a_fork_bomb_is_bounded(real: Cgroups) -> None:
    group = real.create("i-2", 0)
    limit = Path(group.folders["pids"]) / "pids.max"
    assert limit.read_text().strip() == "4096"
    limit.write_text("20")
    code = (
        "import os\nn = 0\nwhile True:\n  try: pid = os.fork()\n  except OSError: break\n"
        "  if pid == 0: os.read(0, 1); os._exit(0)\n  n += 1\nprint(n)"
    )
    result = subprocess.Popen(
        ["sh", "-c", "".join(f"echo 0 > {f}; " for f in group.procs_files()) + ' exec "$@"', "-", sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert result.stdout is not None
    assert int(result.stdout.readline()) <= 20
    group.kill()
    result.wait()
    result.stdout.close()
    assert result.stdin is not None
    result.stdin.close()
    assert _removed(group)


def _removed(group: Cgroup) -> bool:
    return any(group.remove() for _ in range(2000))


def test_close_ends_what_a_dead_keeper_left(real: Cgroups) -> None:
    group = real.create("i-3", 0)
    join = "".join(f"echo 0 > {file}; " for file in group.procs_files())
    left = subprocess.Popen(["sh", "-c", f"{join} exec sleep 600"])
    while left.pid not in group.pids():
        assert left.poll() is None
    Cgroups.probe(f"slipway-unit-{os.getpid()}").close()
    assert left.wait(PATIENCE) == -9


def v2(tmp_path: Path, *, controllers: str = "cpu memory pids", given: str = "", pids: str = "") -> tuple[str, str]:
    own = tmp_path / "fs" / "user" / "mine"
    own.mkdir(parents=True)
    (tmp_path / "fs" / "cgroup.controllers").write_text("")
    (own / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.subtree_control").write_text(given)
    (own / "cgroup.procs").write_text(pids)
    for name in ("k", "slipway-keeper"):
        (own / name).mkdir()
        for file in ("cgroup.subtree_control", "cgroup.procs"):
            (own / name / file).write_text("")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cgroup").write_text("0::/user/mine\n")
    return str(tmp_path / "fs"), str(tmp_path / "proc")


def test_version_2_on_a_made_up_tree(tmp_path: Path) -> None:
    root, proc = v2(tmp_path, pids=f"{os.getpid()}\n")
    groups = Cgroups.probe("k", root=root, proc=proc)
    assert groups.reason == ""
    own = tmp_path / "fs" / "user" / "mine"
    assert (groups.version, groups.parents["memory"], groups.parents["pids"]) == (2, str(own / "k"), str(own / "k"))
    assert (own / "slipway-keeper" / "cgroup.procs").read_text() == "0"
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids"
    (own / "k" / "i-1").mkdir()
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        (own / "k" / "i-1" / name).write_text("")
    (own / "k" / "i-1" / "memory.events").write_text("low 0\noom 2\noom_kill 3\noom_group_kill 0\n")
    (own / "k" / "i-1" / "memory.peak").write_text("777\n")
    group = groups.create("i-1", 5000)
    assert (own / "k" / "i-1" / "memory.max").read_text() == "5000"
    assert (own / "k" / "i-1" / "memory.swap.max").read_text() == "0"
    events = group.memory_events()
    assert (events.kills, events.peak, events.limit) == (3, 777, 5000)


def test_version_2_that_is_not_given_to_us(tmp_path: Path) -> None:
    root, proc = v2(tmp_path, controllers="cpu")
    groups = Cgroups.probe("k", root=root, proc=proc)
    assert groups.version == 0
    assert "memory and pids controller" in groups.reason


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    groups = Cgroups.probe("k", root=str(tmp_path), proc=str(tmp_path / "nothing"))
    assert (groups.version, groups.parents) == (0, {})
    assert "no cgroups here" in groups.reason
