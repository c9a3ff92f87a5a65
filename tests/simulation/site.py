"""What all parts of a run share: time, chance, the disk, processes, and who is killed at which step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.simulation.loops import Agenda, Process, Victim
from tests.simulation.network import Network
from tests.simulation.store import Disk

BEGIN = 1_700_000_000.0
"""Epoch seconds at which every run begins."""


@dataclass(frozen=True)
class Kill:
    """At the n-th time that something happens, the one of that role that it happens to dies."""

    step: str
    count: int
    role: str


class Disagreement(AssertionError):
    """An invariant does not hold."""


@dataclass
class Site:
    """`step` is told of everything that happens; it may kill."""

    chance: Random
    disk: Disk
    external: bool = False
    scale: float = 6.0
    plan: frozenset[Kill] = frozenset()
    at: Mapping[int, float] = field(default_factory=dict)
    """By number of the step: a roll that chooses who of those concerned dies there."""
    trace: list[str] | None = None
    trouble: float = 0.0
    """The share of an external store's answers that are errors."""
    fallen: Callable[[Victim], None] = lambda victim: None

    def __post_init__(self) -> None:
        self.agenda = Agenda(BEGIN)
        self.processes: dict[int, Process] = {}
        self.world = Process(self.agenda, "world", 0)
        self.network = Network(self.agenda, self.world, self.chance, self)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.number = 0
        self._pids = 1000

    @property
    def now(self) -> float:
        return self.agenda.now

    def process(self, role: str) -> Process:
        self._pids += 1
        made = Process(self.agenda, role, self._pids)
        self.processes[made.pid] = made
        return made

    def alive(self, pid: int) -> bool:
        return pid in self.processes and not self.processes[pid].dead

    def say(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now - BEGIN:9.4f} {text}")

    # Steps

    def step(self, name: str, *victims: Victim) -> bool:
        """From the world's own loop: none of the victims' code is on the stack."""
        self.number += 1
        found = [victim for victim in victims if victim.role != "client" and not victim.dead]
        if self.trace is not None:
            self.say(f"{name} [{', '.join(map(str, victims))}]")
        for victim in found:
            key = (name, victim.role)
            self.counts[key] += 1
            if self.plan and Kill(name, self.counts[key], victim.role) in self.plan:
                self.kill(victim, name)
        if self.number in self.at and found:
            self.kill(found[int(self.at[self.number] * len(found))], name)
        return any(victim.dead for victim in victims)

    async def disturbed(self, name: str, process: Process) -> None:
        """The same from a process' own code: it waits until the step is over, or is no more."""
        passed = process.loop.create_future()

        def perform() -> None:
            if not self.step(name, process) and not passed.done():
                passed.set_result(None)

        self.world.loop.call_later(self.chance.random() * 0.01, perform)
        await passed

    def unable(self) -> bool:
        return self.trouble > 0 and self.chance.random() < self.trouble

    def kill(self, victim: Victim, why: str = "") -> None:
        if victim.dead:
            return
        self.say(f"*** {victim} is killed at: {why}")
        if isinstance(victim, Process):
            victim.kill()
            self.network.killed(victim)
        self.fallen(victim)
