"""Metric math: expressions over time series, as GetMetricData and alarms evaluate them.

Pure. Numbers, time series and lists of series combine as AWS's user guide says ("Using math expressions with CloudWatch
metrics"): two series meet at the timestamps that both have, a number meets every point, a list is combined member by member.
Comparisons give 1 and 0. Functions are in `core.metric_math_functions`; one that is not there is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slipway.core import metric_math_functions as functions
from slipway.core.metric_math_syntax import Array, Binary, Call, MathError, Name, Negative, Node, Number, Text, parse
from slipway.core.metric_math_values import BUDGET, Grid, Series, Value, Work, binary

__all__ = ["Grid", "MathError", "Series", "evaluate_all", "names_in", "result_of"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """What an expression can speak of: the metrics themselves and the other expressions, by id."""

    series: Mapping[str, Series]
    expressions: Mapping[str, str]


class _Evaluation:
    def __init__(self, given: Metrics, grids: Callable[[str], Grid], work: Work) -> None:
        self._given = given
        self._grids = grids
        self._work = work
        self._known: dict[str, Value] = dict(given.series)
        self._open: list[str] = []

    def of(self, ident: str) -> Value:
        """The value of a metric or an expression, by its id."""
        if ident in self._known:
            return self._known[ident]
        if ident in self._open:
            raise MathError(f"Circular reference in expression: {' -> '.join([*self._open, ident])}")
        self._open.append(ident)
        grid = self._grids(ident)
        value = self._value(parse(self._given.expressions[ident]), grid)
        self._open.pop()
        self._known[ident] = value
        return value

    def _value(self, node: Node, grid: Grid) -> Value:
        match node:
            case Number(value):
                return value
            case Text(_):
                raise MathError("A text is understood only as the argument of METRICS")
            case Name(ident):
                if ident not in self._given.series and ident not in self._given.expressions:
                    raise MathError(f"Unknown identifier: {ident}")
                return self.of(ident)
            case Negative(operand):
                return binary("-", 0.0, self._value(operand, grid), self._work)
            case Binary():
                return self._chain(node, grid)
            case Array(members):
                return self._array(members, grid)
            case Call(name, arguments):
                return self._call(name, arguments, grid)

    def _chain(self, node: Binary, grid: Grid) -> Value:
        """Operators one after the other are a tree that is deep on its left: `a + b + c …` may have a thousand."""
        chain: list[Binary] = []
        first: Node = node
        while isinstance(first, Binary):
            chain.append(first)
            first = first.left
        found = self._value(first, grid)
        for each in reversed(chain):
            found = binary(each.operator, found, self._value(each.right, grid), self._work)
        return found

    def _array(self, members: Sequence[Node], grid: Grid) -> Value:
        found: list[Series] = []
        for member in members:
            value = self._value(member, grid)
            if isinstance(value, float):
                found.append(Series(dict.fromkeys(grid.times, value), grid.period))
                self._work.spend(len(grid.times))
            else:
                found += value if isinstance(value, list) else [value]
        return found

    def _call(self, name: str, arguments: Sequence[Node], grid: Grid) -> Value:
        if name == "METRICS":
            wanted = ""
            if arguments:
                if len(arguments) != 1 or not isinstance(arguments[0], Text):
                    raise MathError("METRICS takes no argument, or one text")
                wanted = arguments[0].text
            return [series for ident, series in self._given.series.items() if wanted in ident]
        if (
            name == "FILL"
            and len(arguments) == 2
            and isinstance(arguments[1], Name)
            and arguments[1].ident in functions.FILLINGS
        ):
            return functions.fill(self._value(arguments[0], grid), arguments[1].ident, grid, self._work)
        functions.check(name, len(arguments))
        return functions.call(name, [self._value(argument, grid) for argument in arguments], grid, self._work)


def evaluate_all(
    series: Mapping[str, Series], expressions: Mapping[str, str], wanted: Sequence[str], grids: Callable[[str], Grid]
) -> dict[str, list[Series]]:
    """The time series of each wanted id. `grids` says of an expression's id which periods it is evaluated for.

    Raises MathError: what is wrong with which expression, in words for the caller.
    """
    evaluation = _Evaluation(Metrics(series, expressions), grids, Work(BUDGET))
    found: dict[str, list[Series]] = {}
    for ident in wanted:
        try:
            value = evaluation.of(ident)
        except MathError as error:
            raise MathError(f"Error in expression '{ident}': {error}") from None
        except RecursionError:
            raise MathError(f"Error in expression '{ident}': It is of too many expressions, one of another") from None
        if isinstance(value, float):
            raise MathError(f"Error in expression '{ident}': The expression must give a time series, this one gives a number")
        found[ident] = value if isinstance(value, list) else [value]
    return found


def result_of(
    series: Mapping[str, Series], expressions: Mapping[str, str], wanted: str, grids: Callable[[str], Grid]
) -> Series:
    """The one time series of an alarm's expression. Raises MathError."""
    found = evaluate_all(series, expressions, [wanted], grids)[wanted]
    if len(found) != 1:
        raise MathError(
            f"Error in expression '{wanted}': An alarm's expression must give one time series, this one gives {len(found)}"
        )
    return found[0]


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The ids and the functions that an expression names. Raises MathError: unreadable, unknown function."""
    idents: set[str] = set()
    called: set[str] = set()
    todo: list[Node] = [parse(expression)]
    while todo:
        match todo.pop():
            case Name(ident):
                idents.add(ident)
            case Negative(operand):
                todo.append(operand)
            case Binary(_, left, right):
                todo += (left, right)
            case Array(members):
                todo += members
            case Call(name, arguments):
                functions.check(name, len(arguments))
                called.add(name)
                is_fill = name == "FILL" and isinstance(arguments[-1], Name) and arguments[-1].ident in functions.FILLINGS
                todo += arguments[:-1] if is_fill else arguments
            case _:
                pass
    return idents, called
