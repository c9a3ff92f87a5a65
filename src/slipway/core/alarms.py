"""Alarms as values, and when they go off: a pure function of the last datapoints, missing ones included.

AWS's user guide, "Configuring how CloudWatch alarms treat missing data", has the rules and the tables that the tests hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

OK: Final = "OK"
ALARM: Final = "ALARM"
INSUFFICIENT: Final = "INSUFFICIENT_DATA"
INITIAL_REASON: Final = "Unchecked: Initial alarm creation"
EXTRA_PERIODS: Final = 2
"""Periods looked at beyond EvaluationPeriods (the evaluation range: AWS's examples have five for three)."""

_COMPARISONS: Final[Mapping[str, tuple[Callable[[float, float], bool], str]]] = {
    "GreaterThanOrEqualToThreshold": (lambda value, threshold: value >= threshold, "greater than or equal to"),
    "GreaterThanThreshold": (lambda value, threshold: value > threshold, "greater than"),
    "LessThanThreshold": (lambda value, threshold: value < threshold, "less than"),
    "LessThanOrEqualToThreshold": (lambda value, threshold: value <= threshold, "less than or equal to"),
}
COMPARISONS: Final = tuple(_COMPARISONS)
ACTIONS: Final = {OK: "OKActions", ALARM: "AlarmActions", INSUFFICIENT: "InsufficientDataActions"}
"""By state, the member of PutMetricAlarm that says what to do then."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A metric alarm. Change it with `dataclasses.replace` and `store.alarms.put`."""

    account: str
    region: str
    name: str
    arn: str
    spec: dict[str, Any]
    """What PutMetricAlarm was given, in AWS's member names, without AlarmName and Tags; JSON values only."""
    updated: float
    """When the configuration last changed; epoch seconds, like all times here."""
    state: str = INSUFFICIENT
    reason: str = INITIAL_REASON
    reason_data: str | None = None
    """JSON."""
    state_updated: float = 0.0
    """When the state was last written, transition or not."""
    transitioned: float = 0.0
    """When the state last changed to another."""
    acted: float = 0.0
    """The `transitioned` whose actions were done."""

    @property
    def condition(self) -> Condition:
        return condition_of(self.spec)

    def actions(self, state: str) -> tuple[str, ...]:
        """ARNs to act on in `state`; none where actions are disabled."""
        return tuple(self.spec.get(ACTIONS[state], ())) if self.spec.get("ActionsEnabled", True) else ()


@dataclass(frozen=True, slots=True)
class Condition:
    comparison: str
    threshold: float
    evaluation_periods: int
    datapoints: int
    """Of them that must breach."""
    period: int
    """Nominal seconds."""
    missing: str = "missing"
    statistic: str | None = None
    """Statistic or ExtendedStatistic; None: metric math."""
    unit: str | None = None
    low_samples: str = "evaluate"
    """EvaluateLowSampleCountPercentile."""

    @property
    def range(self) -> int:
        """Number of periods whose datapoints `evaluate` wants to see."""
        return self.evaluation_periods + EXTRA_PERIODS


@dataclass(frozen=True, slots=True)
class Datum:
    at: float
    """Begin of its period, epoch seconds."""
    value: float
    samples: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    state: str
    reason: str
    data: dict[str, Any] = field(default_factory=dict)
    """StateReasonData."""


def condition_of(spec: Mapping[str, Any]) -> Condition:
    periods = spec["EvaluationPeriods"]
    return Condition(
        comparison=spec["ComparisonOperator"],
        threshold=float(spec["Threshold"]),
        evaluation_periods=periods,
        datapoints=spec.get("DatapointsToAlarm", periods),
        period=spec["Period"] if "Period" in spec else _math_period(spec.get("Metrics", ())),
        missing=spec.get("TreatMissingData", "missing"),
        statistic=spec.get("Statistic") or spec.get("ExtendedStatistic"),
        unit=spec.get("Unit"),
        low_samples=spec.get("EvaluateLowSampleCountPercentile", "evaluate"),
    )


def _math_period(queries: Sequence[Mapping[str, Any]]) -> int:
    """The longest period of the metrics that an expression is of."""
    return max((q["MetricStat"]["Period"] if "MetricStat" in q else q.get("Period", 0) for q in queries), default=0) or 60


def evaluate(condition: Condition, window: Sequence[Datum | None], state: str, now: float) -> Verdict | None:
    """The state that the datapoints of the evaluation range (oldest first; None: missing) put the alarm in.

    None: it keeps the state, and the reason, that it has.
    """
    real = [datum for datum in window if datum is not None]
    seen = real[-condition.evaluation_periods :]
    if condition.low_samples == "ignore" and seen and seen[-1].samples < _significant(condition.statistic):
        return None
    filled = condition.evaluation_periods - len(seen)
    breaching = [datum for datum in seen if _breaches(condition, datum)]
    new = _state(condition, window, len(seen), len(breaching), filled)
    if new is None:
        return None
    used = filled if condition.missing in ("breaching", "notBreaching") else 0
    reason = _reason(condition, seen, breaching, used, state, new)
    return Verdict(new, reason, _data(condition, seen, now))


def _state(condition: Condition, window: Sequence[Datum | None], seen: int, breaching: int, filled: int) -> str | None:
    if filled > 0 and condition.missing == "breaching":
        return ALARM if breaching + filled >= condition.datapoints else OK
    if breaching >= condition.datapoints:
        return ALARM
    if filled <= 0 or condition.missing == "notBreaching" or breaching < seen:
        return OK
    if condition.missing == "ignore":
        return None
    if not seen:
        return INSUFFICIENT
    # All there is breaches, and it is too little: an alarm only where what breaches is as old as it takes
    # ("avoiding premature transitions").
    oldest = next(index for index, datum in enumerate(window) if datum is not None)
    return ALARM if len(window) - oldest >= condition.datapoints else None


def _breaches(condition: Condition, datum: Datum) -> bool:
    return _COMPARISONS[condition.comparison][0](datum.value, condition.threshold)


def _significant(statistic: str | None) -> float:
    """Samples that a percentile needs (AWS: "Percentile-based alarms and low data samples")."""
    if statistic is None or not statistic.startswith("p"):
        return 0.0
    share = float(statistic[1:]) / 100.0
    if share >= 0.5:
        return 10.0 / (1.0 - share) if share < 1.0 else 0.0
    return 10.0 / share if share > 0.0 else 0.0


def _reason(condition: Condition, seen: Sequence[Datum], breaching: Sequence[Datum], filled: int, old: str, new: str) -> str:
    if new == INSUFFICIENT:
        return f"Insufficient Data: {_many(condition.evaluation_periods, 'datapoint')} unknown."
    treated = "Breaching" if condition.missing == "breaching" else "NonBreaching"
    missing = f"{_many(filled, 'missing datapoint')} treated as [{treated}]"
    if not seen:
        periods = "period" if filled == 1 else "periods"
        return f"Threshold Crossed: no datapoints were received for {filled} {periods} and {missing}."
    shown = breaching if new == ALARM else [datum for datum in seen if datum not in breaching]
    listed = ", ".join(f"{datum.value} ({_short(datum.at)})" for datum in reversed(shown))
    verb = ("was" if len(shown) == 1 else "were") + ("" if new == ALARM else " not")
    how = _COMPARISONS[condition.comparison][1]
    needed = condition.datapoints if new == ALARM else condition.evaluation_periods - condition.datapoints + 1
    points = "datapoint" if needed == 1 else "datapoints"
    transition = f" (minimum {needed} {points} for {OK if new == ALARM else ALARM} -> {new} transition)" if old != new else ""
    text = f"{len(shown)} out of the last {len(seen)} datapoints [{listed}] {verb} {how} the threshold ({condition.threshold})"
    return f"Threshold Crossed: {text}{transition}{f' and {missing}' if filled > 0 else ''}."


def _many(count: int, word: str) -> str:
    return f"{count} {word} was" if count == 1 else f"{count} {word}s were"


def _data(condition: Condition, seen: Sequence[Datum], now: float) -> dict[str, Any]:
    found: dict[str, Any] = {"version": "1.0", "queryDate": timestamp(now)}
    if seen:
        found["startDate"] = timestamp(seen[0].at)
    if condition.unit is not None:
        found["unit"] = condition.unit
    if condition.statistic is not None:
        found["statistic"] = condition.statistic
    return {
        **found,
        "period": condition.period,
        "recentDatapoints": [datum.value for datum in seen],
        "threshold": condition.threshold,
        "evaluatedDatapoints": [
            {"timestamp": timestamp(datum.at), "sampleCount": datum.samples, "value": datum.value} for datum in reversed(seen)
        ],
    }


def timestamp(at: float) -> str:
    """As CloudWatch writes times inside its JSON: `2026-01-31T12:00:00.000+0000`."""
    moment = datetime.fromtimestamp(round(at * 1000) / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def _short(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%d/%m/%y %H:%M:%S}"


def cadence(period: int) -> int:
    """Nominal seconds between two evaluations: each minute, of high resolution alarms each period."""
    return min(period, 60)
