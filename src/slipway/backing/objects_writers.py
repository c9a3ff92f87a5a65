"""Who writes blobs: each process holds a lock for as long as it lives, so that sweeps leave alone what is not settled yet.

A writer's name begins its blobs' names. The kernel frees its lock when it dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass


class Writer:
    """`fd` holds the lock while it is open."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd

    def leave(self) -> None:
        """Give the lock up: what no row names is garbage from now on. Safe to repeat."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def enter(directory: str) -> Writer:
    """A new writer, with its lock. OSError."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    while True:
        name = secrets.token_hex(4)
        try:
            fd = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        if _locked(fd) and os.fstat(fd).st_nlink:  # else a sweep took it for a dead one's, in this very moment
            return Writer(name, fd)
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Writers:
    alive: tuple[str, ...]
    dead: tuple[str, ...]
    """Those that left their file; earlier ones are dead too."""


def look(directory: str, own: str) -> Writers:
    """Who lives. `own` does: a process may not ask for its own lock."""
    alive, dead = [own], list[str]()
    for name in os.listdir(directory):
        if name == own:
            continue
        try:
            fd = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            (dead if _locked(fd) else alive).append(name)
        finally:
            os.close(fd)
    return Writers(tuple(alive), tuple(dead))


def bury(directory: str, names: Sequence[str]) -> None:
    """Remove the files of the dead, whose blobs have been seen to."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CLOEXEC)
            try:
                if _locked(fd):
                    os.unlink(os.path.join(directory, name))
            finally:
                os.close(fd)
