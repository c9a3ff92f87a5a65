"""Servers as child processes, load by wrk, CPU and memory from /proc. Everything on the loopback interface, bounded in time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

WRK_SCRIPT = """
wrk.method = "POST"
%(headers)s
local h = io.open(%(body)s, "rb"); wrk.body = h:read("*a"); h:close()
done = function(s, l, r)
  io.write(string.format('\\nJSON{"requests":%%d,"duration_us":%%d,"errors":%%d,"p50":%%.1f,"p99":%%.1f}\\n',
    s.requests, s.duration, s.errors.status + s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout,
    l:percentile(50), l:percentile(99)))
end
"""


class Absent(Exception):
    """A contender cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is called: a URL with its headers, and the processes whose CPU counts."""

    url: str
    headers: Mapping[str, str]
    pids: Callable[[], list[int]]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Sample:
    rate: float
    """Requests per second."""
    p50: float
    """Microseconds."""
    p99: float
    cpu: float
    """CPU-microseconds of the server side per request."""
    errors: int


def descendants(pid: int) -> list[int]:
    """`pid` and everything below it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def pss_mb(pids: Iterable[int]) -> float:
    """Proportional memory of the processes, in MB (10^6 bytes)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total / 1e6


def free_port(below: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on; `below`: the next one above, too, is free."""
    for port in range(20_000, below - 1, 2) if below else (0,):
        with socket.socket() as probe, socket.socket() as neighbour, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if below:
                neighbour.bind(("127.0.0.1", port + 1))
            return int(probe.getsockname()[1])
    raise Absent("no free port")


class Server:
    """A contender's process tree, its output in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = Path(tempfile.gettempdir()) / f"slipway-bench-{name.replace('/', '_').replace(' ', '_')}.log"
        self.begun = time.perf_counter()
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    def pids(self) -> list[int]:
        return descendants(self.process.pid)

    def ready(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float = 90.0) -> float:
        """Seconds from the process's start to its first good answer."""
        while True:
            try:
                post(url, body, headers)
                return time.perf_counter() - self.begun
            except (OSError, urllib.error.URLError) as error:
                if self.process.poll() is not None:
                    raise Absent(f"exited with {self.process.returncode}; see {self.log}") from error
                if time.perf_counter() - self.begun > seconds:
                    raise Absent(f"no answer in {seconds:.0f} s: {error}") from error
                time.sleep(0.01)

    def stop(self) -> None:
        for sig, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 1.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
                return


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float = 10.0) -> bytes:
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        data: bytes = answer.read()
        return data


def measure(target: Target, connections: int, seconds: float) -> Sample:
    """One wrk run of one thread."""
    if shutil.which("wrk") is None:
        raise Absent("wrk is not installed (Debian's package wrk)")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(target.body)
        script = Path(folder) / "post.lua"
        headers = "\n".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in target.headers.items())
        script.write_text(WRK_SCRIPT % {"headers": headers, "body": json.dumps(str(body))})
        pids = target.pids()
        before = cpu_seconds(pids)
        command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", "--latency", "--timeout", "10s"]
        told = subprocess.run([*command, "-s", str(script), target.url], capture_output=True, text=True, check=False)
        spent = cpu_seconds(pids) - before
    if "JSON" not in told.stdout:
        raise Absent(f"wrk said: {told.stderr.strip() or told.stdout.strip()}")
    row = json.loads(told.stdout.split("JSON", 1)[1].splitlines()[0])
    count = max(1, row["requests"])
    return Sample(row["requests"] / (row["duration_us"] / 1e6), row["p50"], row["p99"], spent / count * 1e6, row["errors"])


def median(samples: Sequence[Sample]) -> Sample:
    """Each figure's median by itself; errors are summed."""
    return Sample(
        rate=statistics.median(s.rate for s in samples),
        p50=statistics.median(s.p50 for s in samples),
        p99=statistics.median(s.p99 for s in samples),
        cpu=statistics.median(s.cpu for s in samples),
        errors=sum(s.errors for s in samples),
    )


def interleaved(
    targets: Mapping[str, Target], connections: Sequence[int], rounds: int, seconds: float
) -> dict[int, dict[str, Sample]]:
    """A B C, A B C, …: the median of the rounds, by number of connections and name."""
    samples: dict[int, dict[str, list[Sample]]] = {c: {name: [] for name in targets} for c in connections}
    for number in range(rounds):
        for count in connections:
            names = list(targets)
            for name in names if number % 2 == 0 else reversed(names):
                samples[count][name].append(measure(targets[name], count, seconds))
    return {count: {name: median(rows) for name, rows in by.items()} for count, by in samples.items()}
