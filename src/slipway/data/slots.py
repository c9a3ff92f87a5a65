"""Where requests meet workers: the current route table, who is free, who waits.

Everything runs in the event loop's thread, in callbacks: least outstanding over ready lanes, else a bounded FIFO per variant.
A new table is a diff: new replicas are connected, removed ones get nothing further and are reported until they are idle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING

from slipway.core.routing import DIRECT, Endpoint, Key, Replica, RouteTable, Variant
from slipway.data.counters import VariantCounters, counters_snapshot
from slipway.data.invoke import GONE, NO_CAPACITY, OVERLOADED, Call
from slipway.data.lanes import DataLimits, ForeignLane, Lane, WorkerLane
from slipway.data.wheel import Wheel

if TYPE_CHECKING:
    from slipway.data.models import ModelSlots


class VariantSlots:
    """The lanes of one variant, and the calls that wait for one."""

    __slots__ = (
        "_all",
        "_turn",
        "_waiting",
        "counters",
        "lanes",
        "limits",
        "name",
        "owner",
        "retired",
        "timeout_ms",
        "variant",
    )

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits) -> None:
        self.owner = owner
        self.variant = variant
        self.name = variant.name.encode("latin-1")
        self.limits = limits
        self.timeout_ms = int(limits.invoke_seconds * 1000)
        self.counters = VariantCounters()
        self.retired = False
        """No longer in the table."""
        self.lanes: list[Lane] = []
        """Ready, and not draining."""
        self._all: dict[tuple[str, str], Lane] = {}
        self._turn = 0
        self._waiting: OrderedDict[Call, float] = OrderedDict()
        """With perf_counter of when it came."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return sum(lane.busy for lane in self._all.values())

    def fits(self, variant: Variant) -> bool:
        """Whether it can follow to this version of its variant; else another takes its place."""
        return not variant.mode and variant.models is None

    def multi_models(self) -> Iterable[ModelSlots]:
        """Those that hold many models each."""
        return ()

    def containers_counters(self) -> Mapping[str, VariantCounters]:
        """What is counted of each of several containers, by name; empty: there is one."""
        return {}

    def streamed(self, status: int, seconds: float) -> None:
        """A caller who read the answer himself is done with it; status 0: it broke off, or never came."""

    def snapshot(self) -> dict[str, object]:
        """Counters and present load, as plain values."""
        return {**counters_snapshot(self.counters), "in_flight": self.in_flight, "waiting": self.waiting}

    # ---- calls

    def submit(self, call: Call) -> None:
        """Hand to the least loaded lane, or wait. Ends in `call.replied` or `call.failed`, perhaps before this returns."""
        if self.retired:
            call.failed(GONE)
            return
        call.slots = self
        call.timeout_ms = self.timeout_ms
        lanes = self.lanes
        lane: Lane | None
        if len(lanes) == 1:
            lane = lanes[0]
            if lane.busy >= lane.depth:
                lane = None
        else:
            lane = self._choose()
        if lane is not None:
            call.bucket = bucket = self.owner.wheel.current
            bucket.add(call)
            lane.busy += 1
            lane.take(call)
        elif len(self._waiting) >= self.limits.waiting:
            call.done = True
            call.failed(OVERLOADED)
        else:
            self._waiting[call] = perf_counter()
            self._patience(call)

    def put_back(self, call: Call) -> None:
        """It could not be served where it was sent: first in line for another lane."""
        lane = self._choose()
        if lane is not None:
            lane.busy += 1
            lane.take(call)
        elif self.retired:
            call.untimed()
            call.failed(GONE)
        else:
            self._waiting[call] = perf_counter()
            self._waiting.move_to_end(call, last=False)
            if not self.lanes:
                self._patience(call)

    def _patience(self, call: Call) -> None:
        """How long it may wait: for a worker that is busy as long as an invocation may take, for a first replica less."""
        call.untimed()
        wheel = self.owner.wheel if self.lanes else self.owner.capacity_wheel
        call.bucket = bucket = wheel.current
        bucket.add(call)

    def _choose(self) -> Lane | None:
        lanes = self.lanes
        count = len(lanes)
        if count == 1:
            lane = lanes[0]
            return lane if lane.busy < lane.depth else None
        best: Lane | None = None
        least = 1 << 30
        self._turn = turn = self._turn + 1
        for offset in range(count):
            lane = lanes[(turn + offset) % count]
            if lane.busy < least and lane.busy < lane.depth:
                best, least = lane, lane.busy
                if least == 0:
                    break
        return best

    def pump(self, lane: Lane) -> None:
        """The lane has room, perhaps: serve who waits."""
        waiting = self._waiting
        if not waiting or not lane.ready:
            return
        now = perf_counter()
        while waiting and lane.busy < lane.depth:
            call, since = waiting.popitem(last=False)
            call.timeout_ms = call.left_ms(max(1, self.timeout_ms - int((now - since) * 1000)))
            lane.busy += 1
            lane.take(call)

    def forget(self, call: Call) -> None:
        self._waiting.pop(call, None)

    def out_of_patience(self, call: Call) -> None:
        """It waited as long as one waits for a first replica: if there is one now, it goes on waiting for its turn."""
        if call.done or call not in self._waiting:
            return
        if self.lanes:
            self._patience(call)
        elif call.settle():
            self.forget(call)
            call.failed(NO_CAPACITY)

    # ---- lanes

    def update(self, variant: Variant) -> None:
        """Follow a new table."""
        self.variant = variant
        wanted = {(replica.id, address): replica for replica in variant.replicas for address in replica.workers}
        for key in [key for key in self._all if key not in wanted]:
            self._remove(key)
        for key, replica in wanted.items():
            if key not in self._all:
                self._all[key] = lane = self._make(replica, key[1])
                lane.start()

    def _make(self, replica: Replica, address: str) -> Lane:
        kind = WorkerLane if replica.protocol == "frames" else ForeignLane
        return kind(self, replica, address, self.limits)

    def _remove(self, key: tuple[str, str]) -> None:
        lane = self._all.pop(key)
        lane.draining = True
        if lane in self.lanes:
            self.lanes.remove(lane)
        if lane.busy > 0:
            self.owner.draining.add(lane)
        else:
            lane.close()

    def retire(self) -> None:
        """The variant is no longer in the table: lanes drain, who waits chooses again."""
        self.retired = True
        for key in list(self._all):
            self._remove(key)
        waiting = list(self._waiting)
        self._waiting.clear()
        for call in waiting:
            call.untimed()
            call.failed(GONE)

    def lane_ready(self, lane: Lane) -> None:
        if not lane.draining and lane not in self.lanes:
            self.lanes.append(lane)
            if len(self.lanes) == 1:
                for call in self._waiting:
                    self._patience(call)
            self.pump(lane)

    def lane_lost(self, lane: Lane) -> None:
        if lane in self.lanes:
            self.lanes.remove(lane)
            if not self.lanes:
                for call in self._waiting:
                    self._patience(call)

    def begun(self, calls: list[Call]) -> None:
        """A worker is at these now."""

    def drained(self, lane: Lane) -> None:
        self.owner.lane_drained(lane)


class EndpointSlots:
    """An endpoint of the current table."""

    __slots__ = ("asynchronous", "by_name", "endpoint", "multi_model", "only", "special")

    def __init__(self, endpoint: Endpoint, by_name: dict[str, VariantSlots]) -> None:
        self.endpoint = endpoint
        self.asynchronous = endpoint.asynchronous is not None
        """It answers InvokeEndpointAsync alone."""
        self.multi_model = any(variant.model_parts() for variant in endpoint.variants)
        """Its requests name a model."""
        self.special = self.asynchronous or self.multi_model
        """Not every request can go to every variant."""
        self.by_name = by_name
        self.only: VariantSlots | None = None
        """The variant, if there is but one, it takes traffic, and the caller need not say more."""
        if len(by_name) == 1 and endpoint.variants[0].weight > 0 and endpoint.variants[0].mode != DIRECT:
            self.only = by_name[endpoint.variants[0].name]


class Slots:
    """All endpoints of the current table."""

    kinds: Mapping[str, type[VariantSlots]] = {"": VariantSlots}
    """What holds the lanes of a variant, by its mode."""

    def __init__(self, limits: DataLimits, on_drained: Callable[[], None] | None = None) -> None:
        self.limits = limits
        self.table = RouteTable(0)
        self.endpoints: dict[str, EndpointSlots] = {}
        """By `core.routing.endpoint_key`."""
        self.draining: set[Lane] = set()
        """Removed lanes with calls in flight."""
        self.leaving: set[str] = set()
        """Removed instances of several containers, with calls on their way through them."""
        self.wheel: Wheel[Call] = Wheel(limits.invoke_seconds, Call.expire)
        self.capacity_wheel: Wheel[Call] = Wheel(limits.capacity_seconds, self._out_of_patience)
        self.model_wheel: Wheel[Call] = Wheel(limits.model_seconds, self._out_of_patience)
        self._on_drained = on_drained

    def start(self) -> None:
        self.wheel.start()
        self.capacity_wheel.start()
        self.model_wheel.start()

    def close(self) -> None:
        """Cut everything; calls in flight fail."""
        self.wheel.stop()
        self.capacity_wheel.stop()
        self.model_wheel.stop()
        self.apply(RouteTable(self.table.version))
        for lane in list(self.draining):
            lane.close()

    def apply(self, table: RouteTable) -> None:
        """Take over a new table."""
        self.table = table
        old, self.endpoints = self.endpoints, {}
        kept: list[tuple[VariantSlots, Variant]] = []
        retired: list[VariantSlots] = []
        for key, endpoint in table.endpoints.items():
            before = old.pop(key, None)
            known = dict(before.by_name) if before is not None else {}
            by_name: dict[str, VariantSlots] = {}
            for variant in endpoint.variants:
                slots = known.pop(variant.name, None)
                if slots is not None and not slots.fits(variant):
                    retired.append(slots)
                    slots = None
                slots = slots or self.make(variant)
                by_name[variant.name] = slots
                kept.append((slots, variant))
            retired.extend(known.values())
            self.endpoints[key] = EndpointSlots(endpoint, by_name)
        for gone in old.values():
            retired.extend(gone.by_name.values())
        for slots, variant in kept:
            slots.update(variant)
        for slots in retired:
            slots.retire()

    def make(self, variant: Variant) -> VariantSlots:
        """What is to hold the lanes of this variant."""
        return self.kinds[variant.mode](self, variant, self.limits)

    def key(self, ident: str) -> Key | None:
        """The access key, for signatures."""
        return self.table.keys.get(ident)

    def busy_removed(self) -> list[str]:
        """Ids of removed replicas that still have calls in flight."""
        return sorted({lane.replica for lane in self.draining} | self.leaving)

    def left(self, instance: str) -> None:
        """Nothing is on its way through this instance any more."""
        if instance in self.leaving:
            self.leaving.discard(instance)
            if self._on_drained is not None:
                self._on_drained()

    def lane_drained(self, lane: Lane) -> None:
        if lane not in self.draining:
            return
        self.draining.discard(lane)
        if self._on_drained is not None:
            self._on_drained()

    def _out_of_patience(self, call: Call) -> None:
        if call.slots is not None:
            call.slots.out_of_patience(call)
