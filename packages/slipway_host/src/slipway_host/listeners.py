"""What a process and its descendants listen on, from /proc: for a server that cannot be reached, in plain words.

Addresses are the kernel's own word (proc_net_tcp(5)): of this network namespace, and only sockets that a process of the
same session tree holds, so that a neighbour in a shared network is not taken for the container's server.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_LISTEN = "0A"


class Listener(NamedTuple):
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.host.startswith("127.") or self.host == "::1"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listeners(pid: int, *, everyone: bool) -> list[Listener]:
    """TCP sockets that listen: all of this network (`everyone`), or those of `pid` and its descendants."""
    inodes = None if everyone else _inodes(_tree(pid))
    found: list[Listener] = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for fields in _rows(f"/proc/self/net/{table}"):
            if fields[3] == _LISTEN and (inodes is None or fields[9] in inodes):
                address, _, port = fields[1].partition(":")
                found.append(Listener(_host(address, family), int(port, 16)))
    return sorted(set(found), key=lambda each: each.port)


def _rows(file: str) -> list[list[str]]:
    try:
        with open(file) as opened:
            lines = opened.read().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row for row in rows if len(row) > 9]


def _host(text: str, family: int) -> str:
    """The kernel prints each word of 32 bits in the machine's own order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))


def _tree(root: int) -> list[int]:
    """`root` and all that descend from it; what has been orphaned is not found."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        parents.setdefault(parent, []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def _inodes(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found
