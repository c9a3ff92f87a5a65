"""What of a log is left out."""

from __future__ import annotations

import logging

import pytest

from slipway.roles.events import Events, Repeats


def said(filter: Repeats, at: float, message: str = "store-away", level: int = logging.WARNING) -> str | None:
    record = logging.LogRecord("slipway.somewhere", level, "f.py", 1, message, (), None)
    record.created = at
    return Events("control").format(record) if filter.filter(record) else None


def test_what_repeats_is_said_so_often_and_then_counted() -> None:
    filter = Repeats(most=3, seconds=10.0)
    lines = [said(filter, 100.0 + n / 10) for n in range(20)]
    assert [line is not None for line in lines] == [True] * 3 + [False] * 17
    later = said(filter, 110.0)
    assert later is not None
    assert later.endswith("store-away left_out=17")
    assert said(filter, 110.1) is not None


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_is_no_warning_is_always_said(level: int) -> None:
    filter = Repeats(most=1)
    assert all(said(filter, 1.0, level=level) for _ in range(5))


def test_others_are_not_left_out_for_it() -> None:
    filter = Repeats(most=1)
    assert said(filter, 1.0)
    assert not said(filter, 1.0)
    assert said(filter, 1.0, "disk-full")


def test_messages_without_end_do_not_fill_the_memory() -> None:
    filter = Repeats()
    for n in range(5000):
        assert said(filter, 1.0, f"{n}")
    assert len(filter._counts) <= 1000
