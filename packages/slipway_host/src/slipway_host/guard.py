"""What a process of the host does to itself before user code runs: give up rights, die with its parent, watch signals."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from typing import Any, Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def die_with_parent(parent: int | None = None) -> None:
    """Ask for SIGKILL when the parent dies (Linux). `parent`: its pid, if it is known; the process ends at once if it is
    already gone. The kernel forgets the request when rights are dropped, so this comes after `drop`."""
    if not sys.platform.startswith("linux"):
        return
    before = os.getppid() if parent is None else parent
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != before:
        os._exit(1)


def drop(uid: int | None, gid: int | None) -> None:
    """Become another user for good; None leaves that part as it is. Raises PermissionError where that is not allowed."""
    if gid is not None or uid is not None:
        try:
            os.setgroups([])
        except PermissionError:
            if os.geteuid() == 0:
                raise
    if gid is not None and gid != os.getgid():
        os.setgid(gid)
    if uid is not None and uid != os.getuid():
        os.setuid(uid)


def no_new_privileges() -> None:
    """No set-user-id program gains rights from here on (Linux)."""
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def single_threaded() -> bool:
    """True when this process has one thread, so that a fork of it is a whole copy; unknown is False."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def become_child(parent: int) -> None:
    """First lines of a forked child: dies with its parent, and takes signals like a plain process again."""
    die_with_parent(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, _ignore)  # the parent decides; a handler, unlike SIG_IGN, is not passed on to programs


def _ignore(_number: int, _frame: Any) -> None:
    """Nothing: the signal only wakes what waits."""


def watch_signals(receive: socket.socket, send: socket.socket, on_stop: Callable[[int, Any], None]) -> None:
    """SIGTERM and SIGINT call `on_stop`; these and SIGCHLD make `receive` readable."""
    receive.setblocking(False)
    send.setblocking(False)
    signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
