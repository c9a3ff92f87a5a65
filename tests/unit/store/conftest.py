"""An open store on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from slipway.store.db import Db


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Db]:
    found = await Db.open(database_url)
    yield found
    await found.close()
