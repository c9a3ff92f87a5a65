from __future__ import annotations

import asyncio
import os
import signal

import pytest

from slipway.replicas.process import FLOOD_BYTES, Exit, Process, spawn, start_time, stat_fields
from tests.deadlines import PATIENCE, Watch


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False

    def feed(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.closed = True


async def run(*argv: str, data_bytes: int = 0, **environment: str) -> tuple[Process, Sink, Sink]:
    out, err = Sink(), Sink()
    process = await spawn(
        lambda _: argv,
        environment={"PATH": "/usr/bin:/bin", **environment},
        working_dir="/",
        sinks=(out, err),
        data_bytes=data_bytes,
    )
    return process, out, err


@pytest.mark.parametrize(
    ("script", "ended", "shown"),
    [
        ("exit 0", Exit(0, None), "exit code 0"),
        ("exit 3", Exit(3, None), "exit code 3"),
        ("kill -9 $$", Exit(None, 9), "signal 9 (SIGKILL)"),
        ("kill -11 $$", Exit(None, 11), "signal 11 (SIGSEGV)"),
    ],
)
async def test_how_it_ended(script: str, ended: Exit, shown: str) -> None:
    process, _, _ = await run("sh", "-c", script)
    assert await process.ended == ended
    assert str(ended) == shown
    await process.drained()


async def test_output_and_environment_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_KEEPER", "x")
    process, out, err = await run(
        "sh", "-c", "env; echo oops >&2; ls -l /proc/self/fd | wc -l; ps -o sid= -p $$ >/dev/null", A="b c"
    )
    assert await process.ended == Exit(0, None)
    await process.drained()
    assert b"A=b c\n" in out.data
    assert b"SECRET" not in out.data
    assert err.data == b"oops\n"
    assert out.closed
    assert err.closed


async def test_kill_reaches_the_whole_group() -> None:
    process, out, _ = await run("sh", "-c", "sleep 600 & echo $!; wait")
    async with asyncio.timeout(PATIENCE):
        while b"\n" not in out.data:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    child = int(out.data)
    assert start_time(child) > 0
    process.kill()
    assert (await process.ended).signal == signal.SIGKILL
    await process.drained()
    async with asyncio.timeout(PATIENCE):
        while start_time(child) and stat_fields(child)[0] != "Z":  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_grandchild_that_holds_the_pipe_does_not_hold_us_up() -> None:
    process, _, _ = await run("sh", "-c", "setsid sleep 5 & exit 0")
    await process.ended
    began = Watch()
    await process.drained(0.05)
    assert began.free < 1


async def test_a_flood_is_thrown_away_and_blocks_nobody() -> None:
    process, out, _ = await run("sh", "-c", f"head -c {FLOOD_BYTES * 3} /dev/zero; echo done >&2")
    async with asyncio.timeout(PATIENCE):
        assert await process.ended == Exit(0, None)
    await process.drained()
    assert len(out.data) < FLOOD_BYTES * 2


async def test_a_data_limit_without_cgroups() -> None:
    process, out, _ = await run("sh", "-c", "ulimit -d; env | grep -c SLIPWAY", data_bytes=64 * 1024 * 1024)
    await process.ended
    await process.drained()
    assert out.data.split() == [b"65536", b"0"]


async def test_what_does_not_exist() -> None:
    process, _, err = await run("/nowhere/at/all")
    assert (await process.ended).code == 127
    await process.drained()
    assert b"not found" in err.data


def test_start_time_of_nobody() -> None:
    assert start_time(2**22 + 1) == 0
    assert start_time(os.getpid()) > 0
