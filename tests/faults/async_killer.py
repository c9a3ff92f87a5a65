"""kill -9 at random moments, of roles and of model processes; remembers when whom, and every process that ever was there."""

from __future__ import annotations

import collections
import contextlib
import random
import time

import psutil

from tests.e2e.deployments import Deployments
from tests.faults.load import hosts

DECK = ("dispatcher",) * 3 + ("worker",) * 3 + ("control",) * 2 + ("gateway", "host")
"""Dealt without being put back: with ten kills everybody has had a turn."""


class Killer:
    """Kills in the thread that calls `kill`."""

    def __init__(self, server: Deployments, seed: int) -> None:
        self.server = server
        self.log: list[tuple[float, str]] = []
        """When (monotonic), whom."""
        self.seen: dict[int, psutil.Process] = {}
        self._chance = random.Random(seed)
        self._deck: list[str] = []

    @property
    def count(self) -> collections.Counter[str]:
        return collections.Counter(whom for _, whom in self.log)

    def kill(self, times: int, seconds: float) -> None:
        """So many kills, `seconds` apart on the average; whoever is not there at the moment has another turn later."""
        due = time.monotonic()
        for _ in range(times):
            due += self._chance.uniform(0.1, 2 * seconds - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
            while not self._one():
                time.sleep(0.05)

    def _one(self) -> bool:
        if not self._deck:
            self._deck = list(DECK)
            self._chance.shuffle(self._deck)
        groups = self.groups()
        for place, whom in enumerate(self._deck):
            if groups[whom]:
                del self._deck[place]
                self.slay(whom, self._chance.choice(groups[whom]))
                return True
        return False

    def slay(self, whom: str, process: psutil.Process) -> None:
        self.log.append((time.monotonic(), whom))
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

    def groups(self) -> dict[str, list[psutil.Process]]:
        """Who may be killed, by what they are."""
        self.look()
        found = {name: self.server.processes(f"slipway.roles.{name}") for name in ("dispatcher", "control", "gateway")}
        models = {process.pid: process for process in hosts(self.server)}
        inner = [process for process in models.values() if _parent(process) in models]
        return {**found, "worker": inner, "host": [each for each in models.values() if each not in inner]}

    def look(self) -> None:
        """Remember all processes of this slipway."""
        for process in psutil.Process(self.server.launched.process.pid).children(recursive=True):
            self.seen[process.pid] = process

    def left(self) -> list[psutil.Process]:
        """Of all that ever were there, those that live."""
        return [each for each in self.seen.values() if each.is_running() and not _ended(each)]


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return 0


def _ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
