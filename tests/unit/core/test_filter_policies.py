"""Filter policies: what AWS's pages show, and what its limits refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.filter_policies import (
    BadPolicy,
    TooMuchWork,
    Work,
    attribute_values,
    check,
    matches,
    parse,
    parse_body,
)

EXAMPLE = {
    "customer_interests": ("String.Array", '["soccer", "rugby", "hockey"]'),
    "store": ("String", "example_corp"),
    "event": ("String", "order_placed"),
    "price_usd": ("Number", "210.75"),
    "encrypted": ("Binary", "AAAA"),
}
"""The message of AWS's page "Amazon SNS subscription filter policies"."""


def wants(policy: dict[str, Any], attributes: dict[str, tuple[str, str]]) -> bool:
    check(policy, "MessageAttributes")
    return matches(policy, attribute_values(attributes), Work())


def wants_body(policy: dict[str, Any], body: Any) -> bool:
    check(policy, "MessageBody")
    return matches(policy, parse_body(body if isinstance(body, str) else json.dumps(body)), Work())


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            {
                "store": ["example_corp"],
                "event": [{"anything-but": "order_cancelled"}],
                "customer_interests": ["rugby", "football", "baseball"],
                "price_usd": [{"numeric": [">=", 100]}],
            },
            True,
        ),
        (
            {
                "store": ["example_corp"],
                "event": ["order_cancelled"],
                "encrypted": [False],
                "customer_interests": ["basketball", "baseball"],
            },
            False,
        ),
        ({"encrypted": [{"exists": True}]}, False),
        ({"encrypted": [{"exists": False}]}, True),
        ({}, True),
        ({"store": ["Example_Corp"]}, False),
        ({"other": [{"anything-but": ["x"]}]}, False),
    ],
)
def test_the_pages_message(policy: dict[str, Any], expected: bool) -> None:
    assert wants(policy, EXAMPLE) is expected


STRING = "String"
ARRAY = "String.Array"

RULES: list[tuple[list[Any], list[tuple[str, str]], list[tuple[str, str]]]] = [
    (
        ["rugby", "tennis"],
        [(STRING, "rugby"), (STRING, "tennis"), (ARRAY, '["rugby", "tennis"]')],
        [(STRING, "baseball"), (ARRAY, '["baseball"]')],
    ),
    (
        [{"anything-but": ["rugby", "tennis"]}],
        [(STRING, "baseball"), (STRING, "football"), (ARRAY, '["rugby", "baseball"]')],
        [(STRING, "rugby"), (ARRAY, '["rugby"]')],
    ),
    ([{"anything-but": {"prefix": "order-"}}], [(STRING, "data-entry")], [(STRING, "order-cancelled")]),
    ([{"anything-but": {"prefix": ["order-", "pay"]}}], [(STRING, "data-entry")], [(STRING, "payment")]),
    ([{"anything-but": {"suffix": "ball"}}], [(STRING, "rugby")], [(STRING, "football")]),
    ([{"anything-but": {"equals-ignore-case": "Tennis"}}], [(STRING, "rugby")], [(STRING, "TENNIS")]),
    (
        [{"equals-ignore-case": "tennis"}],
        [(STRING, "TENNIS"), (STRING, "Tennis"), (ARRAY, '["x", "tENNIS"]')],
        [(STRING, "rugby")],
    ),
    ([{"prefix": "bas"}], [(STRING, "baseball"), (STRING, "basketball")], [(STRING, "rugby"), (ARRAY, "[1, null]")]),
    ([{"suffix": "ball"}], [(STRING, "baseball"), (ARRAY, '["x", "basketball"]')], [(STRING, "rugby")]),
    ([{"cidr": "10.0.0.0/24"}], [(STRING, "10.0.0.0"), (STRING, "10.0.0.255")], [(STRING, "10.1.1.0"), (STRING, "x")]),
    ([{"cidr": "2001:db8::/32"}], [(STRING, "2001:db8::1")], [(STRING, "10.0.0.1")]),
    ([{"numeric": ["=", 301.5]}], [("Number", "301.5"), ("Number", "3.015e2")], [("Number", "301"), (STRING, "301.5")]),
    ([301.5], [("Number", "301.50")], [(STRING, "301.5"), ("Number", "301.51")]),
    ([{"anything-but": [100, 500]}], [("Number", "101"), ("Number", "500.1")], [("Number", "100"), ("Number", "500")]),
    ([{"numeric": ["<", 0]}], [("Number", "-1")], [("Number", "0")]),
    ([{"numeric": [">", 0, "<=", 150]}], [("Number", "150"), ("Number", "0.1")], [("Number", "0"), ("Number", "151")]),
    ([{"numeric": ["=", 1.000001]}], [("Number", "1.000002")], [("Number", "1.0001")]),
    ([True, None], [(ARRAY, "[true]"), (ARRAY, "[null]")], [(ARRAY, "[false, 1]"), (STRING, "true")]),
    ([{"exists": True}], [(STRING, "x"), (ARRAY, '["", "x"]')], [(ARRAY, "[]"), (ARRAY, "[null]"), (STRING, "")]),
    ([{"prefix": "a"}, {"numeric": ["=", 5]}, "x"], [(STRING, "abc"), ("Number", "5"), (STRING, "x")], [(STRING, "5")]),
    (["no array"], [(ARRAY, "no array")], [(ARRAY, '"no array"')]),
]


@pytest.mark.parametrize(("rules", "good", "bad"), RULES, ids=[json.dumps(rules) for rules, _, _ in RULES])
def test_rules(rules: list[Any], good: list[tuple[str, str]], bad: list[tuple[str, str]]) -> None:
    for value in good:
        assert wants({"key": rules}, {"key": value}), value
    for value in bad:
        assert not wants({"key": rules}, {"key": value}), value


def test_exists_false_wants_a_message_that_has_something_else() -> None:
    policy = {"store": [{"exists": False}]}
    assert wants(policy, {"other": (STRING, "x")})
    assert not wants(policy, {"store": (STRING, "x")})
    assert not wants(policy, {})


def test_or() -> None:
    policy = {
        "source": ["aws.cloudwatch"],
        "$or": [{"metricName": ["CPUUtilization"]}, {"namespace": ["AWS/EC2", "AWS/ES"], "kind": [{"exists": True}]}],
    }
    source = {"source": (STRING, "aws.cloudwatch")}
    assert wants(policy, {**source, "metricName": (STRING, "CPUUtilization")})
    assert wants(policy, {**source, "namespace": (STRING, "AWS/ES"), "kind": (STRING, "x")})
    assert not wants(policy, {**source, "namespace": (STRING, "AWS/ES")})
    assert not wants(policy, {"metricName": (STRING, "CPUUtilization")})
    assert wants({"$or": ["a"]}, {"$or": (STRING, "a")}), "a field may have that name"


@pytest.mark.parametrize(
    ("policy", "body", "expected"),
    [
        ({"store": ["example_corp"], "price": [{"numeric": [">", 1]}]}, {"store": "example_corp", "price": 2}, True),
        ({"person": {"name": ["Ann"]}}, {"person": {"name": "Ann", "age": 3}}, True),
        ({"person": {"name": ["Ann"]}}, {"person": "Ann"}, False),
        ({"person": {"name": [{"exists": False}]}}, {"person": {"age": 3}}, True),
        ({"person": {"name": [{"exists": False}]}}, {"other": 1}, True),
        ({"person": [{"exists": True}]}, {"person": {"name": "Ann"}}, False),
        ({"tags": ["b"]}, {"tags": ["a", ["b"]]}, True),
        ({"list": {"a": [1], "b": [2]}}, {"list": [{"a": 1, "b": 2}]}, True),
        ({"list": {"a": [1], "b": [2]}}, {"list": [{"a": 1}, {"b": 2}]}, False),
        ({"ok": [True]}, {"ok": True}, True),
        ({"ok": [True]}, {"ok": 1}, False),
        ({"ok": [1]}, {"ok": True}, False),
        ({"x": [None]}, {"x": None}, True),
        ({"x": [{"anything-but": [1]}]}, {"x": None}, True),
        ({"x": ["a"]}, "no json", False),
        ({"x": ["a"]}, "[]", False),
        ({"x": ["a"]}, "[" * 100_000, False),
        ({"x": [5]}, '{"x": 1' + "0" * 4000 + "}", False),
        ({"x": [{"exists": True}]}, '{"x": NaN}', True),
        ({}, {"x": 1}, True),
    ],
)
def test_bodies(policy: dict[str, Any], body: Any, expected: bool) -> None:
    assert wants_body(policy, body) is expected


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"a": "x"}, "must be an object or an array"),
        ({"a": []}, "Empty arrays are not allowed"),
        ({"a": [[1]]}, "Match value must be String, number, true, false, or null"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, "Only one key allowed"),
        ({"a": [{}]}, "Only one key allowed"),
        ({"a": [{"wildcard": "x*"}]}, "Unrecognized match type wildcard"),
        ({"a": [{"prefix": 1}]}, "prefix match pattern must be a string"),
        ({"a": [{"exists": "yes"}]}, "exists match pattern must be either true or false"),
        ({"a": [{"cidr": "10.0.0.0/99"}]}, "CIDR"),
        ({"a": [{"cidr": 7}]}, "CIDR"),
        ({"a": [{"numeric": 7}]}, "must be an array"),
        ({"a": [{"numeric": []}]}, "Invalid member in numeric match"),
        ({"a": [{"numeric": ["~", 1]}]}, "Unrecognized numeric range operator"),
        ({"a": [{"numeric": ["<"]}]}, "Value of < must be numeric"),
        ({"a": [{"numeric": ["<", "1"]}]}, "Value of < must be numeric"),
        ({"a": [{"numeric": ["<", 1, ">", 0]}]}, "Too many elements in numeric expression"),
        ({"a": [{"numeric": [">", 1, "=", 0]}]}, "Bad numeric range operator"),
        ({"a": [{"numeric": [">", 1, "<", 0]}]}, "Bottom must be less than top"),
        ({"a": [{"numeric": [">", 1e10]}]}, "Value of number must be between"),
        ({"a": [10**400]}, "Value of number must be between"),
        ({"a": [{"anything-but": [None]}]}, "Inside anything-but"),
        ({"a": [{"anything-but": []}]}, "Empty arrays are not allowed"),
        ({"a": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}, "Unsupported anything-but pattern"),
        ({"a": [{"anything-but": {"prefix": [1]}}]}, "prefix match pattern must be a string"),
        ({chr(97 + n): ["x"] for n in range(6)}, "can not have more than 5 keys"),
        ({"a": [str(n) for n in range(151)]}, "too complex"),
        ({"a": ["x"] * 13, "b": ["y"] * 12}, "too complex"),
        ({"a": {"b": ["x"]}}, "does not support nested"),
    ],
)
def test_what_is_no_policy(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(BadPolicy, match=words.replace("(", r"\(")):
        check(policy, "MessageAttributes")


def test_nested_policies_count_their_depth() -> None:
    """AWS's example: 4 values at the third level, 3 at the second make 4 × 3 × 3 × 2 = 72."""
    policy = {"a": {"b": {"c": ["1", "2", "3", "4"]}}, "d": {"e": ["1", "2", "3"]}}
    check(policy, "MessageBody")
    with pytest.raises(BadPolicy, match="too complex"):
        check({**policy, "f": ["1", "2", "3"]}, "MessageBody")
    check({"$or": [{"a": ["x"] * 75}, {"b": ["y"] * 75}]}, "MessageAttributes")
    with pytest.raises(BadPolicy, match="too complex"):
        check({"$or": [{"a": ["x"] * 75}, {"b": ["y"] * 76}]}, "MessageAttributes")
    deep: Any = ["x"]
    for _ in range(400):
        deep = {"a": deep}
    with pytest.raises(BadPolicy, match="too complex"):
        check(deep, "MessageBody")
    with pytest.raises(BadPolicy, match="Empty objects"):
        check({"a": {}}, "MessageBody")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": NaN}', '{"a":' * 50_000, '"' + "x" * 300_000 + '"'])
def test_text_that_is_no_policy(text: str) -> None:
    with pytest.raises(BadPolicy):
        parse(text)


def test_a_message_may_cost_so_much() -> None:
    policy = {"a": [{"prefix": str(n)} for n in range(100)]}
    work = Work(left=10_000)
    assert not matches(policy, {"a": ["x"] * 99}, work)
    with pytest.raises(TooMuchWork, match="too many values"):
        matches(policy, {"a": ["x"] * 2}, work)


def test_long_values_cost_more() -> None:
    """A hundred thousand comparisons of a quarter of a megabyte each would take minutes."""
    policy = {"a": [{"equals-ignore-case": f"X{n}"} for n in range(100)]}
    work = Work()
    matches(policy, {"a": "x" * 250_000}, work)
    assert work.left < 500_000 - 200_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(policy=st.dictionaries(st.text(max_size=3), json_values, max_size=4), body=json_values)
def test_any_policy_is_refused_or_decides(policy: dict[str, Any], body: Any) -> None:
    try:
        check(policy, "MessageBody")
    except BadPolicy:
        return
    assert matches(policy, body, Work()) in (True, False)
