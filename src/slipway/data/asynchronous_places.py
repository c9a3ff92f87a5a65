"""Places for asynchronous requests: how many each instance takes, on which of its workers, and when a request really begins.

The lanes are the gateway's own (`data.lanes`); only who gets which differs. A worker of ours holds one request, and while they
are short one more that was sent ahead (one that answers requests together: a batch); an instance no more than the endpoint's
MaxConcurrentInvocationsPerInstance.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

from slipway.core.routing import RouteTable, Variant
from slipway.data.asynchronous_calls import UNSENT, AsyncCall
from slipway.data.invoke import GONE, Call
from slipway.data.lanes import DataLimits, Lane, WorkerLane
from slipway.data.slots import Slots, VariantSlots

FOREIGN = 4
"""Requests at a time in a foreign container whose endpoint does not say how many."""
AHEAD_SECONDS = 0.25
"""Requests are sent ahead to a worker while they take less than this: one might wait there while another worker is free."""
REST_SECONDS = 1.0
"""For a container that takes no connection."""
LOOK_SECONDS = 1.0
"""Between two looks for requests that expired while they wait for a worker."""
_UNKNOWN = 0.05
"""Service time assumed before the first answer."""


class AsyncVariant(VariantSlots):
    """The lanes of an asynchronous endpoint's variant, and the requests that wait for one."""

    __slots__ = ("_alone", "_line", "_resting", "_sweep", "changed", "most", "service")

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits) -> None:
        super().__init__(owner, variant, limits)
        self.most = 0
        """In an instance at a time, as the endpoint says; 0: it does not say."""
        self.service = _UNKNOWN
        """Mean seconds that a container takes for a request."""
        self.changed: Callable[[], None] = _nothing
        """Told when there may be room, or less than there was."""
        self._line: OrderedDict[AsyncCall, None] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        self._alone: set[Lane] = set()
        """Workers of ours with a request over HTTP: what is sent beside it would not be answered in order."""
        self._resting: set[Lane] = set()

    # ---- how much

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def workers(self) -> int:
        """What works at the same time: workers of ours, or a container's share."""
        return self._count(lambda lane: 1)

    @property
    def places(self) -> int:
        """Requests that may be in flight at a time, with those sent ahead."""
        return self._count(self._depth)

    def _count(self, of: Callable[[Lane], int]) -> int:
        found: dict[str, int] = {}
        for lane in self.lanes:
            room = of(lane) if isinstance(lane, WorkerLane) else self.most or FOREIGN
            found[lane.replica] = found.get(lane.replica, 0) + room
        return sum(min(room, self.most) if self.most else room for room in found.values())

    def _depth(self, lane: Lane) -> int:
        """Requests that a worker of ours may hold."""
        ahead = isinstance(lane, WorkerLane) and lane.speaks_frames and self.service < AHEAD_SECONDS
        return 2 * lane.batch if ahead else lane.batch

    def allow(self, most: int) -> None:
        """So many in an instance at a time; those who wait in line may have a place by it."""
        self.most = most
        self._serve()
        self.changed()

    def measured(self, seconds: float) -> None:
        self.service = self.service * 0.8 + seconds * 0.2

    def _used(self, replica: str) -> int:
        return sum(lane.busy for lane in self._all.values() if lane.replica == replica)

    def _room(self, call: AsyncCall) -> Lane | None:
        """The lane with the fewest requests among those that may take this one."""
        best: Lane | None = None
        for lane in self.lanes:
            if lane.depth == 0 or lane in self._alone or lane in self._resting or (best and lane.busy >= best.busy):
                continue
            if isinstance(lane, WorkerLane):
                if lane.busy >= (self._depth(lane) if call.framed else 1):
                    continue
                if self.most and self._used(lane.replica) >= self.most:
                    continue
            elif self._used(lane.replica) >= (self.most or FOREIGN):
                continue
            best = lane
            if not lane.busy:
                break
        return best

    # ---- requests

    def submit(self, call: Call) -> None:
        """Hand to a lane that has room, or wait."""
        assert isinstance(call, AsyncCall)
        call.slots = self
        if self.retired:
            call.done = True
            call.failed(GONE)
            return
        lane = self._room(call)
        if lane is None:
            self._enter(call)
        else:
            self._give(lane, call)

    def _enter(self, call: AsyncCall) -> None:
        self._line[call] = None
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._drop_expired)

    def _drop_expired(self) -> None:
        """What waits in line for too long goes back: control says so to the caller."""
        self._sweep = None
        for call in [call for call in self._line if call.expired()]:
            self.forget(call)
            _unsent(call)
        if self._line:
            self._sweep = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._drop_expired)

    def _give(self, lane: Lane, call: AsyncCall) -> None:
        if call.expired():
            _unsent(call)
            return
        call.given(lane)
        lane.busy += 1
        if isinstance(lane, WorkerLane) and not (call.framed and lane.speaks_frames):
            self._alone.add(lane)
        lane.take(call)

    def put_back(self, call: Call) -> None:
        """The worker that had it did not begin it: first in line for another lane."""
        assert isinstance(call, AsyncCall)
        call.again()
        if self.retired:
            call.done = True
            call.failed(GONE)
            return
        self._enter(call)
        self._line.move_to_end(call, last=False)
        self._serve()

    def forget(self, call: Call) -> None:
        self._line.pop(call, None)  # type: ignore[call-overload]

    def pump(self, lane: Lane) -> None:
        if not lane.busy:
            self._alone.discard(lane)
        self._serve()
        self.changed()

    def begun(self, calls: list[Call]) -> None:
        """The worker says so itself: it may have been at what another dispatcher, or a gateway, had sent."""
        for call in calls:
            call.begin()  # type: ignore[attr-defined]  # only ours are on these lanes

    def _serve(self) -> None:
        while self._line:
            call = next(iter(self._line))
            lane = self._room(call)
            if lane is None:
                return
            del self._line[call]
            self._give(lane, call)

    def unreached(self, call: AsyncCall, lane: Lane) -> None:
        """It takes no connection: not for a moment."""
        self._resting.add(lane)
        asyncio.get_running_loop().call_later(REST_SECONDS, self._rested, lane)
        self.put_back(call)

    def _rested(self, lane: Lane) -> None:
        self._resting.discard(lane)
        self.pump(lane)

    def give_up(self) -> None:
        """Whoever waits is not going to be served here."""
        waiting = list(self._line)
        self._line.clear()
        for call in waiting:
            if call.settle():
                call.failed(GONE)

    # ---- lanes

    def retire(self) -> None:
        super().retire()
        self.give_up()
        self.changed()

    def lane_ready(self, lane: Lane) -> None:
        if not lane.draining and lane not in self.lanes:
            self.lanes.append(lane)
            self._alone.discard(lane)
            self._serve()
            self.changed()

    def _remove(self, key: tuple[str, str]) -> None:
        self._alone.discard(self._all[key])
        super()._remove(key)

    def lane_lost(self, lane: Lane) -> None:
        if lane in self.lanes:
            self.lanes.remove(lane)
            self.changed()


class AsyncSlots(Slots):
    """The asynchronous endpoints of the current table."""

    kinds: Mapping[str, type[VariantSlots]] = {"": AsyncVariant}

    def apply(self, table: RouteTable) -> None:
        ours = {key: endpoint for key, endpoint in table.endpoints.items() if endpoint.asynchronous is not None}
        super().apply(RouteTable(table.version, ours))
        for slots in self.endpoints.values():
            options = slots.endpoint.asynchronous
            for variant in slots.by_name.values():
                assert isinstance(variant, AsyncVariant)
                variant.allow(options.max_concurrent if options is not None else 0)


def _unsent(call: AsyncCall) -> None:
    if call.settle():
        call.failed(UNSENT)


def _nothing() -> None:
    """Nobody listens yet."""
