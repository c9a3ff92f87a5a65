"""Which event goes where, and which configurations S3 refuses."""

from __future__ import annotations

import json

import pytest

from slipway.core import s3_events
from slipway.core.s3_events import COMPLETE, COPY, DELETE, PUT, BadRules, Event, Origin, Place, Rule


def rule(*events: str, id: str = "a", prefix: str | None = None, suffix: str | None = None) -> Rule:
    return Rule(id, "queue", "arn", tuple(events), prefix, suffix)


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        (("s3:ObjectCreated:*",), {PUT, COPY, COMPLETE}),
        (("s3:ObjectCreated:Copy", "s3:ObjectRemoved:*"), {COPY, DELETE}),
        (("s3:ObjectRemoved:Delete",), {DELETE}),
        (("s3:ObjectRemoved:DeleteMarkerCreated", "s3:ObjectCreated:Post"), set()),
    ],
)
def test_events(events: tuple[str, ...], wanted: set[str]) -> None:
    assert {name for name in (PUT, COPY, COMPLETE, DELETE) if rule(*events).wants(name, "k")} == wanted


@pytest.mark.parametrize(
    ("prefix", "suffix", "key", "wanted"),
    [
        (None, None, "k", True),
        ("", "", "k", True),
        ("in/", None, "in/k", True),
        ("in/", None, "into", False),
        (None, ".csv", "a.csv", True),
        (None, ".csv", "a.csv.gz", False),
        ("in/", ".csv", "in/a.csv", True),
        ("in/", ".csv", "out/a.csv", False),
    ],
)
def test_filters(prefix: str | None, suffix: str | None, key: str, wanted: bool) -> None:
    assert rule("s3:ObjectCreated:*", prefix=prefix, suffix=suffix).wants(PUT, key) is wanted


@pytest.mark.parametrize(
    ("one", "other", "good"),
    [
        (rule("s3:ObjectCreated:*"), rule("s3:ObjectRemoved:*"), True),
        (rule("s3:ObjectCreated:*"), rule("s3:ObjectCreated:Put"), False),
        (rule("s3:ObjectCreated:Copy"), rule("s3:ObjectCreated:Put"), True),
        (rule("s3:ObjectCreated:*", prefix="a"), rule("s3:ObjectCreated:*", prefix="b"), True),
        (rule("s3:ObjectCreated:*", prefix="a"), rule("s3:ObjectCreated:*", prefix="ab"), False),
        (rule("s3:ObjectCreated:*", suffix=".x"), rule("s3:ObjectCreated:*", suffix=".y"), True),
        (rule("s3:ObjectCreated:*", prefix="a", suffix=".x"), rule("s3:ObjectCreated:*", prefix="ab", suffix=".y"), True),
        (rule("s3:ObjectCreated:*", prefix="a", suffix="x"), rule("s3:ObjectCreated:*", suffix=".x"), False),
    ],
)
def test_overlaps(one: Rule, other: Rule, good: bool) -> None:
    rules = [one, Rule("b", other.kind, other.target, other.events, other.prefix, other.suffix)]
    if good:
        s3_events.check(rules)
    else:
        with pytest.raises(BadRules, match="ambiguously"):
            s3_events.check(rules)


def test_other_refusals() -> None:
    with pytest.raises(BadRules, match="unique"):
        s3_events.check([rule("s3:ObjectCreated:*"), rule("s3:ObjectRemoved:*")])
    with pytest.raises(BadRules, match="s3:ObjectRestore"):
        s3_events.check([rule("s3:ObjectRestore:*")])
    with pytest.raises(BadRules, match="not supported"):
        s3_events.check([rule()])
    with pytest.raises(BadRules, match="100"):
        s3_events.check([rule("s3:ObjectCreated:*", id=str(n)) for n in range(101)])


def test_rules_survive_their_column() -> None:
    kept = [{"id": "a", "kind": "topic", "target": "arn", "events": ["s3:ObjectCreated:*"], "prefix": None, "suffix": ".x"}]
    assert s3_events.rules_of(kept) == [Rule("a", "topic", "arn", ("s3:ObjectCreated:*",), None, ".x")]
    assert s3_events.rules_of(None) == []


def test_keys_are_written_as_in_a_form() -> None:
    event = Event(PUT, "a b/ü+%.json", 1_700_000_000.1239, 1, "e")
    text = s3_events.message(rule(), Place("b", "1", "r"), event, Origin(request_id="q"), "h")
    (record,) = json.loads(text)["Records"]
    assert record["s3"]["object"]["key"] == "a+b/%C3%BC%2B%25.json"
    assert record["eventTime"] == "2023-11-14T22:13:20.123Z"
    assert record["responseElements"] == {"x-amz-request-id": "q", "x-amz-id-2": "h"}
