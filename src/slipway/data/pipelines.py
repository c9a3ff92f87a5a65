"""Serial pipelines: the instances of a variant, the lanes of each of their containers, and the walks through them.

A walk is given to an instance once, the one with the fewest on their way; from there on it waits only for that instance's
containers. An instance that leaves the route table goes on until its walks are over.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, cast

from slipway.core.routing import Variant
from slipway.data.counters import VariantCounters
from slipway.data.instances import Instance, Instances, same_pipeline
from slipway.data.invoke import DIED, GONE, OVERLOADED, Call, Ticket
from slipway.data.lanes import DataLimits, Lane
from slipway.data.models import ModelSlots
from slipway.data.slots import Slots, VariantSlots
from slipway.data.walks import Walk, clean_type, request_head
from slipway_host.frames import unpack_head

if TYPE_CHECKING:
    from slipway.data.several import GatewaySlots


_CACHED, _CACHED_BYTES = 256, 512
"""Heads that a container was told, kept: most requests of an endpoint are alike."""


class StageSlots(VariantSlots):
    """The lanes of one container of one instance, and the steps that wait for one."""

    __slots__ = (
        "following",
        "heads",
        "index",
        "instance",
        "last",
        "multi_model",
        "name_of_container",
        "own",
        "pipes",
    )

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits, instance: SerialInstance, index: int) -> None:
        super().__init__(owner, variant.of_stage(index), limits)
        slots = instance.slots
        self.instance = instance
        self.index = index
        self.last = index == len(variant.stages) - 1
        self.multi_model = variant.stages[index].multi_model
        self.name_of_container = variant.stages[index].name
        self.counters = slots.counters
        """Of the whole variant: what becomes of a request is counted once."""
        self.pipes = slots.pipes
        self.following: StageSlots | None = None
        """The next container's."""
        self.heads: dict[tuple[bytes, bytes], bytes] = {}
        """Made already, by the caller's and by the head of what is sent."""
        self.own = slots.stages[index]
        """Of this container, in all instances."""

    def head_for(self, given: bytes, before: bytes) -> bytes:
        """What the container is told, of the caller's head and of that of what it gets; `heads` is to be asked first."""
        head = request_head(unpack_head(given), clean_type(before), last=self.last, multi_model=self.multi_model)
        if len(self.heads) >= _CACHED:
            self.heads.clear()
        if len(given) + len(before) <= _CACHED_BYTES:
            self.heads[given, before] = head
        return head

    def submit(self, call: Call) -> None:
        """Hand to the least loaded lane, or wait for one; its walk bounds the time."""
        call.slots = self
        lanes, pipes = self.lanes, self.pipes
        lane: Lane | None = lanes[0] if len(lanes) == 1 else self._choose()
        if lane is not None and lane.busy < lane.depth and (pipes.between < pipes.most or not self._held_up()):
            call.timeout_ms = call.left_ms(self.timeout_ms)
            lane.busy += 1
            lane.take(call)
        elif self.retired or (self.instance.leaving and not self.lanes):
            call.done = True
            call.failed(GONE if self.index == 0 else DIED)
        else:
            self._waiting[call] = perf_counter()

    def _held_up(self) -> bool:
        """Answers enough wait for containers behind this one."""
        return not self.last and self.pipes.between >= self.pipes.most and self.instance.busy_behind(self.index)

    def pump(self, lane: Lane) -> None:
        waiting = self._waiting
        while waiting and lane.ready and lane.busy < lane.depth and not self._held_up():
            call, _ = waiting.popitem(last=False)
            call.timeout_ms = call.left_ms(self.timeout_ms)
            lane.busy += 1
            lane.take(call)
        if self.index and self.pipes.between >= self.pipes.most:
            self.instance.stages[self.index - 1].pump_all()

    def put_back(self, call: Call) -> None:
        """It could not be served where it was sent: first in line for another lane of the same container."""
        self.submit(call)
        if call in self._waiting:
            self._waiting.move_to_end(call, last=False)

    def pump_all(self) -> None:
        for lane in list(self.lanes):
            self.pump(lane)

    def _patience(self, call: Call) -> None:
        """The walk has the one deadline."""

    def lane_ready(self, lane: Lane) -> None:
        super().lane_ready(lane)
        self.instance.slots.look()

    def lane_lost(self, lane: Lane) -> None:
        super().lane_lost(lane)
        self.instance.slots.look()
        if self.instance.leaving and not self.lanes:
            self.give_up()

    def give_up(self) -> None:
        """No lane comes back: who waits has no hope."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for call in waiting:
            if call.settle():
                call.failed(GONE if self.index == 0 else DIED)

    @property
    def usable(self) -> bool:
        """Its container is there."""
        return bool(self.lanes)

    # ---- counting, of this container

    def count(self, status: int, seconds: float, waited: float) -> None:
        """It answered: seconds with it, and before it."""
        own = self.own
        own.invocations += 1
        own.model.add(seconds)
        own.overhead.add(waited)
        if not 200 <= status < 300:
            own.model_answered(status)
        if own.invocations >= own.fold_at:
            own.fold()

    def streamed(self, status: int, seconds: float) -> None:
        if status:
            self.count(status, seconds, 0.0)
        else:
            self.count_silent()

    def count_silent(self) -> None:
        """It did not."""
        self.own.invocations += 1
        self.own.model_errors += 1


class ModelStage(StageSlots):
    """The multi-model container of a pipeline: each step goes to the model that its request names."""

    __slots__ = ("models",)

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits, instance: SerialInstance, index: int) -> None:
        super().__init__(owner, variant, limits, instance, index)
        self.models = ModelSlots(owner, self.variant, limits, cast("GatewaySlots", owner).loader)
        self.models.counters = self.counters

    @property
    def usable(self) -> bool:
        return bool(self.models.replicas)

    @property
    def waiting(self) -> int:
        return self.models.waiting

    @property
    def in_flight(self) -> int:
        return self.models.in_flight

    def multi_models(self) -> Iterable[ModelSlots]:
        return (self.models,)

    def submit(self, call: Call) -> None:
        self.models.submit(call)

    def update(self, variant: Variant) -> None:
        self.variant = variant
        self.models.update(variant)

    def retire(self) -> None:
        self.retired = True
        self.models.retire()


class SerialInstance(Instance[StageSlots]):
    """One instance; inside it are walks."""

    def __init__(self, slots: SerialSlots, alone: Variant) -> None:
        super().__init__(alone.replicas[0].id)
        self.slots = slots
        self.stages = [
            (ModelStage if stage.multi_model else StageSlots)(slots.owner, alone, slots.limits, self, index)
            for index, stage in enumerate(alone.stages)
        ]
        for stage, following in pairwise(self.stages):
            stage.following = following

    def busy_behind(self, index: int) -> bool:
        """Something is with, or waits for, a later container."""
        return any(stage.waiting or stage.in_flight for stage in self.stages[index + 1 :])


class SerialSlots(VariantSlots):
    """A variant whose instances are pipelines. It has no lanes itself."""

    __slots__ = ("_instances", "_turn_of_instances", "_walks", "pipes", "stages")

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits) -> None:
        super().__init__(owner, variant, limits)
        self.stages = [VariantCounters() for _ in variant.stages]
        self.pipes = cast("GatewaySlots", owner).pipes
        self._instances: Instances[SerialInstance] = Instances(owner, functools.partial(SerialInstance, self))
        self._walks: dict[Call, Walk] = {}
        self._turn_of_instances = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting) + sum(stage.waiting for each in self._instances for stage in each.stages)

    @property
    def in_flight(self) -> int:
        return len(self._walks)

    def fits(self, variant: Variant) -> bool:
        return same_pipeline(self.variant, variant)

    def containers_counters(self) -> Mapping[str, VariantCounters]:
        return {stage.name: counters for stage, counters in zip(self.variant.stages, self.stages, strict=True)}

    def multi_models(self) -> Iterable[ModelSlots]:
        return [each for instance in self._instances for stage in instance.stages for each in stage.multi_models()]

    # ---- calls

    def submit(self, call: Call) -> None:
        if self.retired:
            call.failed(GONE)
            return
        call.slots = self
        instance = self._choose_instance()
        if len(self._walks) + len(self._waiting) >= self.limits.waiting and self.waiting >= self.limits.waiting:
            call.done = True
            call.failed(OVERLOADED)
        elif instance is not None:
            self._set_out(call, instance)
        else:
            self._waiting[call] = perf_counter()
            self._patience(call)

    def _set_out(self, call: Call, instance: SerialInstance) -> None:
        call.bucket = bucket = self.owner.wheel.current
        bucket.add(call)
        self._walks[call] = walk = Walk(self, call, instance, self.limits.invoke_seconds)
        instance.inside += 1
        walk.begin()

    def _choose_instance(self) -> SerialInstance | None:
        """The one with the fewest walks."""
        found = self._instances.ready
        if len(found) == 1:
            return found[0]
        best: SerialInstance | None = None
        self._turn_of_instances = turn = self._turn_of_instances + 1
        for offset in range(len(found)):
            instance = found[(turn + offset) % len(found)]
            if best is None or instance.inside < best.inside:
                best = instance
        return best

    def look(self) -> None:
        """Containers came or went: serve who waits for an instance, if there is one now."""
        self._instances.look()
        while self._waiting and (instance := self._choose_instance()) is not None:
            call, _ = self._waiting.popitem(last=False)
            call.untimed()
            self._set_out(call, instance)

    def _patience(self, call: Call) -> None:
        """They wait only where there is no instance."""
        call.untimed()
        call.bucket = bucket = self.owner.capacity_wheel.current
        bucket.add(call)

    def ended(self, walk: Walk) -> None:
        """Its request is answered, failed, or with a caller who reads the last answer himself."""
        if self._walks.pop(walk.call, None) is None:
            return
        self._instances.left(walk.instance)

    def forget(self, call: Call) -> None:
        super().forget(call)
        walk = self._walks.get(call)
        if walk is not None:
            walk.abort()

    def pump_stages(self) -> None:
        """Containers that were held up may go on."""
        for instance in self._instances:
            for stage in instance.stages:
                stage.pump_all()

    # ---- instances

    def update(self, variant: Variant) -> None:
        self.variant = variant
        self._instances.follow(variant)
        self.look()

    def retire(self) -> None:
        self.retired = True
        self._instances.retire()
        waiting = list(self._waiting)
        self._waiting.clear()
        for call in waiting:
            call.untimed()
            call.failed(GONE)


class Pipes:
    """Answers that wait for the next container, in all pipelines of a process."""

    def __init__(self, limits: DataLimits, owner: Slots) -> None:
        self.between = 0
        """Bytes."""
        self.most = limits.between_memory
        """Beyond it containers wait that have others behind them."""
        self._owner = owner

    def release(self, count: int) -> None:
        before = self.between
        self.between = after = before - count
        if after < self.most <= before:
            for endpoint in self._owner.endpoints.values():
                for slots in endpoint.by_name.values():
                    if isinstance(slots, SerialSlots):
                        slots.pump_stages()


def on_the_way(call: Call) -> bool:
    """A ticket that failed at a container, not for want of one."""
    return isinstance(call, Ticket) and isinstance(call.slots, StageSlots)
