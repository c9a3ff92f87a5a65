"""Filters against the documented cases (containers.md 7.5)."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.core.transform_paths import BadPath, NotThere, fields, find, parse

RECORD = {"id": 7, "features": [1, 2, 3], "a": {"b": [{"c": 1}, {"c": 2}, {"d": 3}]}, "under_score": True, "with space": None}

VALUES: list[tuple[str, Any]] = [
    ("$", RECORD),
    ("$.id", 7),
    ("$['id']", 7),
    ("$['id','under_score']", {"id": 7, "under_score": True}),
    ("$.under_score", True),
    ("$['with space']", None),
    ("$.features", [1, 2, 3]),
    ("$.features[0]", 1),
    ("$.features[-1]", 3),
    ("$.features[0,2]", [1, 3]),
    ("$.features[1:]", [2, 3]),
    ("$.features[:2]", [1, 2]),
    ("$.features[:-1]", [1, 2]),
    ("$.features[0,1:]", [1, 2, 3]),
    ("$.features[*]", [1, 2, 3]),
    ("$.a.b[*].c", [1, 2]),
    ("$.a.b[0].c", 1),
    ("$.a.*", [[{"c": 1}, {"c": 2}, {"d": 3}]]),
    ("$ .id", 7),
    ("$[ 'id' , 'features' ]", {"id": 7, "features": [1, 2, 3]}),
]


@pytest.mark.parametrize(("path", "wanted"), VALUES, ids=[path for path, _ in VALUES])
def test_values(path: str, wanted: Any) -> None:
    assert find(parse(path), RECORD) == wanted


@pytest.mark.parametrize(
    "path", ["$.nothing", "$['id','nothing']", "$.features[3]", "$.features[-4]", "$.id[0]", "$.id.x", "$.id.*"]
)
def test_what_is_not_there(path: str) -> None:
    with pytest.raises(NotThere):
        find(parse(path), RECORD)


ROWS = [
    ("$", "abcdef"),
    ("$[*]", "abcdef"),
    ("$[:3]", "abc"),
    ("$[:-1]", "abcde"),
    ("$[1:]", "bcdef"),
    ("$[0]", "a"),
    ("$[-1]", "f"),
    ("$[0,5]", "af"),
    ("$[0,4:]", "aef"),
    ("$[0:2,4:]", "abef"),
]


@pytest.mark.parametrize(("path", "wanted"), ROWS, ids=[path for path, _ in ROWS])
def test_rows(path: str, wanted: str) -> None:
    parsed = parse(path)
    assert parsed.for_csv
    assert "".join(fields(parsed, "abcdef")) == wanted


@pytest.mark.parametrize("path", ["$.name", "$['a']", "$[0][1]", "$.*.x"])
def test_paths_that_csv_has_not(path: str) -> None:
    assert not parse(path).for_csv


@pytest.mark.parametrize(
    "path",
    ["", "id", "$.", "$[", "$[]", "$['a", "$['a'", "$[1", "$[1:2:3]", "$[?(@.a)]", "$..a", "$x", "$[a]", "$[-]", "$[1,'a']"],
)
def test_paths_that_cannot_be_read(path: str) -> None:
    with pytest.raises(BadPath):
        parse(path)
