"""Single rules of SNS's filter policies: is the rule one, and does a value fit it (`core.filter_policies` has the rest)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

EXISTS = "exists"
NUMBER_BOUND = 1_000_000_000
DIGITS = 5
"""After the decimal point: what numbers are compared by."""

Fits = Callable[[Any, Any], bool]


class BadPolicy(ValueError):
    """Not a filter policy; the message in AWS's words."""


def check_rule(rule: Any) -> None:
    """BadPolicy unless `rule` may stand in the list of a name."""
    if isinstance(rule, dict):
        if len(rule) != 1:
            raise BadPolicy("Only one key allowed in match expression")
        ((kind, wanted),) = rule.items()
        if kind not in _CHECKS:
            raise BadPolicy(f"Unrecognized match type {kind[:60]}")
        _CHECKS[kind](wanted)
    elif isinstance(rule, list):
        raise BadPolicy("Match value must be String, number, true, false, or null")
    elif _is_number(rule):
        _check_number(rule)


def fits(rule: Any, value: Any) -> bool:
    """Whether one value of a message is what a checked rule wants (`exists` is not asked of single values)."""
    if isinstance(rule, dict):
        ((kind, wanted),) = rule.items()
        return _FITS[kind](wanted, value)
    return _equal(rule, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    try:
        return round(float(value), DIGITS)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _equal(wanted: Any, value: Any) -> bool:
    if _is_number(wanted):
        return _is_number(value) and _number(wanted) == _number(value)
    return type(wanted) is type(value) and bool(wanted == value)


def _check_number(value: Any) -> None:
    if not -NUMBER_BOUND <= value <= NUMBER_BOUND:
        raise BadPolicy(f"Value of number must be between -{float(NUMBER_BOUND):.1E} and {float(NUMBER_BOUND):.1E}")


def _check_text(kind: str) -> Callable[[Any], None]:
    def check(wanted: Any) -> None:
        if not isinstance(wanted, str):
            raise BadPolicy(f"{kind} match pattern must be a string")

    return check


def _check_exists(wanted: Any) -> None:
    if not isinstance(wanted, bool):
        raise BadPolicy("exists match pattern must be either true or false.")


def _check_cidr(wanted: Any) -> None:
    try:
        ipaddress.ip_network(wanted if isinstance(wanted, str) else "", strict=False)
    except ValueError:
        raise BadPolicy("Malformed CIDR, one '/' required") from None


def _check_anything_but(wanted: Any) -> None:
    if isinstance(wanted, dict):
        if len(wanted) != 1 or not wanted.keys() <= _TEXT.keys():
            raise BadPolicy("Unsupported anything-but pattern: prefix, suffix and equals-ignore-case are there")
        ((kind, texts),) = wanted.items()
        for text in _listed(texts):
            _check_text(kind)(text)
        return
    if wanted == []:
        raise BadPolicy("Empty arrays are not allowed")
    for one in _listed(wanted):
        if _is_number(one):
            _check_number(one)
        elif not isinstance(one, str):
            raise BadPolicy("Inside anything-but list, start|null|boolean is not supported.")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


def _check_numeric(wanted: Any) -> None:
    if not isinstance(wanted, list):
        raise BadPolicy("Value of numeric must be an array.")
    if not wanted:
        raise BadPolicy("Invalid member in numeric match: ]")
    operators, bounds = wanted[::2], wanted[1::2]
    for operator in operators:
        if not isinstance(operator, str) or operator not in _COMPARE:
            raise BadPolicy(f"Unrecognized numeric range operator: {str(operator)[:20]}")
    if len(bounds) < len(operators) or not all(_is_number(bound) for bound in bounds):
        raise BadPolicy(f"Value of {operators[min(len(bounds), len(operators) - 1)]} must be numeric")
    for bound in bounds:
        _check_number(bound)
    if len(operators) == 1:
        return
    if len(operators) > 2 or operators[0] not in (">", ">="):
        raise BadPolicy("Too many elements in numeric expression")
    if operators[1] not in ("<", "<="):
        raise BadPolicy(f"Bad numeric range operator: {operators[1]}")
    if bounds[0] >= bounds[1]:
        raise BadPolicy("Bottom must be less than top")


def _numeric(wanted: Any, value: Any) -> bool:
    if not _is_number(value):
        return False
    number = _number(value)
    return all(_COMPARE[operator](number, _number(bound)) for operator, bound in zip(wanted[::2], wanted[1::2], strict=True))


def _cidr(wanted: Any, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


_TEXT: Mapping[str, Callable[[str, str], bool]] = {
    "prefix": lambda wanted, value: value.startswith(wanted),
    "suffix": lambda wanted, value: value.endswith(wanted),
    "equals-ignore-case": lambda wanted, value: value.casefold() == wanted.casefold(),
}


def _text(kind: str) -> Fits:
    compare = _TEXT[kind]
    return lambda wanted, value: isinstance(value, str) and compare(wanted, value)


def _anything_but(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, dict):
        ((kind, texts),) = wanted.items()
        return isinstance(value, str) and not any(_TEXT[kind](text, value) for text in _listed(texts))
    return not any(_equal(one, value) for one in _listed(wanted))


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "anything-but": _check_anything_but,
    "cidr": _check_cidr,
    "exists": _check_exists,
    "numeric": _check_numeric,
    **{kind: _check_text(kind) for kind in _TEXT},
}
_FITS: Mapping[str, Fits] = {
    "anything-but": _anything_but,
    "cidr": _cidr,
    "numeric": _numeric,
    **{kind: _text(kind) for kind in _TEXT},
}
