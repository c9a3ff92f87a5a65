"""Runs by chance: 200 here, 10,000 with `make simulate`."""

from __future__ import annotations

import pytest

from tests.simulation.run import Library, Simulation, plan_of

SEEDS, CHUNK = 200, 5


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_whatever_happens_the_promises_hold(library: Library, first: int) -> None:
    for seed in range(first, first + CHUNK):
        try:
            Simulation(library, plan_of(seed)).run()
        except Exception as error:
            error.add_note(f"replay: python -m tests.simulation {seed} --trace")
            raise


def test_a_seed_decides_everything(library: Library) -> None:
    """Else a failing one could not be looked at again."""
    traces = []
    for _ in range(2):
        lines: list[str] = []
        Simulation(library, plan_of(30), lines).run()
        traces.append(lines)
    assert len(traces[0]) > 100
    assert traces[0] == traces[1]
