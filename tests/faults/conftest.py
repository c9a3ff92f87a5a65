"""A slipway of its own for each fault test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slipway.cli.launch import temporary
from tests.e2e.deployments import Deployments


@pytest.fixture
def server() -> Iterator[Deployments]:
    """One slipway for one test, which may kill parts of it."""
    with temporary() as launched:
        yield Deployments(launched)
