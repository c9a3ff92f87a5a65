"""Every member that slipway has not is refused by its name, and docs/coverage.md says so."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from slipway.cli.coverage import TABLE
from slipway.services.cloudwatch.errors import REFUSED, page_start, page_token, refuse
from slipway.wire.errors import AwsError


@pytest.mark.parametrize(("operation", "member"), [(op, member) for op, members in REFUSED.items() for member in members])
def test_refused_by_name(operation: str, member: str) -> None:
    something: list[Any] = ["x", {"a": 1}, [1], True]
    for value in something:
        with pytest.raises(AwsError, match=f"{member} is not supported by slipway"):
            refuse(operation, {member: value})
    nothing: list[Any] = [None, False, [], {}]
    for value in nothing:
        refuse(operation, {member: value})


def test_the_coverage_table_is_the_same() -> None:
    done: dict[str, Any] = tomllib.loads(TABLE.read_text())["cloudwatch"]["done"]
    told = {
        op: {member.removesuffix("[]"): why for member, why in entry.get("refused", {}).items()} for op, entry in done.items()
    }
    assert {op: members for op, members in told.items() if members} == REFUSED


def test_page_tokens() -> None:
    assert page_start(page_token(("a", 1)), tuple[str, int]) == ("a", 1)
    assert page_start(None, str) is None
    for bad in ("x", "=", page_token("a"), "\u00e9"):
        with pytest.raises(AwsError, match="InvalidNextToken"):
            page_start(bad, int)
