"""Where a keeper lives: its data directory's lock, its run directory, its public socket, and what a dead keeper left there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
from dataclasses import replace

from slipway.replicas.process import start_time
from slipway.settings import Settings


class CannotStart(Exception):
    """`slipway up` cannot go on; the message is one line with cause and mend."""


def lock(data_dir: str) -> int:
    """Take the data directory for this process; the descriptor must stay open. CannotStart names who has it."""
    try:
        os.makedirs(data_dir, mode=0o700, exist_ok=True)
        fd = os.open(f"{data_dir}/keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"{data_dir} cannot be used ({error.strerror}): choose another with --data-dir") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        message = f"slipway already runs in {data_dir} (pid {owner}): stop it with Ctrl-C or `kill {owner}`, or give --data-dir"
        raise CannotStart(message) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def clear_models(data_dir: str) -> None:
    """Folders of multi-model replicas that a dead keeper left; what they showed lies among the artifacts."""
    folder = f"{data_dir}/models"
    os.makedirs(folder, mode=0o755, exist_ok=True)
    for name in os.listdir(folder):
        if os.path.isdir(f"{folder}/{name}"):
            shutil.rmtree(f"{folder}/{name}", ignore_errors=True)


def make_run_dir(path: str) -> None:
    """An empty folder of ours, mode 0700; processes that a dead keeper recorded in it are killed first."""
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise CannotStart(f"{path} belongs to somebody else: remove it, or start with another TMPDIR")
        kill_recorded(path)
        shutil.rmtree(path, ignore_errors=True)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)
        os.mkdir(f"{path}/pids", 0o700)
        os.mkdir(f"{path}/r", 0o755)
    except OSError as error:
        raise CannotStart(f"the run directory {path} cannot be made ({error.strerror}): start with another TMPDIR") from None


def remove_run_dir(path: str) -> None:
    """At a clean end: what is in it is of no use any more, and the route table holds keys."""
    shutil.rmtree(path, ignore_errors=True)


def record(run_dir: str, pid: int) -> None:
    """Remember a process of ours, for the next keeper, should we die without taking it along."""
    with contextlib.suppress(OSError), open(f"{run_dir}/pids/{pid}", "w") as file:
        file.write(str(start_time(pid)))


def forget(run_dir: str, pid: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(f"{run_dir}/pids/{pid}")


def kill_recorded(run_dir: str) -> list[int]:
    """SIGKILL what is recorded and still the same process (pid and start time); their pids."""
    killed = []
    for name in _entries(f"{run_dir}/pids"):
        with contextlib.suppress(OSError, ValueError), open(f"{run_dir}/pids/{name}") as file:
            pid, recorded = int(name), int(file.read())
            if recorded and start_time(pid) == recorded:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed.append(pid)
    return killed


def _entries(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def bind(settings: Settings) -> tuple[socket.socket, Settings]:
    """The public listening socket; with port 0 the settings say which one it became. CannotStart."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind)
    except OSError as error:
        raise CannotStart(f"{where} is no address to listen on ({error.strerror}): give another --host") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(4096)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            mend = "stop what listens there, or give --port (0 takes a free one)"
        elif error.errno == errno.EACCES:
            mend = "ports below 1024 need root: give --port"
        else:
            mend = "give another --host or --port"
        raise CannotStart(f"cannot listen on {where} ({error.strerror}): {mend}") from None
    return sock, replace(settings, port=sock.getsockname()[1])


def write_up_file(settings: Settings) -> None:
    """`up.json`, by which commands find a running slipway."""
    content = {"pid": os.getpid(), "endpoint_url": settings.endpoint_url, "run_dir": settings.run_dir}
    fresh = f"{settings.data_dir}/up.json.new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file)
    os.replace(fresh, f"{settings.data_dir}/up.json")


def remove_up_file(settings: Settings) -> None:
    with contextlib.suppress(OSError):
        os.unlink(f"{settings.data_dir}/up.json")
