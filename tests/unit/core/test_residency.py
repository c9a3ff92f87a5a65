"""Which model goes: a reference LRU under random work, and what never goes."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from slipway.core.residency import Resident, next_victim, victims

ACTS = st.lists(st.tuples(st.integers(0, 11), st.booleans()), max_size=80)


class Reference:
    """An ordinary LRU cache by bytes: the oldest at the front."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held: OrderedDict[int, int] = OrderedDict()
        self.gone: list[int] = []

    def use(self, number: int) -> None:
        if number in self.held:
            self.held.move_to_end(number)
            return
        while self.held and sum(self.held.values()) + size(number) > self.budget:
            self.gone.append(self.held.popitem(last=False)[0])
        self.held[number] = size(number)


def size(number: int) -> int:
    return 1 + number % 4


@given(st.integers(4, 14), ACTS)
def test_the_log_of_evictions_is_that_of_a_reference_lru(budget: int, acts: list[tuple[int, bool]]) -> None:
    reference = Reference(budget)
    residents: dict[int, Resident] = {}
    gone: list[int] = []
    for clock, (number, _) in enumerate(acts):
        reference.use(number)
        if number not in residents:
            for each in victims(list(residents.values()), size(number), budget):
                gone.append(int(each.hash))
                del residents[int(each.hash)]
        residents[number] = Resident(f"{number:02d}", size(number), float(clock))
    assert gone == reference.gone
    assert set(residents) == set(reference.held)


@given(st.lists(st.builds(Resident, st.uuids().map(str), st.integers(1, 9), st.floats(0, 9), st.booleans(), st.booleans())))
def test_nothing_in_use_or_pinned_goes(residents: list[Resident]) -> None:
    going = victims(residents, 1, 1)
    assert not any(each.busy or each.pinned for each in going)
    assert next_victim(residents) == (going[0] if going else None)


def test_replaced_versions_go_first_and_no_budget_bounds_nothing() -> None:
    old, new = Resident("old", 5, 9.0, replaced=True, pinned=True), Resident("new", 5, 1.0)
    assert victims([new, old], 5, 10) == [old]
    assert victims([new, old], 5, 0) == []
    assert victims([new, old], 1, 100, reserved=95) == [old, new]
