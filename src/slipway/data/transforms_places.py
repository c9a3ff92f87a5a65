"""Places for requests of transform jobs: an instance's workers, of which each may hold the next batch while it is at one.

MaxConcurrentTransforms says how many workers of an instance are at something at a time. A batch that was sent ahead is in its
worker's socket, whole if the kernel lets it: when the worker is through with one it has the next without anybody's help, on
cores that may all be busy with workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from slipway.core.routing import Replica, RouteTable, Variant
from slipway.data.asynchronous_calls import AsyncCall, Input
from slipway.data.asynchronous_places import FOREIGN, AsyncVariant
from slipway.data.lanes import FOREIGN_CONCURRENCY, DataLimits, Lane, WorkerLane
from slipway.data.slots import Slots
from slipway.http.client import Pool, PoolLimits

AHEAD_SECONDS = 1.0
"""Batches are sent ahead while they take less than this: the pause that it saves is a hundredth of that."""
MOST_SENT = 4
"""How often a request is sent to workers that die before they begin: receiving it may be what they die of."""
SOCKET_BYTES = 8 * 1024 * 1024
"""Of a request in the kernel, where it allows as much: the default payload of 6 MB is sent at once."""


class TransformCall(AsyncCall):
    """One request of a transform job. A worker that dies before it begins costs it nothing."""

    __slots__ = ("_sent",)

    def __init__(self, head: bytes, source: Input, timeout: float, on_begin: Callable[[AsyncCall], None]) -> None:
        super().__init__(head, source, timeout, on_begin)
        self._sent = 0

    def _fail(self, why: str) -> None:
        if self.began is None and not self.done and self.slots is not None and self.lane is not None and self.lane.ours:
            self._sent += 1
            if self._sent < MOST_SENT:
                self.slots.put_back(self)
                return
            self.begin()  # who has died of it again and again has had it
        super()._fail(why)


class TransformVariant(AsyncVariant):
    """Begins nothing while control is away: it could not be settled, and is done again should this process die as well."""

    __slots__ = ()

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits) -> None:
        super().__init__(owner, variant, limits)
        self.service = AHEAD_SECONDS  # before the first answer nobody knows: what is sent ahead of it could wait an hour

    def _room(self, call: AsyncCall) -> Lane | None:
        assert isinstance(self.owner, TransformSlots)
        if self.owner.away():
            return None
        best: Lane | None = None
        for lane in self.lanes:
            if lane.depth == 0 or lane in self._resting or (best is not None and lane.busy >= best.busy):
                continue
            if self._takes(lane, call):
                best = lane
                if not lane.busy:
                    break
        return best

    def _takes(self, lane: Lane, call: AsyncCall) -> bool:
        """Whether MaxConcurrentTransforms, and what the lane has, leave room."""
        if not isinstance(lane, WorkerLane):
            return self._used(lane.replica) < (self.most or FOREIGN)
        if self.most and lane.batch > 1:
            return self._used(lane.replica) < min(self.most, lane.batch)
        if lane.busy:  # this worker is at something already: one more in its socket makes that no more
            ahead = 2 if self.service < AHEAD_SECONDS else 1
            return lane.busy < (lane.batch * ahead if framed(call, lane) else ahead)
        return not self.most or self._at_work(lane.replica) < self.most

    def _at_work(self, replica: str) -> int:
        """Workers of an instance that have something."""
        return sum(lane.busy > 0 for lane in self._all.values() if lane.replica == replica)

    def _make(self, replica: Replica, address: str) -> Lane:
        lane = super()._make(replica, address)
        lane.pool = Pool(address, PoolLimits(connections=FOREIGN_CONCURRENCY, idle=8, send_bytes=SOCKET_BYTES))
        return lane

    def resume(self) -> None:
        """Look whether those who wait may begin now."""
        self._serve()


def framed(call: AsyncCall, lane: WorkerLane) -> bool:
    """Whether it travels as a frame."""
    return call.framed and lane.speaks_frames


class TransformSlots(Slots):
    """The instances of the transform jobs of the current table, a variant each; a variant for each container of a pipeline."""

    kinds = {"": TransformVariant}  # noqa: RUF012 - as in Slots

    away: Callable[[], bool] = staticmethod(lambda: False)
    """Whether to wait for control; set by who knows."""

    def apply(self, table: RouteTable) -> None:
        ours = {
            key: replace(endpoint, variants=tuple(_instances(endpoint.variants)))
            for key, endpoint in table.endpoints.items()
            if endpoint.transform is not None
        }
        super().apply(RouteTable(table.version, ours))


def _instances(variants: Sequence[Variant]) -> Iterator[Variant]:
    for variant in variants:
        found: dict[str, list[Replica]] = {}
        for replica in variant.replicas:
            found.setdefault(replica.instance, []).append(replica)
        for instance, replicas in found.items():
            alone = replace(variant, name=instance, replicas=tuple(replicas))
            if not variant.stages:
                yield alone
            for index in range(len(variant.stages)):
                yield replace(alone.of_stage(index), name=_stage_name(instance, index))


def _stage_name(instance: str, index: int) -> str:
    """The first container's variant stands for the instance."""
    return f"{instance}#{index}" if index else instance
