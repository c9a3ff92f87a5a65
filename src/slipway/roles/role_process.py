"""A role as its keeper sees it: a child process that is started again whenever it ends, and whose words go to a log file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping

from slipway.link.keeper import RoleStatus
from slipway.replicas.process import LineSink, drain, when_ended
from slipway.roles import place

logger = logging.getLogger(__name__)

BACKOFF = (0.0, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds before the first, second, … restart; the last for all further ones."""
SETTLED_SECONDS = 10.0
"""Who lived so long begins the backoff anew."""
LOG_BYTES = 10 * 1024 * 1024
"""Of a role's log file; at this size it becomes `.1`, and the one before is gone."""
_LEVEL = re.compile(r"^\S+ \S+ \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")


class RoleLog(LineSink):
    """Every line to the file, warnings and worse (with their tracebacks) to the terminal, the last ones kept."""

    def __init__(self, name: str, file: str, terminal: Callable[[str], object]) -> None:
        self._name = name
        self._file = file
        self._terminal = terminal
        self._rest = b""
        self._loud = False
        self.tail: deque[str] = deque(maxlen=20)

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 65536:
            lines, self._rest = [*lines, self._rest], b""
        if not lines:
            return
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._file).st_size > LOG_BYTES:
                    os.replace(self._file, f"{self._file}.1")
            with open(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                file.write(b"\n".join([*lines, b""]))
        for line in lines:
            self._show(line.decode("utf-8", "replace"))

    def _show(self, line: str) -> None:
        match = _LEVEL.match(line)
        self._loud = match[1] not in ("DEBUG", "INFO") if match else self._loud or not line.startswith(" ")
        if line.strip():
            self.tail.append(line)
            if self._loud:
                self._terminal(f"[{self._name}] {line}")

    def close(self) -> None:
        if self._rest:
            self.feed(b"\n")


class Role:
    """One role. `start` runs it for ever; `stop` ends that."""

    def __init__(
        self, name: str, module: str, start: Callable[[], bytes], fds: tuple[int, ...], log: RoleLog, run_dir: str
    ) -> None:
        self.name = name
        self.restarts = 0
        self.ready = False
        self.log = log
        self._module = module
        self._start = start
        self._fds = fds
        self._run_dir = run_dir
        self._popen: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.died_early: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it has ended three times without ever having been ready: it will not get better by itself."""

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; returns when it is gone."""
        self._stopping = True
        if self._task is None:
            return
        if self._popen is None:
            self._task.cancel()
        else:
            self._signal(signal.SIGTERM)
        _, pending = await asyncio.wait([self._task], timeout=grace)
        if pending:
            logger.warning("role-killed", extra={"role": self.name, "grace": grace})
            self.kill()
            await asyncio.wait([self._task], timeout=2.0)

    def kill(self) -> None:
        self._stopping = True
        self._signal(signal.SIGKILL)

    def status(self) -> RoleStatus:
        pid = self._popen.pid if self._popen is not None else None
        return RoleStatus(self.name, pid, self.restarts, _resident(pid), self.ready and pid is not None)

    def _is_stopping(self) -> bool:
        return self._stopping

    def _signal(self, number: int) -> None:
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(number)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            began = loop.time()
            code = await self._once()
            if self._is_stopping():
                return
            level = logging.WARNING if self.ready else logging.INFO  # while it starts, `up` tells the cause itself
            logger.log(level, "role-ended", extra={"role": self.name, "exit": code})
            if loop.time() - began > SETTLED_SECONDS:
                attempt = 0
            if not self.ready and self.restarts >= 2 and not self.died_early.done():
                self.died_early.set_result(None)
            await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
            if self._is_stopping():
                return
            attempt += 1
            self.restarts += 1

    async def _once(self) -> int:
        """One process, from its start to its end; the exit code, negative for a signal."""
        read, write = os.pipe()
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220  forks in this thread: its death signal follows the forking thread
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=write,
                stderr=write,
                pass_fds=self._fds,
                start_new_session=True,
                env=role_environment(os.environ),
            )
        finally:
            os.close(write)
        self._popen = popen
        place.record(self._run_dir, popen.pid)
        assert popen.stdin is not None
        with contextlib.suppress(BrokenPipeError), popen.stdin as stdin:
            stdin.write(self._start())
        transport, done = await drain(read, self.log)
        try:
            await when_ended(popen)
            await asyncio.wait([done], timeout=0.5)
        finally:
            transport.close()
            if popen.poll() is None:
                popen.kill()
                popen.wait()
            place.forget(self._run_dir, popen.pid)
            self._popen = None
        return popen.returncode


def role_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The keeper's, without what would make an AWS library of ours speak for the user or to real AWS."""
    return {name: value for name, value in environ.items() if not name.startswith(("AWS_", "SLIPWAY_"))}


def _resident(pid: int | None) -> int:
    if pid is not None:
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
