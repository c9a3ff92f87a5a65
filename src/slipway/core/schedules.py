"""Schedules of scheduled actions: `at(…)`, `rate(…)` and `cron(…)` as AWS writes them, and when they are due next.

Times are epoch seconds, time zones `tzinfo` values from the caller. `rate` is a period and is divided by the time scale
(design.md 4, "time"); `at` and `cron` name moments and are not. In the hour that a clock skips, what is due falls due as much
later as the clock jumps; in the hour that it repeats, once, the first time.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
_UNITS = {"minute": MINUTE, "hour": HOUR, "day": DAY}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
FIRST_YEAR, LAST_YEAR = 1970, 2199
SEARCH_YEARS = 41
"""A cron expression that is due at all is due within so many of its years: a fifth Sunday in February is the rarest."""


class BadSchedule(ValueError):
    """Not a schedule; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class At:
    moment: datetime
    """Without a zone: the action's own applies."""


@dataclass(frozen=True, slots=True)
class Rate:
    seconds: float


@dataclass(frozen=True, slots=True)
class Cron:
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    years: frozenset[int]
    day: Callable[[date], bool]


Schedule = At | Rate | Cron


def parse(text: str) -> Schedule:
    """Raises BadSchedule."""
    match = re.fullmatch(r"(at|rate|cron)\((.*)\)", text.strip())
    if match is None:
        raise BadSchedule("a schedule is at(yyyy-mm-ddThh:mm:ss), rate(value unit) or cron(fields)")
    parsers: dict[str, Callable[[str], Schedule]] = {"at": _at, "rate": _rate, "cron": _cron}
    return parsers[match[1]](match[2].strip())


def _at(body: str) -> At:
    try:
        return At(datetime.strptime(body, "%Y-%m-%dT%H:%M:%S"))  # noqa: DTZ007 - the zone is the action's
    except ValueError:
        raise BadSchedule(f"at({body}): a moment is yyyy-mm-ddThh:mm:ss") from None


def _rate(body: str) -> Rate:
    match = re.fullmatch(r"([0-9]{1,9})\s+(minute|hour|day)(s?)", body)
    value = int(match[1]) if match else 0
    if match is None or value < 1 or (value == 1) == bool(match[3]):
        raise BadSchedule(f"rate({body}): a rate is a positive number and minute, minutes, hour, hours, day or days")
    return Rate(value * _UNITS[match[2]])


def _cron(body: str) -> Cron:
    parts = body.split()
    if len(parts) != 6:
        raise BadSchedule(f"cron({body}): six fields are needed: minutes, hours, day of month, month, day of week, year")
    minutes, hours, days, months, weekdays, years = (part.upper() for part in parts)
    if (days == "?") == (weekdays == "?"):
        raise BadSchedule(f"cron({body}): one of day of month and day of week must be ?, and only one")
    return Cron(
        tuple(sorted(_field(minutes, 0, 59))),
        tuple(sorted(_field(hours, 0, 23))),
        frozenset(_field(months, 1, 12, _MONTHS)),
        frozenset(_field(years, FIRST_YEAR, LAST_YEAR)),
        _day_of_week(weekdays) if days == "?" else _day_of_month(days),
    )


def _field(text: str, low: int, high: int, names: dict[str, int] | None = None) -> set[int]:
    """The values of a list of `*`, `a`, `a-b`, each perhaps with `/step`."""
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        first_text, dash, last_text = span.partition("-")
        if span == "*":
            first, last = low, high
        else:
            first = _number(first_text, low, high, names)
            last = _number(last_text, low, high, names) if dash else high if slash else first
        step = _number(step_text, 1, high) if slash else 1
        if first > last:  # MON-SUN, NOV-FEB: round the end
            found.update(range(first, high + 1, step), range(low, last + 1, step))
        else:
            found.update(range(first, last + 1, step))
    return found


def _number(text: str, low: int, high: int, names: dict[str, int] | None = None) -> int:
    if names and text in names:
        return names[text]
    if not re.fullmatch(r"[0-9]{1,4}", text) or not low <= int(text) <= high:
        raise BadSchedule(f"{text!r} is no value from {low} to {high}")
    return int(text)


def _day_of_month(text: str) -> Callable[[date], bool]:
    """`L` is the last day, `15W` the weekday nearest to the 15th, `LW` the last weekday."""
    if text == "L":
        return lambda day: day.day == _length(day)
    if text == "LW":
        return lambda day: day.day == _nearest_weekday(day, _length(day))
    if match := re.fullmatch(r"([0-9]{1,2})W", text):
        wanted = _number(match[1], 1, 31)
        return lambda day: wanted <= _length(day) and day.day == _nearest_weekday(day, wanted)
    days = frozenset(_field(text, 1, 31))
    return lambda day: day.day in days


def _day_of_week(text: str) -> Callable[[date], bool]:
    """1 to 7 or SUN to SAT; `6L` the last Friday of the month, `6#3` the third."""
    if text == "L":
        return lambda day: _weekday(day) == 7
    if match := re.fullmatch(r"([0-9A-Z]{1,3})L", text):
        wanted = _number(match[1], 1, 7, _WEEKDAYS)
        return lambda day: _weekday(day) == wanted and day.day + 7 > _length(day)
    if match := re.fullmatch(r"([0-9A-Z]{1,3})#([1-5])", text):
        wanted, nth = _number(match[1], 1, 7, _WEEKDAYS), int(match[2])
        return lambda day: _weekday(day) == wanted and (day.day + 6) // 7 == nth
    weekdays = frozenset(_field(text, 1, 7, _WEEKDAYS))
    return lambda day: _weekday(day) in weekdays


def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _weekday(day: date) -> int:
    """1 is Sunday."""
    return day.isoweekday() % 7 + 1


def _nearest_weekday(day: date, wanted: int) -> int:
    """The day of `day`'s month that is a weekday and nearest to the `wanted` one, without leaving the month."""
    weekday = day.replace(day=wanted).isoweekday()
    if weekday == 6:
        return wanted - 1 if wanted > 1 else wanted + 2
    if weekday == 7:
        return wanted + 1 if wanted < _length(day) else wanted - 2
    return wanted


def next_due(schedule: Schedule, zone: tzinfo, begin: float, after: float, *, scale: float = 1.0) -> float | None:
    """The first moment later than `after` and not before `begin` (where a rate starts counting); None: never again."""
    if isinstance(schedule, At):
        moment = schedule.moment.replace(tzinfo=zone).timestamp()
        return moment if moment > after and moment >= begin else None
    if isinstance(schedule, Rate):
        period = schedule.seconds / scale
        if after < begin:
            return begin
        due = begin + (int((after - begin) / period) + 1) * period
        return due if due > after else due + period
    return _next_cron(schedule, zone, max(after, begin - 1e-6))


def _next_cron(cron: Cron, zone: tzinfo, after: float) -> float | None:
    today = datetime.fromtimestamp(after, zone).date()
    for year in sorted(year for year in cron.years if year >= today.year)[:SEARCH_YEARS]:
        for month in sorted(cron.months):
            for number in range(1, calendar.monthrange(year, month)[1] + 1):
                day = date(year, month, number)
                if day < today or not cron.day(day):
                    continue
                if (due := _first(cron.hours, cron.minutes, day, zone, after)) is not None:
                    return due
    return None


def _first(hours: Sequence[int], minutes: Sequence[int], day: date, zone: tzinfo, after: float) -> float | None:
    """The first of a day's times that is later than `after`."""
    moments = (
        datetime.combine(day, time(hour, minute), zone).astimezone(UTC).timestamp() for hour in hours for minute in minutes
    )
    return min((moment for moment in moments if moment > after), default=None)
