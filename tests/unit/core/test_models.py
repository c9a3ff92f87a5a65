"""Names of models: one reading, below the prefix."""

from __future__ import annotations

import pytest

from slipway.core.models import model_hash, target_fault


@pytest.mark.parametrize("target", ["a.tar.gz", "New York/é.tar.gz", "a/b/c", "...tar.gz", "a..b", "100%.tar.gz"])
def test_good(target: str) -> None:
    assert target_fault(target) is None


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "./a",
        "a\0b",
        "a\nb",
        "%2E%2e/x",
        "a%2fb",
        "a%00",
        "a\\b",
        "s3://b/k",
        "x" * 1025,
    ],
)
def test_bad(target: str) -> None:
    assert target_fault(target)


def test_another_version_is_another_model() -> None:
    assert model_hash("s3://b/p/", "a", "1") != model_hash("s3://b/p/", "a", "2")
    assert len(model_hash("s3://b/p/", "a", "1")) == 32
