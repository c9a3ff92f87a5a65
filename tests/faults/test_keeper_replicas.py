"""A keeper that is killed takes its replicas along; what could outlive it is killed by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.replicas.sandbox import Sandbox
from slipway.roles import place
from tests.deadlines import PATIENCE
from tests.faults.test_keeper import eventually, gone
from tests.unit.replicas.fakes import python_prefix

KEEPER = """
import asyncio, sys
from pathlib import Path
from slipway.replicas.cgroups import Cgroups
from slipway.replicas.keeper import Keeper
from slipway.replicas.sandbox import Sandbox
from tests.unit.replicas.fakes import ObjectService, make_spec, make_tools

async def main():
    folder = Path(sys.argv[1])
    service = ObjectService(folder / "o.sock")
    await service.start()
    keeper = Keeper(make_tools(folder, service, sandbox=Sandbox.probe(str(folder / "etc")), cgroups=Cgroups(0, {}, "none")))
    told = {"ready": lambda state: state.pid, "exited": lambda state: state.failure}
    keeper.subscribe(lambda state: state.phase in told and print(told[state.phase](state), flush=True))
    await keeper.start(make_spec(environment={"HOW": "fork"}))
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slw") as made:
        yield Path(made)


def processes(words: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(entry)}/cmdline", "rb") as file:
                if words.encode() in file.read():
                    found.append(int(entry))
        except (OSError, ValueError):
            continue
    return found


def test_replicas_die_with_their_keeper(folder: Path) -> None:
    if Sandbox.probe(str(folder / "probe")).bwrap is None:
        pytest.skip("no sandbox here")
    assert python_prefix()
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    said = keeper.stdout.readline()
    assert said.strip().isdigit(), said
    config = str(folder / "r" / "i-1")
    alive = processes(config)
    assert len(alive) >= 3  # bubblewrap, the host, and its child
    keeper.kill()
    keeper.wait()
    assert eventually(lambda: all(gone(pid) for pid in alive)) < 1.0
    keeper.stdout.close()


def test_what_a_dead_keeper_recorded_is_killed_and_nothing_else(folder: Path) -> None:
    run_dir = str(folder / "run")
    place.make_run_dir(run_dir)
    left, other = (subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2))
    try:
        place.record(run_dir, left.pid)
        (folder / "run" / "pids" / str(other.pid)).write_text("1")  # the pid of a process that is gone, used again
        (folder / "run" / "pids" / "nonsense").write_text("x")
        place.make_run_dir(run_dir)
        assert left.wait(PATIENCE) == -9
        assert other.poll() is None
        assert os.listdir(folder / "run" / "pids") == []
    finally:
        other.kill()
        other.wait()
