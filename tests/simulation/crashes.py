"""A short way of two requests, and a kill at each of its steps: alone, and in pairs. Deterministic."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.invariants import Wish
from tests.simulation.replicas import input_of
from tests.simulation.run import Library, Plan, Simulation
from tests.simulation.site import Kill

BACKGROUND = ("Metrics.", "Alarms.", "Keeping.", "Endpoints.", "Autoscaler.", "routes-", "heartbeat", "rows.")
"""Steps that are not on a request's way."""
DURABLE = (
    ("before Acceptor._write", "control"),
    ("after Acceptor._write", "control"),
    ("after Asynchronous._claim", "control"),
    ("container begins", "dispatcher"),
    ("container begins", "worker"),
    ("container answers", "dispatcher"),
    ("output written", "dispatcher"),
    ("before Asynchronous._commit", "control"),
    ("after Asynchronous._commit", "control"),
    ("message answer a", "dispatcher"),
    ("publish output", "dispatcher"),
    ("output published", "dispatcher"),
)
"""Accepted, claimed, started, output written, state and notification, published, finished: who may die there."""


def plan(external: bool, kills: frozenset[Kill] = frozenset()) -> Plan:
    first = Wish("r1", "ok", input_of("ok", 1, 0.1), 3600, 30, 0.1)
    second = Wish("r2", "big", input_of("big", 2, 0.2), 3600, 30, 0.2, "token-2")
    made = Plan(7, external, instances=1, tracking=False, minimum=1, maximum=1, kills=kills)
    made.wishes = [(3.5, [first, second])]
    return made


def steps(library: Library, external: bool) -> list[Kill]:
    """Every step of the undisturbed run that is on a request's way, and who could die at it."""
    simulation = Simulation(library, plan(external))
    simulation.run()
    found = []
    for (name, role), count in sorted(simulation.site.counts.items()):
        if not any(word in name for word in BACKGROUND):
            found += [Kill(name, number, role) for number in range(1, min(count, 3) + 1)]
    return found


def pairs() -> Iterator[tuple[Kill, Kill]]:
    """Of the durable steps: each with each other, and each twice."""
    for index, (name, role) in enumerate(DURABLE):
        first = Kill(name, 1, role)
        yield first, Kill(name, 2, role)
        for other, other_role in DURABLE[index + 1 :]:
            yield first, Kill(other, 1, other_role)


def run(library: Library, external: bool, *kills: Kill) -> None:
    """Disagreement where something does not hold."""
    try:
        Simulation(library, plan(external, frozenset(kills))).run()
    except Exception as error:
        error.add_note(f"external={external}, {kills}")
        raise
