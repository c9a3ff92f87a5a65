"""One operating system process of ours: started limited and watched, its output drained, its end known at once.

Knows nothing of models. Forks in the caller's thread, which must be the keeper's main thread: the parent-death signal
follows the thread that forked (design.md 2).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slipway.replicas.cgroups import Cgroup

logger = logging.getLogger(__name__)

FLOOD_BYTES = 16 * 1024 * 1024
"""Of one pipe in a second; what comes beyond is thrown away unread, so that no model can keep the keeper busy."""
_JOIN = """while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; ulimit -c 0; exec "$@" """
_JOIN_WITH_DATA_LIMIT = _JOIN.replace("ulimit -c 0;", 'ulimit -c 0; ulimit -d "$SLIPWAY_DATA_KB"; unset SLIPWAY_DATA_KB;')


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exactly one of the two is set."""

    code: int | None
    signal: int | None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        with contextlib.suppress(ValueError):
            return f"signal {self.signal} ({signal.Signals(self.signal).name})"
        return f"signal {self.signal}"


class LineSink(Protocol):
    """Takes a pipe's bytes: `backing.log_writer.LinePipe`, or a list in tests."""

    def feed(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Process:
    """A child in a session of its own. `wrapped` says that it is bubblewrap: signals then go to the command inside."""

    def __init__(self, popen: subprocess.Popen[bytes], cgroup: Cgroup | None, info_fd: int | None) -> None:
        self._popen = popen
        self._cgroup = cgroup
        self._info_fd = info_fd
        self._inside: int | None = None
        self._draining: list[asyncio.Future[None]] = []
        self._transports: list[asyncio.BaseTransport] = []
        self.watching: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def terminate(self) -> None:
        """SIGTERM to the command itself (containers.md 1.7: to the leader first)."""
        pid = self._command_pid()
        if pid is not None and not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to it and everything that it started."""
        if self._cgroup is not None:
            self._cgroup.kill()
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.kill()

    async def drained(self, timeout: float = 1.0) -> None:
        """Wait, after the end, until the last output was read; a grandchild that holds the pipe open is not waited for."""
        if self._draining:
            await asyncio.wait(self._draining, timeout=timeout)
        for transport in self._transports:
            transport.close()
        if self._info_fd is not None:
            os.close(self._info_fd)
            self._info_fd = None

    def _command_pid(self) -> int | None:
        """In a sandbox: bubblewrap → its process 1 in the new namespace → the command."""
        if self._info_fd is None:
            return self._popen.pid
        if self._inside is None:
            with contextlib.suppress(BlockingIOError, ValueError, KeyError, TypeError):
                self._inside = int(json.loads(os.read(self._info_fd, 4096))["child-pid"])
        children = _children(self._inside) if self._inside is not None else []
        return children[0] if children else None

    async def _watch(self) -> None:
        await when_ended(self._popen)
        self._finish()

    def _finish(self) -> None:
        code = self._popen.returncode
        if self._info_fd is not None and code > 128:  # bubblewrap tells the signal of its command in the shell's way
            code = 128 - code
        if not self.ended.done():
            self.ended.set_result(Exit(code, None) if code >= 0 else Exit(None, -code))

    async def _drain(self, fd: int, sink: LineSink) -> None:
        transport, done = await drain(fd, sink)
        self._transports.append(transport)
        self._draining.append(done)


async def drain(fd: int, sink: LineSink) -> tuple[asyncio.BaseTransport, asyncio.Future[None]]:
    """Read the pipe `fd` (which now belongs to the transport) into `sink` until its end, at which the future is done."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transport, _ = await loop.connect_read_pipe(lambda: _Drain(sink, done), os.fdopen(fd, "rb", buffering=0))
    return transport, done


async def when_ended(popen: subprocess.Popen[bytes]) -> None:
    """Return as soon as the process has ended, and reap it; without a thread where the kernel offers a descriptor of it."""
    loop = asyncio.get_running_loop()
    if not hasattr(os, "pidfd_open"):
        await loop.run_in_executor(None, popen.wait)
        return
    pidfd = os.pidfd_open(popen.pid)
    ended: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(pidfd)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, readable)
    try:
        await ended
        popen.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


class _Drain(asyncio.Protocol):
    def __init__(self, sink: LineSink, done: asyncio.Future[None]) -> None:
        self._sink = sink
        self._done = done
        self._clock = asyncio.get_running_loop().time
        self._window = 0.0
        self._taken = 0
        self._dropped = 0

    def data_received(self, data: bytes) -> None:
        now = self._clock()
        if now - self._window >= 1.0:
            self._window, self._taken = now, 0
            if self._dropped:
                self._sink.feed(f"\nslipway: {self._dropped} bytes of output dropped\n".encode())
                self._dropped = 0
        self._taken += len(data)
        if self._taken > FLOOD_BYTES:
            self._dropped += len(data)
        else:
            self._sink.feed(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._sink.close()
        if not self._done.done():
            self._done.set_result(None)


async def spawn(
    command: Callable[[int | None], Sequence[str]],
    *,
    environment: Mapping[str, str],
    working_dir: str,
    sinks: tuple[LineSink, LineSink],
    cgroup: Cgroup | None = None,
    sandboxed: bool = False,
    data_bytes: int = 0,
    pass_fds: Sequence[int] = (),
    owner: int | None = None,
) -> Process:
    """Start `command(info descriptor or None)`. OSError when it cannot be started.

    `environment` is all that it gets. `data_bytes`: RLIMIT_DATA for each of its processes, where there is no cgroup.
    `owner`: the user who may open its output anew, as servers do that log to /dev/stdout.
    """
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    if owner is not None:
        for pipe in (out_write, err_write):
            os.fchown(pipe, owner, -1)
    info_read, info_write = os.pipe() if sandboxed else (None, None)
    files = cgroup.procs_files() if cgroup else []
    environment = dict(environment)
    if data_bytes:
        environment["SLIPWAY_DATA_KB"] = str(data_bytes // 1024)
    script = _JOIN_WITH_DATA_LIMIT if data_bytes else _JOIN
    argv = ["/bin/sh", "-c", script, "slipway", *files, "--", *command(info_write)]
    fds = [*pass_fds, *([info_write] if info_write is not None else [])]
    try:
        popen = subprocess.Popen(  # noqa: ASYNC220  fork in this thread, see above; posix_spawn or vfork, some ms
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            env=environment,
            cwd=working_dir,
            pass_fds=fds,
            start_new_session=True,
        )
    except OSError:
        for fd in (out_read, err_read, info_read):
            if fd is not None:
                os.close(fd)
        raise
    finally:
        for fd in (out_write, err_write, info_write):
            if fd is not None:
                os.close(fd)
    if info_read is not None:
        os.set_blocking(info_read, False)
    process = Process(popen, cgroup, info_read)
    process.watching = asyncio.get_running_loop().create_task(process._watch())
    await process._drain(out_read, sinks[0])
    await process._drain(err_read, sinks[1])
    return process


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/task/{pid}/children") as file:
        if found := [int(child) for child in file.read().split()]:
            return found
    children = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(entry) and int(stat_fields(int(entry))[1]) == pid:
                children.append(int(entry))
    return sorted(children)


def stat_fields(pid: int) -> list[str]:
    """Of /proc/<pid>/stat, from the state on (state, parent, …): the command's name before them may hold anything."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of `pid`: with it, a pid names one process for ever. 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(stat_fields(pid)[19])
    return 0
