"""What Prometheus is told of asynchronous queues."""

from __future__ import annotations

from pathlib import Path

from slipway.control.exposition import Exposition
from slipway.control.hosting_metrics import HostingMetrics
from slipway.core.replicas import Usage
from tests.unit.control.async_world import ACCOUNT, ENDPOINT, REGION, FakeDispatcher, Site, failed, opened, request, succeeded


async def test_queues_and_ends_are_told(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as site:
        dispatcher = await FakeDispatcher("one").connect(str(site.folder / "link"))
        await dispatcher.accept(*[request() for _ in range(4)])
        held = await dispatcher.claim(3)
        await dispatcher.settle(succeeded(held[0]), succeeded(held[1]), failed(held[2]))
        lines = (await exposition(site).text()).splitlines()
        dispatcher.close()
    labels = f'account="{ACCOUNT}",region="{REGION}",endpoint="{ENDPOINT}"'
    for line in (
        f"slipway_async_backlog{{{labels}}} 1",
        f"slipway_async_oldest_seconds{{{labels}}} 30",
        "# TYPE slipway_async_ended_total counter",
        f'slipway_async_ended_total{{{labels},state="succeeded"}} 2',
        f'slipway_async_ended_total{{{labels},state="failed"}} 1',
        f'slipway_async_ended_total{{{labels},state="expired"}} 0',
    ):
        assert line in lines


def exposition(site: Site) -> Exposition:
    hosting = HostingMetrics(site.metrics, lambda: site.routed, _no_usage, lambda: site.now)
    return Exposition(site.db, hosting, lambda: site.routed, lambda: site.now + 30)


async def _no_usage() -> list[Usage]:
    return []
