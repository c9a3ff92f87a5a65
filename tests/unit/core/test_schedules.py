"""Schedules against AWS's own examples, calendars' corners, and clocks that are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.schedules import BadSchedule, next_due, parse


def due(text: str, after: str, zone: tzinfo = UTC, begin: str | None = None, scale: float = 1.0) -> str | None:
    """All moments as local ISO texts."""
    moment = datetime.fromisoformat(after).replace(tzinfo=zone).timestamp()
    first = datetime.fromisoformat(begin).replace(tzinfo=zone).timestamp() if begin else 0.0
    found = next_due(parse(text), zone, first, moment, scale=scale)
    return None if found is None else datetime.fromtimestamp(found, zone).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("at(2026-03-01T22:00:00)", "2026-02-01T00:00:00", "2026-03-01T22:00:00"),
        ("at(2026-03-01T22:00:00)", "2026-03-01T22:00:00", None),
        ("cron(0 9 * * ? *)", "2026-01-01T09:00:00", "2026-01-02T09:00:00"),
        ("cron(15 10 ? * 6L 2026-2027)", "2026-01-01T00:00:00", "2026-01-30T10:15:00"),
        ("cron(0/10 * ? * MON-FRI *)", "2026-01-02T23:55:00", "2026-01-05T00:00:00"),
        ("cron(0 18 ? * MON-FRI *)", "2026-01-02T18:00:00", "2026-01-05T18:00:00"),
        ("cron(0 8 1 * ? *)", "2026-01-01T08:00:01", "2026-02-01T08:00:00"),
        ("cron(5,35 14 * * ? *)", "2026-01-01T14:05:00", "2026-01-01T14:35:00"),
        ("cron(0 12 L * ? *)", "2028-02-01T00:00:00", "2028-02-29T12:00:00"),
        ("cron(0 12 LW * ? *)", "2026-05-01T00:00:00", "2026-05-29T12:00:00"),
        ("cron(0 12 15W * ? *)", "2026-08-01T00:00:00", "2026-08-14T12:00:00"),
        ("cron(0 12 1W * ? *)", "2026-08-01T00:00:00", "2026-08-03T12:00:00"),
        ("cron(0 12 ? * 3#2 *)", "2026-01-01T00:00:00", "2026-01-13T12:00:00"),
        ("cron(0 12 ? * TUE#2 *)", "2026-01-01T00:00:00", "2026-01-13T12:00:00"),
        ("cron(0 12 ? * L *)", "2026-01-01T00:00:00", "2026-01-03T12:00:00"),
        ("cron(0 0 29 2 ? *)", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
        ("cron(0 0 1 JAN ? 2199)", "2026-01-01T00:00:00", "2199-01-01T00:00:00"),
        ("cron(0 0 1 NOV-FEB ? *)", "2026-02-02T00:00:00", "2026-11-01T00:00:00"),
        ("cron(0 0 31 2 ? *)", "2026-01-01T00:00:00", None),
        ("cron(0 0 1 1 ? 2020)", "2026-01-01T00:00:00", None),
    ],
)
def test_when_it_is_due(text: str, after: str, expected: str | None) -> None:
    assert due(text, after) == expected


def test_a_rate_counts_from_its_beginning_and_is_scaled() -> None:
    begin = "2026-01-01T00:00:00"
    assert due("rate(5 minutes)", "2025-12-31T00:00:00", begin=begin) == begin
    assert due("rate(5 minutes)", begin, begin=begin) == "2026-01-01T00:05:00"
    assert due("rate(5 minutes)", "2026-01-01T00:07:00", begin=begin) == "2026-01-01T00:10:00"
    assert due("rate(1 hour)", begin, begin=begin, scale=60) == "2026-01-01T00:01:00"
    assert due("rate(1 day)", begin, begin=begin) == "2026-01-02T00:00:00"


def test_at_and_cron_are_not_scaled() -> None:
    assert due("cron(0 9 * * ? *)", "2026-01-01T00:00:00", scale=60) == "2026-01-01T09:00:00"
    assert due("at(2026-01-01T09:00:00)", "2026-01-01T00:00:00", scale=60) == "2026-01-01T09:00:00"


def test_a_start_time_holds_a_cron_back() -> None:
    assert due("cron(0 9 * * ? *)", "2026-01-01T00:00:00", begin="2026-02-01T09:00:00") == "2026-02-01T09:00:00"


def test_zones_and_clocks_that_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    moment = next_due(parse("at(2026-07-01T12:00:00)"), berlin, 0.0, 0.0)
    assert moment == datetime(2026, 7, 1, 10, tzinfo=UTC).timestamp()
    assert due("cron(30 2 * * ? *)", "2026-03-28T12:00:00", berlin) == "2026-03-29T03:30:00"
    first = next_due(parse("cron(30 2 * * ? *)"), berlin, 0.0, datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp())
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    again = next_due(parse("cron(30 2 * * ? *)"), berlin, 0.0, first or 0.0)
    assert again == datetime(2026, 10, 26, 1, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "every day",
        "at(tomorrow)",
        "at(2026-02-30T00:00:00)",
        "at(2026-01-01)",
        "rate(5)",
        "rate(0 minutes)",
        "rate(1 minutes)",
        "rate(2 minute)",
        "rate(5 weeks)",
        "cron(* * * * *)",
        "cron(* * * * * *)",
        "cron(* * ? * ? *)",
        "cron(60 * * * ? *)",
        "cron(* 24 * * ? *)",
        "cron(* * 32 * ? *)",
        "cron(* * ? * 8 *)",
        "cron(* * ? * 2#6 *)",
        "cron(*/0 * * * ? *)",
        "cron(x * * * ? *)",
        "cron(* * * 13 ? *)",
    ],
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(BadSchedule):
        parse(text)


@given(st.integers(0, 59), st.integers(0, 23), st.floats(0, 4e9))
def test_a_daily_cron_is_due_within_a_day(minute: int, hour: int, after: float) -> None:
    found = next_due(parse(f"cron({minute} {hour} * * ? *)"), UTC, 0.0, after)
    assert found is not None
    assert after < found <= after + 86_400
    assert datetime.fromtimestamp(found, UTC).strftime("%H:%M:%S") == f"{hour:02}:{minute:02}:00"


@given(st.integers(1, 10_000), st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0.1, 1000))
def test_a_rate_is_never_due_in_the_past(minutes: int, begin: float, after: float, scale: float) -> None:
    unit = "minute" if minutes == 1 else "minutes"
    found = next_due(parse(f"rate({minutes} {unit})"), UTC, begin, after, scale=scale)
    assert found is not None
    assert found > after or found == begin
