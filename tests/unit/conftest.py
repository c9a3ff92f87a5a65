"""An open store on either database, and the embedded object store on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.store.db import Db

OWNER = "123456789012"
"""The account of bucket `b`."""


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Db]:
    found = await Db.open(database_url)
    yield found
    await found.close()


@pytest.fixture
async def owner(db: Db, tmp_path: Path) -> AsyncIterator[EmbeddedObjects]:
    """Control's side: it has the bucket `b`."""
    store = EmbeddedObjects(db, str(tmp_path / "objects"), now=lambda: 1000.0)
    await store.create_bucket("b", account=OWNER, region="us-east-1")
    yield store
    await store.close()
