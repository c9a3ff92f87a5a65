"""Leases run out by a clock that may be set, and while a machine may sleep."""

from __future__ import annotations

from slipway.control.lease_clock import JUMP_SECONDS, LeaseClock

LEASE = 15.0


class Hands:
    """Of two clocks."""

    def __init__(self) -> None:
        self.now, self.steady = 1000.0, 5.0
        self.clock = LeaseClock(LEASE, lambda: self.now, lambda: self.steady)

    def may_reap(self, *, passed: float = 0.0, jumped: float = 0.0) -> bool:
        self.now += passed + jumped
        self.steady += passed
        self.clock.mind()
        return self.clock.may_reap


def test_leases_of_an_earlier_control_have_their_time() -> None:
    hands = Hands()
    assert not hands.may_reap(passed=LEASE - 0.5)
    assert hands.may_reap(passed=0.5)


def test_a_jump_gives_them_their_time_again() -> None:
    hands = Hands()
    assert hands.may_reap(passed=LEASE)
    assert not hands.may_reap(jumped=3600.0)
    assert not hands.may_reap(passed=LEASE - 0.5)
    assert hands.may_reap(passed=0.5)
    assert not hands.may_reap(jumped=-3600.0)
    assert hands.may_reap(passed=LEASE)


def test_a_clock_that_is_set_a_little_is_none_that_jumps() -> None:
    hands = Hands()
    assert hands.may_reap(passed=LEASE)
    assert hands.may_reap(jumped=JUMP_SECONDS * 0.9)
