"""The sweep of queues goes on until there is nothing left."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.control.queue_sweep import SECONDS, QueueSweep
from slipway.core.queue_messages import Message
from slipway.store import queue_messages, queues
from slipway.store.db import Db
from slipway.store.queue_messages import Counts
from slipway.store.queues import QueueRow


async def test_everything_that_expired_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_messages, "SWEEP", 10)
    db = await Db.open(str(tmp_path / "db"))
    await db.write(lambda c: queues.create(c, QueueRow("arn", 0, "1", "r", "q", {"MessageRetentionPeriod": "60"})))
    queue = await db.read(lambda c: queues.get(c, "arn"))
    assert queue is not None
    for now in (0.0, 100.0):
        await db.write(lambda c, now=now: queues.send_all(c, queue, [Message("x")] * 25, now))  # type: ignore[misc]
    assert await QueueSweep(db, lambda: 110.0).reconcile("") == SECONDS
    assert await db.read(lambda c: queue_messages.counts(c, queue, 110.0)) == Counts(25, 0, 0)
    assert await QueueSweep(db, lambda: 110.0).reconcile("") == SECONDS
    await db.close()
