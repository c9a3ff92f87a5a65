from __future__ import annotations

import pytest

from slipway.core.async_decisions import BACKOFF_SECONDS, GiveUp, Retry, after_loss, backoff_seconds, is_expired


def test_waits_double_and_are_bounded() -> None:
    assert [backoff_seconds(n) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert backoff_seconds(0) == 1.0
    assert backoff_seconds(10_000) == BACKOFF_SECONDS


def test_chance_adds_up_to_a_tenth() -> None:
    assert backoff_seconds(3, 0.5) == pytest.approx(4.2)
    assert 4.0 <= backoff_seconds(3, 0.999) < 4.4


def test_after_the_last_attempt_it_is_given_up() -> None:
    assert after_loss(1, 3, 100.0) == Retry(101.0)
    assert after_loss(2, 3, 100.0) == Retry(102.0)
    assert after_loss(3, 3, 100.0) == GiveUp()
    assert after_loss(1, 1, 100.0) == GiveUp()


def test_a_time_to_live_ends_at_its_moment() -> None:
    assert not is_expired(100.0, 99.999)
    assert is_expired(100.0, 100.0)
