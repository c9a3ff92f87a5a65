"""What a replica uses of the machine: CPU, memory and disk, from its cgroup where that tells, else from its processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.core.replicas import ReplicaSpec, Usage
from slipway.replicas.cgroups import Cgroup
from slipway.replicas.process import stat_fields

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CPU_FIELDS = slice(11, 15)
"""Of /proc/<pid>/stat behind the name: utime, stime, and those of children that it has waited for."""
_RSS_FIELD = 21


@dataclass(frozen=True, slots=True)
class Measured:
    """Where a replica's use of the machine is read."""

    spec: ReplicaSpec
    pid: int
    cgroup: Cgroup | None
    folder: str
    """One that is on the file system of its files."""
    loaded_models: int | None = None
    """Of a multi-model replica."""


def measure(sources: Sequence[Measured]) -> list[Usage]:
    """What cannot be read counts as nothing: it may have ended meanwhile."""
    processes = _Processes() if sources else None
    return [_usage(source, processes) for source in sources if processes is not None]


def _usage(source: Measured, processes: _Processes) -> Usage:
    cpu, memory = processes.below(source.pid)
    if source.cgroup is not None:
        cpu = _cgroup_cpu(source.cgroup) or cpu
        memory = _cgroup_memory(source.cgroup) or memory
    spec = source.spec
    return Usage(
        id=spec.id,
        account=spec.account,
        region=spec.region,
        endpoint=spec.endpoint,
        variant=spec.variant,
        cpu_seconds=cpu,
        memory_bytes=memory,
        memory_limit=spec.memory_bytes or os.sysconf("SC_PHYS_PAGES") * _PAGE,
        disk_percent=_disk(source.folder),
        container=spec.container if spec.position else "",
        loaded_models=source.loaded_models,
    )


class _Processes:
    """All processes of the machine at one time."""

    def __init__(self) -> None:
        self._fields: dict[int, list[str]] = {}
        self._children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    found = stat_fields(int(entry))
                    self._children.setdefault(int(found[1]), []).append(int(entry))
                    self._fields[int(entry)] = found

    def below(self, leader: int) -> tuple[float, int]:
        """CPU seconds and resident bytes of a process and all below it."""
        ticks, memory = 0, 0
        todo = [leader]
        while todo:
            pid = todo.pop()
            todo += self._children.get(pid, ())
            with contextlib.suppress(KeyError, ValueError, IndexError):
                fields = self._fields[pid]
                ticks += sum(int(count) for count in fields[_CPU_FIELDS])
                memory += int(fields[_RSS_FIELD]) * _PAGE
        return ticks / _TICKS, memory


def _cgroup_cpu(cgroup: Cgroup) -> float:
    """Seconds; 0 where no controller counts them."""
    for folder in set(cgroup.folders.values()):
        with contextlib.suppress(OSError, ValueError), open(f"{folder}/cpu.stat") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "usage_usec":
                    return int(value) / 1e6
    return 0.0


def _cgroup_memory(cgroup: Cgroup) -> int:
    folder = cgroup.folders.get("memory")
    if folder is not None:
        file = "memory.current" if cgroup.version == 2 else "memory.usage_in_bytes"
        with contextlib.suppress(OSError, ValueError), open(f"{folder}/{file}") as opened:
            return int(opened.read())
    return 0


def _disk(folder: str) -> float:
    """Percent in use, of the file system that the folder is on."""
    with contextlib.suppress(OSError):
        found = os.statvfs(folder)
        used = found.f_blocks - found.f_bfree
        return used / max(used + found.f_bavail, 1) * 100.0
    return 0.0
