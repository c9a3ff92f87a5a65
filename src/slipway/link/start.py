"""How a role is started: one JSON object on standard input, and the promise to die with the keeper."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import msgspec

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class RoleStart:
    """What a keeper writes to a role's standard input, which it then closes."""

    settings: msgspec.Raw
    """The Settings as JSON; `settings_as(Settings)` (this package may not import them)."""
    keeper_pid: int
    fd: int | None = None
    """The public listening socket, inherited; gateways only."""

    def settings_as(self, type: type[T]) -> T:
        return msgspec.json.decode(self.settings, type=type)


def encode_start(settings: Any, keeper_pid: int, fd: int | None = None) -> bytes:
    """The bytes for a role's standard input."""
    return msgspec.json.encode(RoleStart(msgspec.Raw(msgspec.json.encode(settings)), keeper_pid, fd))


def read_start(stdin: BinaryIO) -> RoleStart:
    """Read and decode until end of file. msgspec.DecodeError when a role was started by hand with something else."""
    return msgspec.json.decode(stdin.read(), type=RoleStart)


def die_with_parent(expected_parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux), and leave now if it is already dead.

    The signal follows the parent's *thread* that forked: keepers fork from their main thread only (design.md 2).
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    if os.getppid() != expected_parent_pid:
        raise SystemExit("the keeper that started this process is gone")
