"""Alarms: AWS's own tables of missing data, comparisons, reasons."""

from __future__ import annotations

import pytest

from slipway.core.alarms import ALARM, COMPARISONS, INSUFFICIENT, OK, Condition, Datum, Verdict, cadence, condition_of, evaluate

MISSING = ("missing", "ignore", "breaching", "notBreaching")
KEEPS = None


def condition(m: int = 3, n: int = 3, missing: str = "missing", **more: object) -> Condition:
    given: dict[str, object] = {
        "comparison": "GreaterThanThreshold",
        "threshold": 5.0,
        "evaluation_periods": n,
        "datapoints": m,
        "period": 60,
        "missing": missing,
        "statistic": "Average",
        **more,
    }
    return Condition(**given)  # type: ignore[arg-type]


def window(text: str) -> list[Datum | None]:
    """`0` does not breach, `X` does, `-` is missing; the newest last."""
    values = {"0": 1.0, "X": 9.0}
    return [Datum(60.0 * at, values[mark]) if mark in values else None for at, mark in enumerate(text.split())]


# The user guide's tables ("How alarm state is evaluated when data is missing"): missing, ignore, breaching, notBreaching.
TABLE_3_OF_3 = [
    ("0 - X - X", (OK, OK, OK, OK)),
    ("0 - - - -", (OK, OK, OK, OK)),
    ("- - - - -", (INSUFFICIENT, KEEPS, ALARM, OK)),
    ("0 X X - X", (ALARM, ALARM, ALARM, ALARM)),
    ("- - X - -", (ALARM, KEEPS, ALARM, OK)),
]
TABLE_2_OF_3 = [
    ("0 - X - X", (ALARM, ALARM, ALARM, ALARM)),
    ("0 0 X 0 X", (ALARM, ALARM, ALARM, ALARM)),
    ("0 - X - -", (OK, OK, ALARM, OK)),
    ("- - - - 0", (OK, OK, ALARM, OK)),
    ("- - - X -", (ALARM, KEEPS, ALARM, OK)),
]
# "Avoiding premature transitions to alarm state", of the same guide.
PREMATURE = [("- - - - X", KEEPS), ("- - - X -", KEEPS), ("- - - X 0", OK), ("- - X - 0", OK), ("- - X - -", ALARM)]


@pytest.mark.parametrize(("m", "marks", "states"), [*((3, *row) for row in TABLE_3_OF_3), *((2, *row) for row in TABLE_2_OF_3)])
@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("before", [OK, ALARM, INSUFFICIENT])
def test_the_tables_of_the_user_guide(m: int, marks: str, states: tuple[str | None, ...], column: int, before: str) -> None:
    verdict = evaluate(condition(m, missing=MISSING[column]), window(marks), before, 1000.0)
    assert (verdict.state if verdict else KEEPS) == states[column]


@pytest.mark.parametrize(("marks", "state"), PREMATURE)
def test_no_premature_alarm(marks: str, state: str | None) -> None:
    verdict = evaluate(condition(), window(marks), OK, 1000.0)
    assert (verdict.state if verdict else KEEPS) == state


@pytest.mark.parametrize(
    ("comparison", "breaching"),
    list(zip(COMPARISONS, ({5.0, 6.0}, {6.0}, {4.0}, {4.0, 5.0}), strict=True)),
)
def test_comparisons(comparison: str, breaching: set[float]) -> None:
    for value in (4.0, 5.0, 6.0):
        verdict = evaluate(condition(1, 1, comparison=comparison), [None, None, Datum(0.0, value)], OK, 0.0)
        assert verdict is not None
        assert (verdict.state == ALARM) == (value in breaching)


def reason(marks: str, m: int, n: int, missing: str = "missing", before: str = OK, **more: object) -> Verdict:
    verdict = evaluate(condition(m, n, missing, **more), window(marks), before, 1_700_000_000.0)
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            reason("- - X", 1, 1),
            "Threshold Crossed: 1 out of the last 1 datapoints [9.0 (01/01/70 00:02:00)] was greater than the threshold (5.0) "
            "(minimum 1 datapoint for OK -> ALARM transition).",
        ),
        (
            reason("0 X 0 X X", 2, 3),
            "Threshold Crossed: 2 out of the last 3 datapoints [9.0 (01/01/70 00:04:00), 9.0 (01/01/70 00:03:00)] were greater "
            "than the threshold (5.0) (minimum 2 datapoints for OK -> ALARM transition).",
        ),
        (
            reason("- - 0", 1, 1, before=ALARM),
            "Threshold Crossed: 1 out of the last 1 datapoints [1.0 (01/01/70 00:02:00)] was not greater than the threshold "
            "(5.0) (minimum 1 datapoint for ALARM -> OK transition).",
        ),
        (reason("- - -", 1, 1), "Insufficient Data: 1 datapoint was unknown."),
        (reason("- - - - -", 3, 3), "Insufficient Data: 3 datapoints were unknown."),
        (
            reason("- - - - -", 3, 3, "breaching"),
            "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as "
            "[Breaching].",
        ),
        (
            reason("- - -", 1, 1, "notBreaching", before=ALARM),
            "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as "
            "[NonBreaching].",
        ),
    ],
)
def test_reasons(verdict: Verdict, words: str) -> None:
    assert verdict.reason == words


def test_the_data_of_a_reason() -> None:
    assert reason("0 0 X 0 X", 2, 3, unit="Count").data == {
        "version": "1.0",
        "queryDate": "2023-11-14T22:13:20.000+0000",
        "startDate": "1970-01-01T00:02:00.000+0000",
        "unit": "Count",
        "statistic": "Average",
        "period": 60,
        "recentDatapoints": [9.0, 1.0, 9.0],
        "threshold": 5.0,
        "evaluatedDatapoints": [
            {"timestamp": "1970-01-01T00:04:00.000+0000", "sampleCount": 1.0, "value": 9.0},
            {"timestamp": "1970-01-01T00:03:00.000+0000", "sampleCount": 1.0, "value": 1.0},
            {"timestamp": "1970-01-01T00:02:00.000+0000", "sampleCount": 1.0, "value": 9.0},
        ],
    }


@pytest.mark.parametrize(("statistic", "needed"), [("p99", 1000), ("p50", 20), ("p10", 100)])
def test_percentiles_of_few_samples_may_be_ignored(statistic: str, needed: int) -> None:
    for samples in (needed - 1, needed + 1):
        few = [None, None, Datum(0.0, 9.0, float(max(samples, 1)))]
        ignoring = evaluate(condition(1, 1, statistic=statistic, low_samples="ignore"), few, OK, 0.0)
        assert (ignoring is None) == (samples < needed)
        for judged in (condition(1, 1, statistic=statistic), condition(1, 1, low_samples="ignore")):
            assert evaluate(judged, few, OK, 0.0) is not None


def test_conditions_from_what_was_put() -> None:
    spec = {"ComparisonOperator": "LessThanThreshold", "Threshold": 1, "EvaluationPeriods": 4}
    found = condition_of({**spec, "Period": 300, "Statistic": "Sum"})
    assert (found.datapoints, found.period, found.missing, found.statistic, found.range) == (4, 300, "missing", "Sum", 6)
    metrics = [{"Id": "e", "Expression": "m"}, {"Id": "m", "MetricStat": {"Period": 120}}]
    assert condition_of({**spec, "Metrics": metrics}).period == 120
    assert [cadence(period) for period in (10, 20, 60, 300)] == [10, 20, 60, 60]
