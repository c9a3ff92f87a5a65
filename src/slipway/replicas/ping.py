"""One `GET /ping` over a unix socket, and what a host left behind in its run folder. All of it is a model's word: bounded."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import re
import stat

import msgspec

from slipway.core.replicas import Failure

_KINDS = frozenset(
    (
        "no-model",
        "syntax-error",
        "import-error",
        "model-fn-error",
        "pickle-version",
        "exited",
        "out-of-memory",
        "requirements",
        "isolation",
        "disk-full",
        "start-timeout",
        "internal",
    )
)
"""What a host may say of itself."""
_MAX_FAILURE = 256 * 1024


async def ping(run_dir: str, wait: float = 0.0) -> bool:
    """True: a good answer. `wait`: our host holds its answer until it is ready, at most so many seconds."""
    target = f"/ping?wait={wait:g}" if wait else "/ping"
    writer = None
    with contextlib.suppress(OSError, TimeoutError, asyncio.LimitOverrunError, ValueError):
        async with asyncio.timeout(2.0 + wait):
            reader, writer = await asyncio.open_unix_connection(f"{run_dir}/host.sock", limit=8192)
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
            return re.match(rb"HTTP/1\.[01] 200\b", line) is not None
    if writer is not None:
        writer.close()
    return False


def worker_addresses(run_dir: str) -> tuple[str, ...]:
    """The sockets of the host's workers, by number."""
    found = []
    for path in glob.glob(f"{glob.escape(run_dir)}/w*.sock"):
        if match := re.fullmatch(r"w(\d{1,4})\.sock", os.path.basename(path)):
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.append((int(match[1]), f"unix:{path}"))
    return tuple(path for _, path in sorted(found))


class _Told(msgspec.Struct):
    kind: str
    message: str
    mend: str = ""
    traceback: list[str] = []


def read_failure(run_dir: str) -> Failure | None:
    """failure.json, if the host wrote one that can be believed in form."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        fd = os.open(f"{run_dir}/failure.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            told = msgspec.json.decode(file.read(_MAX_FAILURE), type=_Told)
        kind = told.kind if told.kind in _KINDS else "exited"
        tail = tuple(line[:2000] for line in told.traceback[-50:])
        return Failure(kind, told.message[:2000], tail, mend=told.mend[:1000])
    return None
