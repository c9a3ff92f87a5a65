"""SNS's filter policies: whether a subscription wants a message, from its attributes or from its body.

A policy is JSON: names with lists of wanted values or of rules such as `{"prefix": "a"}`; every name must match (and one branch
of a `$or`), by any one value of the message. AWS: "Amazon SNS subscription filter policies" and the pages below it.
`core.filter_rules` has the single rules. Pure; what a message may cost is bounded by `Work`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipway.core.filter_rules import EXISTS, BadPolicy, check_rule, fits

__all__ = ["BadPolicy", "Scope", "TooMuchWork", "Work", "attribute_values", "check", "matches", "parse", "parse_body"]

Scope = Literal["MessageAttributes", "MessageBody"]
POLICY_BYTES = 262_144
KEYS = 5
"""Names at the top of a policy."""
COMBINATIONS = 150
"""Values of all names multiplied; in a nested policy each name counts its values times its depth."""
CHARACTERS = 100
"""Of a value, that are compared as one comparison."""
_OR = "$or"
_OPERATORS = frozenset(
    {"anything-but", "cidr", "equals-ignore-case", "exists", "numeric", "prefix", "suffix", "wildcard", "$or"}
)


class TooMuchWork(Exception):
    """Publishing the message would hold up everything else; says why, to follow "The message …"."""


@dataclass(slots=True)
class Work:
    """How many comparisons (of a hundred characters each) one message may still cost: no message may hold up the others."""

    left: int = 500_000

    def spend(self, comparisons: int) -> None:
        self.left -= comparisons
        if self.left < 0:
            raise TooMuchWork("has too many values for the filter policies of this topic")


def parse(text: str) -> dict[str, Any]:
    """The policy that `text` holds, not checked yet; BadPolicy when it is no JSON object."""
    if len(text.encode()) > POLICY_BYTES:
        raise BadPolicy(f"Filter policy is larger than {POLICY_BYTES} bytes")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadPolicy("failed to parse JSON.") from None
    if not isinstance(found, dict):
        raise BadPolicy("Filter must be an object")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(word)


def check(policy: Mapping[str, Any], scope: Scope) -> None:
    """BadPolicy, in AWS's words, unless the policy is one that AWS takes in this scope."""
    if sum(len(branch) if name == _OR and isinstance(branch, list) else 1 for name, branch in policy.items()) > KEYS:
        raise BadPolicy("Filter policy can not have more than 5 keys")
    if _check(policy, scope, 1) > COMBINATIONS:
        raise BadPolicy("Filter policy is too complex")


def _check(policy: Mapping[str, Any], scope: Scope, depth: int) -> int:
    """Combinations of an object at this depth."""
    if depth > COMBINATIONS:
        raise BadPolicy("Filter policy is too complex")
    total = 1
    for name, wanted in policy.items():
        if _is_or(name, wanted):
            total *= sum(_check(branch, scope, depth) for branch in wanted)
        elif isinstance(wanted, dict):
            if scope == "MessageAttributes":
                raise BadPolicy("Filter policy scope MessageAttributes does not support nested filter policy")
            if not wanted:
                raise BadPolicy("Empty objects are not allowed")
            total *= _check(wanted, scope, depth + 1)
        elif isinstance(wanted, list):
            if not wanted:
                raise BadPolicy("Empty arrays are not allowed")
            for rule in wanted:
                check_rule(rule)
            total *= len(wanted) * (depth if scope == "MessageBody" else 1)
        else:
            raise BadPolicy(f'"{name}" must be an object or an array')
        if total > COMBINATIONS:
            raise BadPolicy("Filter policy is too complex")
    return total


def _is_or(name: str, wanted: object) -> bool:
    """As EventBridge and SNS tell it from a field of that name: two objects or more, none of which looks like a rule."""
    return (
        name == _OR
        and isinstance(wanted, list)
        and len(wanted) > 1
        and all(isinstance(branch, dict) and branch and not _OPERATORS & branch.keys() for branch in wanted)
    )


def attribute_values(attributes: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Message attributes (type and text by name) as the values that a policy is compared with; binary ones do not count."""
    return {name: _value(type_, text) for name, (type_, text) in attributes.items() if not type_.startswith("Binary")}


def _value(type_: str, text: str) -> Any:
    base = type_.partition(".")[0]
    try:
        if type_ == "String.Array":
            found = json.loads(text)
            return found if isinstance(found, list) else text
        return float(text) if base == "Number" else text
    except (ValueError, RecursionError):
        return text


def parse_body(text: str) -> Any:
    """The message as JSON, or None, which no policy matches."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def matches(policy: Mapping[str, Any], values: object, work: Work) -> bool:
    """Whether a checked policy wants a message. `values`: `attribute_values(…)` or `parse_body(…)`. TooMuchWork.

    Nothing is wanted of a message that has no attributes, or whose body is no object: a policy asks for something.
    """
    return isinstance(values, dict) and (bool(values) or not policy) and _object(policy, values, work)


def _object(policy: Mapping[str, Any], values: Mapping[str, Any], work: Work) -> bool:
    for name, wanted in policy.items():
        if _is_or(name, wanted):
            if not any(_object(branch, values, work) for branch in wanted):
                return False
        elif isinstance(wanted, dict):
            below = [value for value in _flat(values.get(name)) if isinstance(value, dict)] or [{}]
            work.spend(len(below))
            if not any(_object(wanted, value, work) for value in below):
                return False
        elif not _leaf(wanted, name in values, values.get(name), work):
            return False
    return True


def _leaf(rules: Sequence[Any], present: bool, value: Any, work: Work) -> bool:
    found = [value for value in _flat(value) if not isinstance(value, dict)] if present else []
    work.spend(len(rules) * (len(found) + sum(len(one) for one in found if isinstance(one, str)) // CHARACTERS + 1))
    for rule in rules:
        if isinstance(rule, dict) and EXISTS in rule:
            if rule[EXISTS] and any(one is not None and one != "" for one in found):
                return True
            if not rule[EXISTS] and not found:
                return True
        elif any(fits(rule, one) for one in found):
            return True
    return False


def _flat(value: Any) -> Iterator[Any]:
    """The value, or all values of a list and of the lists in it."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, list):
            stack += top
        else:
            yield top
