"""Shared memory between the processes of a host: one slot per worker, written by the worker, read by who watches it.

A slot is eight doubles. Each has one writer and is written whole (aligned), so no lock is needed.
"""

from __future__ import annotations

import mmap

DEADLINE = 0
"""When the running request's caller has given up for GRACE seconds (monotonic clock); 0: no request is running."""
STATE = 1
PID = 2
WIDTH = 8

ABSENT = 0.0
LOADING = 1.0
READY = 2.0
TOLD = 3.0
"""The model could not be loaded, and this process has said why."""

UNDECIDED = 0.0
SHARED = 1.0
"""The process that loaded the model forks the workers."""
SEPARATE = 2.0
"""Each worker loads for itself."""


class Slots:
    """`count` workers, and one more slot whose STATE says how the model is shared."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = mmap.mmap(-1, (count + 1) * WIDTH * 8)
        self.cells = memoryview(self._memory).cast("d")

    @property
    def sharing(self) -> float:
        return self.cells[self.count * WIDTH + STATE]

    @sharing.setter
    def sharing(self, value: float) -> None:
        self.cells[self.count * WIDTH + STATE] = value

    def clear(self, index: int) -> None:
        """The worker of this slot is gone."""
        base = index * WIDTH
        self.cells[base + DEADLINE] = 0.0
        self.cells[base + STATE] = ABSENT
        self.cells[base + PID] = 0.0

    def enter(self, index: int, state: float, pid: int) -> None:
        base = index * WIDTH
        self.cells[base + DEADLINE] = 0.0
        self.cells[base + PID] = float(pid)
        self.cells[base + STATE] = state

    def state(self, index: int) -> float:
        return self.cells[index * WIDTH + STATE]

    def deadline(self, index: int) -> float:
        return self.cells[index * WIDTH + DEADLINE]

    def ready(self) -> int:
        """How many workers can take requests."""
        return sum(self.cells[index * WIDTH + STATE] == READY for index in range(self.count))
