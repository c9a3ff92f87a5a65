"""What holds for all tests."""

from __future__ import annotations

import asyncio

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say that this thread has no event loop: pytest-asyncio would else make one only to put it back, and never close it."""
    asyncio.set_event_loop(None)
