"""What holds for all tests, and the databases that tests may ask for."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say that this thread has no event loop: pytest-asyncio would else make one only to put it back, and never close it."""
    asyncio.set_event_loop(None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background, and handed on to what tests start
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait much and take long come first: the many short ones fill up the end of a run on several workers."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """0: first. An unknown folder comes with the long ones."""
    where = item.nodeid.split("/")
    if where[1] != "unit":
        return 1 if where[1] in ("aws", "wire") else 0
    return 2 if where[2] in ("slipway_host", "store", "replicas") else 3


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """Started when first asked for, one per worker."""
    programs = postgres.binaries()
    if programs is None:
        if "CI" in os.environ:
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres.server(programs) as found:
        yield found


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """An empty PostgreSQL database."""
    name = uuid.uuid4().hex
    yield postgres_server.create(name)
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind: the test runs once with either."""
    if request.param == "sqlite":
        return str(tmp_path / "slipway.db")
    url: str = request.getfixturevalue("postgres_url")
    return url
