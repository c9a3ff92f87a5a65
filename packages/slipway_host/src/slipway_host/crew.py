"""Child processes by index: started by fork, replaced when they die, killed when they hang.

Used by the parent, and by the process that shares a loaded model with the workers it forks.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Callable, NamedTuple

from .slots import WIDTH, Slots

SETTLED = 10.0
"""A child that lived this long, in seconds, is replaced at once when it dies; one that did not, after a pause."""
PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
LOOK = 1.0
"""Longest time between two looks at the slots. A deadline lies at least frames.GRACE ahead of its request's begin, so a
look per second misses none."""


class Exit(NamedTuple):
    child: int
    status: int
    """As of waitpid."""


class Crew:
    """`work(index)` runs in the child and gives its exit status. `watch`: kill a child whose slot is past its deadline."""

    def __init__(self, work: Callable[[int], int], slots: Slots, *, watch: bool) -> None:
        self._work = work
        self._slots = slots
        self.watch = watch
        self.pids: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._due: dict[int, float] = {}

    def start(self, index: int) -> None:
        """Fork the child of this index."""
        self._due.pop(index, None)
        self._started[index] = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self.pids[index] = pid
            return
        status = 1
        try:
            status = self._work(index)
        except BaseException:  # noqa: BLE001  whatever it is, the child must not go on as its parent
            sys.excepthook(*sys.exc_info())
        leave(status)

    def ensure(self, index: int) -> None:
        """Start this child unless it runs or is about to."""
        if index not in self.pids and index not in self._due:
            self.start(index)

    def reap(self) -> list[Exit]:
        """Collect the children that ended. Orphans that were given to us (we may be process 1) are collected silently."""
        exits: list[Exit] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return exits
            if pid == 0:
                return exits
            for index, known in list(self.pids.items()):
                if known == pid:
                    del self.pids[index]
                    exits.append(Exit(index, status))

    def replace(self, index: int, now: float) -> None:
        """Plan a new child for a dead one: at once, or after a pause that grows while children die young."""
        young = now - self._started.get(index, now) < SETTLED
        failures = self._failures.get(index, 0) + 1 if young else 0
        self._failures[index] = failures
        self._due[index] = now + PAUSES[min(max(failures - 1, 0), len(PAUSES) - 1)]

    def tend(self, now: float) -> float:
        """Start what is due, kill what hangs; seconds until this is worth calling again."""
        for index in [index for index, when in self._due.items() if when <= now]:
            self.start(index)
        wake = now + LOOK
        if self._due:
            wake = min(wake, min(self._due.values()))
        if self.watch:
            for index, pid in self.pids.items():
                deadline = self._slots.deadline(index)
                late = bool(deadline) and deadline <= now
                if late or self._slots.condemned(index):
                    why = "did not end its request in time" if late else "went on with a request that nobody waits for"
                    log(f"worker {index} (process {pid}) {why}: killed")
                    self.signal(index, signal.SIGKILL)
                    self._slots.cells[index * WIDTH] = 0.0
                    self._started[index] = now - SETTLED  # it did not die by itself: replaced at once
                elif deadline:
                    wake = min(wake, deadline)
        return max(0.0, wake - now)

    def signal(self, index: int, number: int) -> None:
        pid = self.pids.get(index)
        if pid is not None:
            os.kill(pid, number)  # not reaped yet, so the number is still this child's

    def stop(self, grace: float) -> None:
        """SIGTERM to all; SIGKILL to those that are left after `grace` seconds. Returns when all are gone."""
        self._due.clear()
        for index in list(self.pids):
            self.signal(index, signal.SIGTERM)
        end = time.monotonic() + grace
        while self.pids and time.monotonic() < end:
            self.reap()
            if self.pids:
                _await_child(end - time.monotonic())
        for index in list(self.pids):
            self.signal(index, signal.SIGKILL)
        while self.pids:
            self.reap()
            if self.pids:
                _await_child(1.0)


def _await_child(seconds: float) -> None:
    """Until a child ended, or for `seconds`. SIGCHLD is blocked meanwhile, so that none slips through before the wait."""
    if seconds <= 0:
        return
    if not hasattr(signal, "sigtimedwait"):
        time.sleep(min(seconds, 0.01))
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            signal.sigtimedwait({signal.SIGCHLD}, seconds)
    except ChildProcessError:
        return
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def log(line: str) -> None:
    """One line of ours in the container's log."""
    sys.stderr.write(f"[slipway] {line}\n")
    sys.stderr.flush()


def leave(status: int) -> None:
    """End this process without running the exit handlers that belong to the process it was forked from."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # the log's reader is gone, or user code closed the stream
    os._exit(status)


def describe(status: int) -> str:
    """A status of waitpid in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"status {os.WEXITSTATUS(status)}"
