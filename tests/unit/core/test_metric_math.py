"""Expressions: AWS's functions and operators, what they do with missing points, and what is refused."""

from __future__ import annotations

import pytest

from slipway.core.metric_math import Grid, MathError, Series, evaluate_all, names_in, result_of

GRID = Grid([0.0, 60.0, 120.0, 180.0, 240.0], 60)


def series(*values: float | None, label: str = "") -> Series:
    pairs = zip(GRID.times, values, strict=False)
    return Series({at: value for at, value in pairs if value is not None}, 60, label)


SERIES = {
    "a": series(1.0, 2.0, None, 4.0, 5.0, label="A"),
    "b": series(10.0, None, 30.0, 40.0, 0.0, label="B"),
    "n": series(-1.5, 2.5, -3.5, 0.0, 9.0),
    "empty": series(),
}


def values(expression: str) -> list[float | None]:
    found = result_of(SERIES, {"e": expression}, "e", lambda ident: GRID)
    return [found.points.get(at) for at in GRID.times]


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("a", [1, 2, None, 4, 5]),
        ("a + b", [11, None, None, 44, 5]),
        ("a * 2 - 1", [1, 3, None, 7, 9]),
        ("2 - a", [1, 0, None, -2, -3]),
        ("a / b", [0.1, None, None, 0.1, None]),
        ("a ^ 2", [1, 4, None, 16, 25]),
        ("-a ^ 2", [-1, -4, None, -16, -25]),
        ("2 ^ 3 ^ 2 + a * 0", [512, 512, None, 512, 512]),
        ("(a + 1) * 2", [4, 6, None, 10, 12]),
        ("a > 2", [0, 0, None, 1, 1]),
        ("a >= 2 AND a < 5", [0, 1, None, 1, 0]),
        ("a == 1 || a == 5", [1, 0, None, 0, 1]),
        ("a != 4 && b", [1, None, None, 0, 0]),
        ("ABS(n)", [1.5, 2.5, 3.5, 0, 9]),
        ("CEIL(n)", [-1, 3, -3, 0, 9]),
        ("FLOOR(n)", [-2, 2, -4, 0, 9]),
        ("LOG10(b)", [1, None, pytest.approx(1.4771, abs=1e-3), pytest.approx(1.602, abs=1e-3), None]),
        ("FILL(a, 0)", [1, 2, 0, 4, 5]),
        ("FILL(a, b)", [1, 2, 30, 4, 5]),
        ("FILL(a, REPEAT)", [1, 2, 2, 4, 5]),
        ("FILL(a, LINEAR)", [1, 2, 3, 4, 5]),
        ("FILL(empty, 7)", [7, 7, 7, 7, 7]),
        ("FILL(empty, REPEAT)", [None] * 5),
        ("SUM([a, b])", [11, 2, 30, 44, 5]),
        ("SUM(METRICS())", [9.5, 4.5, 26.5, 44, 14]),
        ("SUM(METRICS('a'))", [1, 2, None, 4, 5]),
        ("AVG([a, b])", [5.5, 2, 30, 22, 2.5]),
        ("MAX([a, b])", [10, 2, 30, 40, 5]),
        ("MIN([a, 3])", [1, 2, 3, 3, 3]),
        ("MAX(a, 3)", [3, 3, None, 4, 5]),
        ("a - AVG(a)", [-2, -1, None, 1, 2]),
        ("a / SUM(a) * 12", [1, 2, None, 4, 5]),
        ("a * 0 + MIN(b) + MAX(b)", [40, 40, None, 40, 40]),
        ("STDDEV(b) * 0 + a", [1, 2, None, 4, 5]),
        ("a * DATAPOINT_COUNT(b)", [4, 8, None, 16, 20]),
        ("a * METRIC_COUNT([a, b])", [2, 4, None, 8, 10]),
        ("IF(a > 2, a, 0)", [0, 0, None, 4, 5]),
        ("IF(a > 2, b)", [None, None, None, 40, 0]),
        ("IF(1, a, b)", [1, 2, None, 4, 5]),
        ("IF(FILL(a, 0), 1, 2)", [1, 1, 2, 1, 1]),
        ("a / PERIOD(a)", [1 / 60, 2 / 60, None, 4 / 60, 5 / 60]),
        ("DIFF(a)", [None, 1, None, 2, 1]),
        ("DIFF_TIME(a)", [None, 60, None, 120, 60]),
        ("RATE(a) * 60", [None, 1, None, 1, 1]),
        ("RUNNING_SUM(a)", [1, 3, None, 7, 12]),
        ("TIME_SERIES(3)", [3, 3, 3, 3, 3]),
        ("FIRST([a, b])", [1, 2, None, 4, 5]),
        ("LAST(METRICS('b'))", [10, None, 30, 40, 0]),
        ("MINUTE(a)", [0, 1, None, 3, 4]),
        ("sum([a, b])", [11, 2, 30, 44, 5]),
        ("1.5e1 * a", [15, 30, None, 60, 75]),
    ],
)
def test_expressions(expression: str, result: list[float | None]) -> None:
    assert values(expression) == result


def test_lists_give_a_series_for_each_member() -> None:
    found = evaluate_all(SERIES, {"e": "FILL(METRICS(), 0) * 2"}, ["e"], lambda ident: GRID)["e"]
    assert [list(one.points.values()) for one in found[:2]] == [[2, 4, 0, 8, 10], [20, 0, 60, 80, 0]]
    assert [one.label for one in found[:2]] == ["A", "B"]
    assert len(evaluate_all(SERIES, {"e": "REMOVE_EMPTY(METRICS())"}, ["e"], lambda ident: GRID)["e"]) == 3
    two = evaluate_all(SERIES, {"e": "[a, b] / [b, a]"}, ["e"], lambda ident: GRID)["e"]
    assert [one.points[0.0] for one in two] == [0.1, 10.0]


def test_expressions_use_expressions() -> None:
    expressions = {"e1": "a + 1", "e2": "e1 * e1", "e3": "SUM([e1, e2])"}
    assert list(result_of(SERIES, expressions, "e3", lambda ident: GRID).points.values()) == [6, 12, 30, 42]


def test_the_time_scale_does_not_change_rates() -> None:
    grid = Grid([0.0, 1.0, 2.0], 60, 60.0)
    given = {"m": Series({0.0: 0.0, 1.0: 60.0, 2.0: 180.0}, 60)}
    for expression, result in (("RATE(m)", [1.0, 2.0]), ("DIFF_TIME(m)", [60.0, 60.0])):
        assert list(result_of(given, {"e": expression}, "e", lambda ident: grid).points.values()) == result


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("a +", "Unexpected end"),
        ("a + )", "Unexpected '\\)'"),
        ("(a", "Expected '\\)' at the end"),
        ("a b", "Unexpected 'b'"),
        ("a ; b", "Unexpected ';'"),
        ("c + 1", "Unknown identifier: c"),
        ("SEARCH('x')", "SEARCH is not supported"),
        ("ANOMALY_DETECTION_BAND(a)", "ANOMALY_DETECTION_BAND is not supported"),
        ("FILL(a)", "takes 2 arguments"),
        ("SUM(a, b)", "takes 1 arguments"),
        ("FILL(1, 0)", "takes a time series"),
        ("PERIOD(1)", "PERIOD takes a time series"),
        ("FIRST(a)", "take a list"),
        ("IF([a], 1, 2)", "single time series"),
        ("SUM(a)", "must give a time series"),
        ("1 + 1", "must give a time series"),
        ("'text' + a", "only as the argument of METRICS"),
        ("[a, b] + [a]", "one length"),
        ("METRICS()", "one time series"),
        ("e + 1", "Circular reference in expression: e -> e"),
        ("", "Unexpected end"),
    ],
)
def test_what_cannot_be_evaluated_says_why(expression: str, words: str) -> None:
    with pytest.raises(MathError, match=words):
        values(expression)


@pytest.mark.parametrize("expression", ["(" * 500 + "a", "-" * 2000 + "a", "[" * 900, "a+" * 1500 + "a", "2^" * 1000 + "a"])
def test_depth_and_length_are_bounded(expression: str) -> None:
    with pytest.raises(MathError, match=r"nested too deeply|longer than"):
        values(expression)


def test_a_long_expression_is_evaluated() -> None:
    expression = "+".join(["a"] * 1000)
    assert values(expression) == [value and 1000.0 * value for value in values("a")]


def test_expressions_of_expressions_without_end_are_refused() -> None:
    expressions = {f"e{n}": f"e{n - 1} + a" for n in range(1, 500)} | {"e0": "a + a"}
    with pytest.raises(MathError, match="of too many expressions"):
        result_of(SERIES, expressions, "e499", lambda ident: GRID)
    assert result_of(SERIES, expressions, "e50", lambda ident: GRID).points


def test_work_is_bounded() -> None:
    grid = Grid([float(n) for n in range(100_000)], 1)
    long = {f"m{n}": Series(dict.fromkeys(grid.times, 1.0), 1) for n in range(3)}
    with pytest.raises(MathError, match="too many computations"):
        result_of(long, {"e": "+".join(["SUM(METRICS())"] * 100)}, "e", lambda ident: grid)


def test_names_are_found_without_evaluating() -> None:
    assert names_in("IF(a > 1, FILL(b, LINEAR), SUM([c, METRICS('x')]))") == ({"a", "b", "c"}, {"IF", "FILL", "SUM", "METRICS"})
    with pytest.raises(MathError, match="NOPE is not supported"):
        names_in("NOPE(a)")
