"""The route table that control publishes, and what the gateways have made of it.

Every change makes a new whole table with a higher version; changes of the same moment share one. The first table goes out
only when every endpoint has been looked at once (`open`): until then gateways go on with the one they have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from slipway.background import Background
from slipway.core.routing import Endpoint, Key, RouteTable, endpoint_key

logger = logging.getLogger(__name__)


class Feed(Protocol):
    """`link.routes.RouteFeed`, or a fake."""

    def publish(self, table: RouteTable) -> None: ...

    async def acknowledged(self, version: int) -> None:
        """Until every live gateway has this version or a later one."""

    async def drained(self, replica_ids: Iterable[str]) -> None:
        """Until no gateway has requests in flight on these, which are in no table any more."""


class Routes:
    """Entries by the endpoint's ARN. `changed(arn)` is told when one is confirmed or drained."""

    def __init__(
        self,
        feed: Feed,
        changed: Callable[[str], None],
        *,
        version: int = 0,
        acknowledge_seconds: float = 10.0,
        drain_seconds: float = 500.0,
        async_drain_seconds: float = 3700.0,
    ) -> None:
        """`version`: greater than any that an earlier control published. The limits are for a gateway that hangs.

        `async_drain_seconds`: for replicas of an asynchronous endpoint, whose requests may run for an hour.
        """
        self._feed = feed
        self._changed = changed
        self._version = version
        self._acknowledge_seconds = acknowledge_seconds
        self._drain_seconds = drain_seconds
        self._async_drain_seconds = async_drain_seconds
        self._entries: dict[str, Endpoint] = {}
        self._keys: Mapping[str, Key] = {}
        self._since: dict[str, int] = {}
        """The version with an endpoint's last change."""
        self._acknowledged = version
        self._held: dict[str, set[str]] = {}
        self._leaving: dict[str, set[str]] = {}
        """Held, and not yet in a published table's absence."""
        self._open = False
        self._first = version + 1
        self._scheduled = False
        self._background = Background()

    def adopt(self, arn: str, replicas: Iterable[str]) -> None:
        """Replicas that an earlier control may have routed to: if the first table has them not, they are held until drained."""
        self._held.setdefault(arn, set()).update(replicas)

    def open(self) -> None:
        """Publish the first table: every endpoint that can be routed to is entered."""
        if self._open:
            return
        self._open = True
        for arn, held in self._held.items():
            held -= _ids(self._entries.get(arn))
            self._leaving.setdefault(arn, set()).update(held)
        self._schedule()

    def put(self, arn: str, endpoint: Endpoint | None) -> None:
        """Enter, replace or (None) take out an endpoint."""
        before = self._entries.get(arn)
        if before == endpoint:
            return
        if endpoint is None:
            del self._entries[arn]
        else:
            self._entries[arn] = endpoint
        gone, here = _ids(before) - _ids(endpoint), _ids(endpoint)
        if gone and self._open:
            self._held.setdefault(arn, set()).update(gone)
            self._leaving.setdefault(arn, set()).update(gone)
        if self._open and arn in self._held:
            self._held[arn] -= here
        self._since[arn] = self._version + 1
        self._schedule()

    def set_keys(self, keys: Iterable[Key]) -> int:
        """The version of the table that has them: the present one's if nothing changes."""
        found = {key.id: key for key in keys}
        if found != self._keys:
            self._keys = found
            self._schedule()
        return self._version if self._open and not self._scheduled else self._version + 1

    def entry(self, arn: str) -> Endpoint | None:
        return self._entries.get(arn)

    def entries(self) -> Mapping[str, Endpoint]:
        """The endpoints of now, by ARN."""
        return {arn: entry for arn, entry in self._entries.items() if entry.transform is None}

    def confirmed(self, arn: str) -> bool:
        """Every gateway has the table with this endpoint's last change (or the first table, if it never changed)."""
        return self._acknowledged >= self._since.get(arn, self._first)

    def held(self, arn: str) -> frozenset[str]:
        """Replicas that are out of the table and may still have requests in flight."""
        return frozenset(self._held.get(arn, ()))

    def forget(self, arn: str) -> None:
        """The endpoint is gone from the store."""
        self.put(arn, None)
        self._held.pop(arn, None)
        self._leaving.pop(arn, None)
        self._since.pop(arn, None)

    async def stop(self) -> None:
        await self._background.close()

    def _schedule(self) -> None:
        """Publish at the end of this turn of the loop, so that changes made together go together."""
        if self._open and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        self._scheduled = False
        self._version += 1
        endpoints = {endpoint_key(e.account, e.region, e.name): e for e in self._entries.values()}
        self._feed.publish(RouteTable(self._version, endpoints, self._keys))
        self._background.spawn(self._confirm(self._version))
        for arn, ids in self._leaving.items():
            # Each for itself: an idle one need not run on because of another that is busy.
            for id in ids:
                self._background.spawn(self._drain(arn, id))
        self._leaving.clear()

    async def _confirm(self, version: int) -> None:
        try:
            async with asyncio.timeout(self._acknowledge_seconds):
                await self._feed.acknowledged(version)
        except TimeoutError:
            logger.warning("routes-not-acknowledged", extra={"version": version, "seconds": self._acknowledge_seconds})
        if version <= self._acknowledged:
            return
        waiting = [arn for arn in {*self._entries, *self._since} if not self.confirmed(arn)]
        self._acknowledged = version
        for arn in waiting:
            if self.confirmed(arn):
                self._changed(arn)

    async def _drain(self, arn: str, id: str) -> None:
        entry = self._entries.get(arn)
        patient = entry is not None and (entry.asynchronous is not None or entry.transform is not None)
        seconds = self._async_drain_seconds if patient else self._drain_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._feed.drained((id,))
        except TimeoutError:
            logger.warning("routes-not-drained", extra={"replica": id, "seconds": seconds})
        held = self._held.get(arn)
        if held is not None:
            held -= {id} - _ids(self._entries.get(arn))
            if not held:
                del self._held[arn]
        self._changed(arn)


def _ids(endpoint: Endpoint | None) -> set[str]:
    return {replica.id for variant in endpoint.variants for replica in variant.replicas} if endpoint else set()
