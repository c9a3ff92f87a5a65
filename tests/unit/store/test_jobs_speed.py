"""Batches are worth it, and a long queue costs nothing: ratios of one run, with generous bounds (bench/ measures them well)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.store.jobs_world import Store, opened, succeeded

MANY = 200


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """On SQLite, as it runs: every commit is on the disk."""
    with opened(str(tmp_path / "slipway.db")) as found:
        yield found


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of some runs."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def claim_and_settle(store: Store, count: int) -> list[bool]:
    return store.settle(*(succeeded(each) for each in store.claim(count)))


def test_accepting_together_is_worth_it(store: Store) -> None:
    together = best(lambda: store.accept(*(store.request() for _ in range(MANY)), bound=10**6)) / MANY
    alone = best(lambda: [store.accept(store.request(), bound=10**6) for _ in range(20)]) / 20
    assert alone >= 5 * together


def test_claiming_and_settling_together_is_worth_it(store: Store) -> None:
    store.accepted(10 * MANY)
    together = best(lambda: claim_and_settle(store, MANY)) / MANY
    alone = best(lambda: [claim_and_settle(store, 1) for _ in range(20)]) / 20
    assert alone >= 5 * together


def test_claims_and_accepts_cost_the_same_in_a_long_queue(store: Store) -> None:
    short = best(lambda: (store.accepted(50), claim_and_settle(store, 50)), 5)
    for _ in range(20):
        store.accept(*(store.request() for _ in range(1000)), bound=10**6)
    long = best(lambda: (store.accepted(50), claim_and_settle(store, 50)), 5)
    assert long <= 3 * short
