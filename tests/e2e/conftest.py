"""A running slipway for each module of end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slipway.cli.launch import temporary
from tests.e2e.deployments import Deployments


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    """One slipway for a module's tests."""
    with temporary() as launched:
        yield Deployments(launched)
