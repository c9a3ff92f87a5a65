"""A kill at every step of a request's way, and at every pair of the durable ones."""

from __future__ import annotations

import itertools

import pytest

from tests.simulation import crashes
from tests.simulation.run import Library, Simulation
from tests.simulation.site import Kill


@pytest.mark.parametrize("external", [False, True])
def test_at_every_step(library: Library, external: bool) -> None:
    found = crashes.steps(library, external)
    assert {kill.role for kill in found} == {"control", "dispatcher", "worker"}
    durable = {(kill.step, kill.role) for kill in found}
    assert durable >= {step for step in crashes.DURABLE if external or "publish" not in step[0]}
    for kill in found:
        crashes.run(library, external, kill)


@pytest.mark.parametrize("name", [f"{name}, {role}" for name, role in crashes.DURABLE])
def test_at_two_durable_steps(library: Library, name: str) -> None:
    for first, second in crashes.pairs():
        if f"{first.step}, {first.role}" == name:
            external = "publish" in f"{first.step} {second.step}"
            crashes.run(library, external, first, second)


def test_a_dispatcher_dies_before_it_publishes_and_the_endpoint_is_deleted(library: Library) -> None:
    """No dispatcher has a reason to come for that answer; it was won, and is shown all the same."""
    plan = crashes.plan(True, frozenset({Kill("publish output", 1, "dispatcher")}))
    plan.events = [(3.9, "delete")]
    checker = Simulation(library, plan).run()
    assert checker.summary() == {"succeeded": 1, "failed": 1}


@pytest.mark.heavy
@pytest.mark.parametrize("external", [False, True])
def test_at_any_two_steps(library: Library, external: bool) -> None:
    found = [kill for kill in crashes.steps(library, external) if kill.count == 1]
    for first, second in itertools.combinations(found, 2):
        crashes.run(library, external, first, second)
    for kill in found:
        crashes.run(library, external, kill, Kill(kill.step, 2, kill.role))
