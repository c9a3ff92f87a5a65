"""How long tests wait for what must come, in one place, and a clock for what must come soon.

A deadline is a safety net: it is there so that a test which waits in vain ends with a message, and is never part of what the
test asserts. So all of them are generous. Where slipway promises seconds (stopped within 5 s), the promise is for a machine
that has them to give: a `Watch` counts them without those in which the machine was busy with something else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 90.0
"""Seconds until one condition that must come true has come true."""
LONG = 300.0
"""Seconds until a whole program has ended."""
KERNEL = Path("/proc")


class Watch:
    """Counts from its making."""

    def __init__(self) -> None:
        self._began, self._free = time.monotonic(), free_time()

    @property
    def seconds(self) -> float:
        """As everybody has them: for what must not come too early."""
        return time.monotonic() - self._began

    @property
    def free(self) -> float:
        """By `free_time`: for what must come soon."""
        return free_time() - self._free


def free_time() -> float:
    """Seconds on a clock that stands still while somebody on this machine waits for a core, the disk or memory.

    A kernel that keeps no record of such waits (`/proc/pressure`) has a tenth of the time: there, only what takes ten times too
    long is seen. A second that was lost to two causes counts for each, so the clock may even go back a little.
    """
    try:
        stalled = sum(_stalled(kind) for kind in ("cpu", "io", "memory"))
    except (OSError, ValueError, IndexError):
        return time.monotonic() / 10
    return time.monotonic() - stalled - _stolen()


def until(condition: Callable[[], object], seconds: float = PATIENCE, what: str = "the condition") -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + max(seconds, PATIENCE)
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {max(seconds, PATIENCE):g} s"
        time.sleep(0.02)


def _stalled(kind: str) -> float:
    """Seconds in which a process was stalled for want of it, since the machine's start (Linux: psi, `some … total`, µs)."""
    some = (KERNEL / "pressure" / kind).read_text().split("\n", 1)[0]
    return int(some.rsplit("total=", 1)[1]) / 1e6


def _stolen() -> float:
    """Seconds of a core that the machine below gave to others (`steal` of /proc/stat, in hundredths)."""
    words = (KERNEL / "stat").read_text().split("\n", 1)[0].split()
    return int(words[8]) / 100
