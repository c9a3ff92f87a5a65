"""Which worker is condemned for going on with a request that nobody waits for: by the slots alone, at given times."""

from __future__ import annotations

import math

from slipway_host.slots import DEADLINE, NAME, WIDTH, Slots
from slipway_host.unwanted import MOST, Unwanted


def run(slots: Slots, worker: int, name: int) -> None:
    """As a worker does; 0: it is through."""
    if name:
        slots.cells[worker * WIDTH + NAME] = name
    slots.cells[worker * WIDTH + DEADLINE] = 9e9 if name else 0.0


def test_a_worker_that_goes_on_is_condemned_after_its_grace() -> None:
    slots = Slots(2)
    unwanted = Unwanted(slots, 5.0)
    run(slots, 0, 4_294_967_295)
    run(slots, 1, 4_294_967_295)
    unwanted.add(0, 4_294_967_295)
    assert unwanted.look(100.0) == 5.0
    assert unwanted.look(104.0) == 1.0
    assert not slots.condemned(0)
    assert unwanted.look(105.0) == math.inf
    assert slots.condemned(0)
    assert not slots.condemned(1)


def test_a_worker_that_has_gone_on_to_the_next_is_spared_however_late_the_look() -> None:
    slots = Slots(1)
    unwanted = Unwanted(slots, 5.0)
    run(slots, 0, 7)
    unwanted.add(0, 7)
    unwanted.look(100.0)
    run(slots, 0, 8)
    assert unwanted.look(105.0) == math.inf
    assert not slots.condemned(0)
    run(slots, 0, 7)
    unwanted.look(106.0)
    unwanted.look(111.0)
    assert slots.condemned(0)
    run(slots, 0, 8)
    assert not slots.condemned(0), "between the verdict and the kill"
    run(slots, 0, 0)
    assert not slots.condemned(0)


def test_an_idle_worker_is_not_condemned_for_what_it_did_last() -> None:
    slots = Slots(1)
    unwanted = Unwanted(slots, 5.0)
    run(slots, 0, 7)
    run(slots, 0, 0)
    unwanted.add(0, 7)
    for now in (100.0, 106.0, 112.0):
        assert unwanted.look(now) == math.inf
    assert not slots.condemned(0)


def test_several_that_were_sent_ahead_each_get_their_time_from_when_they_run() -> None:
    slots = Slots(1)
    unwanted = Unwanted(slots, 5.0)
    run(slots, 0, 1)
    unwanted.add(0, 1)
    unwanted.add(0, 2)
    unwanted.look(100.0)
    run(slots, 0, 2)
    assert unwanted.look(104.0) == 5.0
    unwanted.look(105.5)
    assert not slots.condemned(0)
    unwanted.look(109.0)
    assert slots.condemned(0)


def test_what_cannot_be_meant_is_dropped_and_the_rest_bounded() -> None:
    slots = Slots(1)
    unwanted = Unwanted(slots, 0.0)
    for worker, name in ((-1, 1), (1, 1), (0, 0)):
        unwanted.add(worker, name)
    run(slots, 0, 1)
    unwanted.look(1.0)
    assert not slots.condemned(0)
    for name in range(1, MOST + 2):
        unwanted.add(0, name)
    unwanted.look(2.0)
    assert not slots.condemned(0), "the oldest is forgotten"
    run(slots, 0, 2)
    unwanted.look(3.0)
    assert slots.condemned(0)
