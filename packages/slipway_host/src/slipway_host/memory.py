"""How much memory this process may use, and whether the kernel has killed for it."""

from __future__ import annotations

import re


def limit() -> int:
    """Bytes this process may use: the smaller of its address-space limit and its cgroup's; 0 when there is neither."""
    found = []
    try:
        import resource  # noqa: PLC0415  absent on some platforms, and only needed for this

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft not in (resource.RLIM_INFINITY, -1):
            found.append(soft)
    except (ImportError, OSError):
        pass
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes", *_cgroup_files("memory.max")):
        text = read(path).strip()
        if text.isdigit() and int(text) < 1 << 60:
            found.append(int(text))
    return min(found, default=0)


def kills() -> int:
    """How often the kernel killed a process of our cgroup for its memory; 0 where that cannot be seen."""
    for path in (*_cgroup_files("memory.events"), "/sys/fs/cgroup/memory.events"):
        found = re.search(r"^oom_kill (\d+)$", read(path), re.MULTILINE)
        if found:
            return int(found.group(1))
    return 0


def _cgroup_files(name: str) -> list[str]:
    for line in read("/proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            return [f"/sys/fs/cgroup{path}/{name}"]
    return []


def read(path: str) -> str:
    """The first 64 KB of a text file; nothing for one that cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
