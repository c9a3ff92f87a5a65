"""A store in a temporary folder, and a control on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.store.db import Db
from tests.unit.control.world import Control


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Db]:
    opened = await Db.open(str(tmp_path / "store.db"), readers=1)
    yield opened
    await opened.close()


@pytest.fixture
async def control(db: Db, tmp_path: Path) -> AsyncIterator[Control]:
    made = Control(db, tmp_path)
    await made.up()
    yield made
    await made.routes.stop()
