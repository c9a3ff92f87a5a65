"""Shared memory between the processes of a host: one slot per worker, written by the worker, read by who watches it.

A slot is eight doubles. Each has one writer at a time and is written whole (aligned), so no lock is needed.
"""

from __future__ import annotations

import mmap

DEADLINE = 0
"""When the running request's caller has given up for GRACE seconds (monotonic clock); 0: no request is running."""
STATE = 1
PID = 2
NAME = 3
"""Which request is running, or ran last: a frame's id, or the number in frames.NAME_HEADER. Written before DEADLINE."""
CONDEMNED = 4
"""Name of a request that is to run no longer. Written by the parent."""
MEMBERS = 5
"""How many requests run together under NAME; their names are in the worker's list. 0 and 1: NAME is the only one."""
WIDTH = 8
MEMBERS_MOST = 256

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
        self._names = memoryview(mmap.mmap(-1, max(1, count) * MEMBERS_MOST * 8)).cast("d")
        """Of requests that run together, MEMBERS_MOST for each worker; memory is taken where they are written."""

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
        self.cells[base + MEMBERS] = 0.0
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

    def running(self, index: int) -> int:
        """Name of the running request; 0: none, or one without a name."""
        return int(self.cells[index * WIDTH + NAME]) if self.deadline(index) else 0

    def names(self, index: int) -> memoryview[float]:
        """The worker's list of requests that run together."""
        return self._names[index * MEMBERS_MOST : (index + 1) * MEMBERS_MOST]

    def together(self, index: int) -> list[int]:
        """Names of all requests that are running."""
        running = self.running(index)
        count = int(self.cells[index * WIDTH + MEMBERS])
        if not running or count < 2:
            return [running] if running else []
        return [int(name) for name in self.names(index)[:count]]

    def condemn(self, index: int, name: int) -> None:
        """Whoever watches the worker kills it if it is (still) at this request, and at no other."""
        self.cells[index * WIDTH + CONDEMNED] = float(name)

    def condemned(self, index: int) -> bool:
        running = self.running(index)
        return running != 0 and running == self.cells[index * WIDTH + CONDEMNED]

    def ready(self) -> int:
        """How many workers can take requests."""
        return sum(self.cells[index * WIDTH + STATE] == READY for index in range(self.count))
