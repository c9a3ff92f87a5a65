"""One disk for all runs of a test process: its statements stay compiled."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.run import Library


@pytest.fixture(scope="session")
def library() -> Library:
    return Library()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Runs are full of accidents, which the code logs."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
