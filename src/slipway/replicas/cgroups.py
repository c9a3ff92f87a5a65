"""Hard limits of a replica: one cgroup each (v2, or v1's memory and pids controllers), below the keeper's own.

`Cgroups.probe` says once what this machine allows. Plain files, no daemon. A replica's first process joins by writing its own
pid before it executes anything, so nothing it starts can be outside.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import signal
import time
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

MAX_PIDS = 4096
"""Processes and threads of one replica: many for any server, few for a fork bomb."""
_CONTROLLERS = ("memory", "pids")


@dataclass(frozen=True, slots=True)
class MemoryEvents:
    kills: int
    """How often the kernel killed a process of the group for lack of memory."""
    peak: int
    """Most bytes ever in use."""
    limit: int


@dataclass(slots=True)
class Cgroup:
    """The cgroup of one replica: a folder in each hierarchy (v2 has one)."""

    version: int
    folders: dict[str, str]
    """By controller."""
    memory_bytes: int
    _removed: bool = field(default=False)

    def procs_files(self) -> list[str]:
        """Where a process writes 0 to join: before it executes anything else."""
        return [f"{folder}/cgroup.procs" for folder in sorted(set(self.folders.values()))]

    def memory_events(self) -> MemoryEvents:
        """Counts of the memory controller; zeros where there is none."""
        folder = self.folders.get("memory")
        if folder is None:
            return MemoryEvents(0, 0, 0)
        if self.version == 2:
            kills = _counter(f"{folder}/memory.events", "oom_kill")
            return MemoryEvents(kills, _number(f"{folder}/memory.peak"), self.memory_bytes)
        kills = _counter(f"{folder}/memory.oom_control", "oom_kill")
        return MemoryEvents(kills, _number(f"{folder}/memory.max_usage_in_bytes"), self.memory_bytes)

    def pids(self) -> list[int]:
        found: set[int] = set()
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs") as file:
                found.update(int(line) for line in file)
        return sorted(found)

    def kill(self) -> None:
        """SIGKILL for every process in it."""
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError):
                _write(f"{folder}/cgroup.kill", "1")
                return
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Kill what is left and remove the folders; False while the kernel still holds one (ask again)."""
        if self._removed:
            return True
        self.kill()
        for folder in set(self.folders.values()):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        self._removed = True
        return True


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where this keeper may make cgroups; `version` 0: nowhere, and `reason` says why."""

    version: int
    parents: dict[str, str]
    """By controller: the folder in which one folder for each replica is made."""
    reason: str = ""

    @classmethod
    def probe(cls, name: str, *, root: str = "/sys/fs/cgroup", proc: str = "/proc/self") -> Cgroups:
        """Try out, as this user, with a folder `name` below our own cgroup. `name` must be this keeper's alone."""
        try:
            own = _own_cgroups(proc)
        except OSError as error:
            return cls(0, {}, f"no cgroups here ({error.strerror})")
        if os.path.exists(f"{root}/cgroup.controllers"):
            return _probe_v2(_first_folder(root, own.get("", "/")), name)
        return _probe_v1(root, own, name)

    def create(self, id: str, memory_bytes: int) -> Cgroup:
        """A cgroup for one replica; `memory_bytes` 0: no memory limit. OSError when the kernel refuses."""
        folders = {controller: f"{parent}/{id}" for controller, parent in self.parents.items()}
        for folder in set(folders.values()):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
        group = Cgroup(self.version, folders, memory_bytes)
        try:
            if "pids" in folders:
                _write(f"{folders['pids']}/pids.max", str(MAX_PIDS))
            if memory_bytes and "memory" in folders:
                self._limit_memory(folders["memory"], memory_bytes)
        except OSError:
            group.remove()
            raise
        return group

    def _limit_memory(self, folder: str, limit: int) -> None:
        """Memory without swap: a model that pages is slower than one that is restarted."""
        if self.version == 2:
            _write(f"{folder}/memory.max", str(limit))
            with contextlib.suppress(OSError):
                _write(f"{folder}/memory.swap.max", "0")
            return
        _write(f"{folder}/memory.limit_in_bytes", str(limit))
        with contextlib.suppress(OSError):
            _write(f"{folder}/memory.memsw.limit_in_bytes", str(limit))

    def close(self, timeout: float = 1.0) -> None:
        """Remove our own folders and those of replicas that are left in them."""
        deadline = time.monotonic() + timeout
        for parent in set(self.parents.values()):
            for id in _folders(parent):
                group = Cgroup(self.version, {"": f"{parent}/{id}"}, 0)
                while not group.remove() and time.monotonic() < deadline:
                    time.sleep(0.005)
            with contextlib.suppress(OSError):
                os.rmdir(parent)


def _probe_v2(own: str, name: str) -> Cgroups:
    try:
        with open(f"{own}/cgroup.controllers") as file:
            offered = file.read().split()
        if missing := [controller for controller in _CONTROLLERS if controller not in offered]:
            return Cgroups(0, {}, f"the {' and '.join(missing)} controller is not given to {own}")
        _delegate_v2(own)
        parent = f"{own}/{name}"
        os.makedirs(parent, exist_ok=True)
        _write(f"{parent}/cgroup.subtree_control", "+memory +pids")
    except OSError as error:
        if error.errno == errno.EBUSY:
            return Cgroups(
                0, {}, f"{own} holds other processes: start slipway with `systemd-run --user --scope -p Delegate=yes`"
            )
        return Cgroups(0, {}, f"{own} is not ours to divide ({error.strerror})")
    return Cgroups(2, dict.fromkeys(_CONTROLLERS, parent))


def _delegate_v2(own: str) -> None:
    """Children of `own` get our controllers. A v2 cgroup that does holds no processes: a keeper alone in it steps aside."""
    with open(f"{own}/cgroup.subtree_control") as file:
        if set(_CONTROLLERS) <= set(file.read().split()):
            return
    with open(f"{own}/cgroup.procs") as file:
        if file.read().split() == [str(os.getpid())]:
            os.makedirs(f"{own}/slipway-keeper", exist_ok=True)
            _write(f"{own}/slipway-keeper/cgroup.procs", "0")
    _write(f"{own}/cgroup.subtree_control", "+memory +pids")


def _probe_v1(root: str, own: dict[str, str], name: str) -> Cgroups:
    parents: dict[str, str] = {}
    reasons = []
    for controller in _CONTROLLERS:
        if controller not in own or not os.path.isdir(f"{root}/{controller}"):
            reasons.append(f"no {controller} controller")
            continue
        parent = f"{_first_folder(f'{root}/{controller}', own[controller])}/{name}"
        try:
            os.makedirs(parent, exist_ok=True)
            parents[controller] = parent
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror}")
    if "memory" not in parents:
        for parent in parents.values():
            with contextlib.suppress(OSError):
                os.rmdir(parent)
        return Cgroups(0, {}, "; ".join(reasons))
    return Cgroups(1, parents, "; ".join(reasons))


def _own_cgroups(proc: str) -> dict[str, str]:
    """Our path by controller, from /proc/self/cgroup; v2's is under the empty name."""
    own: dict[str, str] = {}
    with open(f"{proc}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                own[controller] = path
    return own


def _first_folder(mount: str, path: str) -> str:
    """Our folder in a mounted hierarchy; in a container without a cgroup namespace the mount itself is ours."""
    inner = f"{mount}/{path.strip('/')}".rstrip("/")
    return inner if os.path.isdir(inner) else mount


def _folders(parent: str) -> list[str]:
    with contextlib.suppress(OSError):
        return [entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    return []


def _write(file: str, text: str) -> None:
    """One write of the whole text: cgroup files take nothing else. Never creates the file."""
    fd = os.open(file, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _number(file: str) -> int:
    with contextlib.suppress(OSError, ValueError), open(file) as opened:
        return int(opened.read())
    return 0


def _counter(file: str, name: str) -> int:
    with contextlib.suppress(OSError), open(file) as opened:
        match = re.search(rf"^{name} (\d+)$", opened.read(), re.MULTILINE)
        return int(match[1]) if match else 0
    return 0
