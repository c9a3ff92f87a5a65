"""The dispatcher's process: what it loads, how it starts, works and stops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.backing.objects_embedded import EmbeddedObjects
from slipway.core.routing import Endpoint, RouteTable
from slipway.link import transforms
from slipway.link.channel import Channel
from slipway.link.routes import RouteFeed
from slipway.link.start import encode_start
from slipway.settings import Settings
from slipway.store.db import Db
from tests.deadlines import PATIENCE
from tests.unit.data.dispatching import KEY, OPTIONS, Control
from tests.unit.data.workers import ACCOUNT, REGION, Asked, Told, replica, variant, workers
from tests.unit.http.serving import until
from tests.unit.roles.test_gateway import proportional_kilobytes

FORBIDDEN = (
    "sqlalchemy",
    "alembic",
    "botocore",
    "boto3",
    "obstore",
    "psycopg",
    "aiohttp",
    "slipway.store",
    "slipway.replicas",
    "slipway.control",
    "slipway.services",
)


def test_it_loads_neither_sql_nor_s3_clients() -> None:
    script = "import sys, slipway.roles.dispatcher; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "slipway.data.asynchronous" in loaded
    assert [name for name in loaded if name.startswith(FORBIDDEN)] == []


class Both(Control):
    """Queue and route feed on one link, as control has them."""

    def __init__(self, path: str, feed: RouteFeed) -> None:
        super().__init__(path)
        self._feed = feed

    def _attach(self, each: Channel) -> None:
        super()._attach(each)
        each.on(transforms.HEARTBEAT, lambda beat: (), transforms.Heartbeat)
        self._feed.attach(each)


async def start(settings: Settings) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "slipway.roles.dispatcher", stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(encode_start(settings, os.getpid()))
    process.stdin.close()
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
async def test_a_dispatcher_process(tmp_path: Path) -> None:
    """From its start line to SIGTERM: idle memory, a table, requests with objects, a death, an end in the midst of work."""
    settings = Settings(data_dir=str(tmp_path), run_dir=str(tmp_path), cache_dir=str(tmp_path))
    feed = RouteFeed()
    control = Both(settings.link_socket, feed)
    await control.open()
    db = await Db.open(f"{tmp_path}/slipway.db")
    objects = EmbeddedObjects(db, f"{tmp_path}/objects", now=lambda: 0.0)
    await objects.create_bucket("in", account=ACCOUNT, region=REGION)
    await objects.create_bucket("out", account=ACCOUNT, region=REGION)
    await objects.put("in", "k", b"x" * 500_000)
    hang = asyncio.Event()

    async def answer(asked: Asked) -> Told:
        if asked.body == b"hang":
            hang.set()
            await asyncio.sleep(60)
        return Told(body=asked.body)

    async with workers(tmp_path, answer=answer) as (worker,):
        feed.publish(RouteTable(1))
        dispatcher = await start(settings)
        await asyncio.wait_for(feed.acknowledged(1), PATIENCE)
        await until(lambda: bool(control.beats))
        assert proportional_kilobytes(dispatcher.pid) < 40_000
        feed.publish(RouteTable(2, {KEY: Endpoint(ACCOUNT, REGION, "demo", (variant(replica("i-1", worker)),), OPTIONS)}))
        control.submit(control.request(None, input_location="s3://in/k"), control.request(b"small"))
        outcomes = await control.settled(2)
        by_id = {outcome.id: outcome for outcome in outcomes}
        staged = [by_id[1].staged, by_id[2].staged]
        assert staged[0] is not None
        assert staged[1] is not None
        assert (staged[0].size, staged[0].data, staged[1].data) == (500_000, None, b"small")
        blob = staged[0].segments[0][0]
        assert (tmp_path / "objects" / blob[-2:] / blob).stat().st_size == 500_000
        dispatcher.kill()
        await dispatcher.wait()
        async with objects.holding([staged[0]]) as gone:
            assert not gone
        assert await objects.sweep() == 1

        control.queue.append(control.request(b"hang"))
        dispatcher = await start(settings)
        await asyncio.wait_for(hang.wait(), PATIENCE)
        dispatcher.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(dispatcher.wait(), PATIENCE) == 0
        assert [outcome.kind for outcome in control.outcomes[2:]] == ["lost"]
    await control.close()
    await feed.close()
    await objects.close()
    await db.close()
