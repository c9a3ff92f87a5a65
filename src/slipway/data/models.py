"""Where requests for one model of many go: the replica that has it, else one that is asked to load it while they wait.

Which replica has which model is not in the route table: a gateway learns it by asking (`Loader`), and forgets it when the
model's process says good-bye. A target with its lanes is a variant of its own (`TargetSlots`), so that a request for a loaded
model takes the way of every other request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Protocol

from slipway.core.models import FAILED, INVALID, LATE, LOADED, MISSING, ModelAnswer, ModelAsk, ModelMoved, Models
from slipway.core.rendezvous import choose
from slipway.core.replicas import container_id
from slipway.core.routing import Replica, Variant
from slipway.data.invoke import GONE, NO_CAPACITY, OVERLOADED, Call
from slipway.data.lanes import DataLimits, Lane
from slipway.data.model_lanes import AnyLane, ForeignModelLane, ModelLane
from slipway.data.slots import Slots, VariantSlots
from slipway_host import frames

NOT_READY = "model-not-ready"
"""The model was not loaded in the time that a caller waits; loading goes on."""
CROWD = 4
"""Requests that wait for a model whose replicas are all busy, until another replica loads it too."""
_AGAIN = (0.05, 0.1, 0.2, 0.5)
"""Seconds until a replica (or control) that could not say is asked again."""


class Refused(str):
    """Why there is no such model to ask, for `Call.failed`: as the replica (or control) said."""

    answer: ModelAnswer


def _refused(answer: ModelAnswer) -> Refused:
    why = Refused(answer.state)
    why.answer = answer
    return why


TARGET_MODEL = b"x-amzn-sagemaker-target-model"


def target_of(call: Call) -> str:
    """The model that a call names, in the header that its container is to see as well."""
    model: str | None = getattr(call, "model", None)
    if model is not None:
        return model
    value = next((value for name, value in frames.unpack_head(call.head) if name.lower() == TARGET_MODEL), b"")
    return target_text(value)


def target_text(value: bytes) -> str:
    """A header's value as a name."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Loader(Protocol):
    """`link.models.ModelLink`, or a fake."""

    async def ask(self, ask: ModelAsk) -> ModelAnswer:
        """Have it loaded. LATE: nobody could say; ask again."""

    def done(self, replica: str, hash: str) -> None:
        """No more requests for it (ModelCacheSetting Disabled)."""


class Nobody:
    """A Loader that has nobody to ask."""

    async def ask(self, ask: ModelAsk) -> ModelAnswer:
        return ModelAnswer(LATE)

    def done(self, replica: str, hash: str) -> None:
        """Nobody to tell either."""


class TargetSlots(VariantSlots):
    """One model of a multi-model variant: its lanes, and the calls that wait for it."""

    __slots__ = ("asking", "house", "target")

    def __init__(self, house: ModelSlots, target: str) -> None:
        super().__init__(house.owner, house.variant, house.limits)
        self.counters = house.counters
        self.house = house
        self.target = target
        self.asking: dict[str, asyncio.Task[None]] = {}
        """By replica."""

    def submit(self, call: Call) -> None:
        if self.retired:
            call.failed(GONE)
            return
        call.slots = self
        call.timeout_ms = call.left_ms(self.timeout_ms)
        lane = self._choose()
        if lane is not None:
            self.counters.model_hits += 1
            call.bucket = bucket = self.owner.wheel.current
            bucket.add(call)
            lane.busy += 1
            lane.take(call)
            return
        if self.lanes:
            self.counters.model_hits += 1
        else:
            self.counters.model_misses += 1
        if self.house.waiting >= self.limits.waiting:
            call.done = True
            call.failed(OVERLOADED)
            return
        self._waiting[call] = perf_counter()
        self._patience(call)
        if not self.lanes or len(self._waiting) >= CROWD:
            self.house.want(self)

    def put_back(self, call: Call) -> None:
        present = self.house.present(self)
        call.slots = present
        if present is not self:
            present.put_back(call)
            return
        super().put_back(call)
        if not self.lanes and self._waiting:
            self.house.want(self)

    def _patience(self, call: Call) -> None:
        """For a worker as long as an invocation may take, for a load as long as a caller waits, for a first replica less."""
        call.untimed()
        owner = self.owner
        wheel = owner.wheel if self.lanes else owner.model_wheel if self.house.replicas else owner.capacity_wheel
        call.bucket = bucket = wheel.current
        bucket.add(call)

    def out_of_patience(self, call: Call) -> None:
        if call.done or call not in self._waiting:
            return
        if self.lanes:
            self._patience(call)
        elif call.settle():
            self.forget(call)
            call.failed(NOT_READY if self.house.replicas else NO_CAPACITY)

    def patience_anew(self) -> None:
        for call in self._waiting:
            self._patience(call)

    def lane_ready(self, lane: Lane) -> None:
        if not self.lanes:
            now = perf_counter()
            for since in self._waiting.values():
                self.counters.model_waits.add(now - since)
        super().lane_ready(lane)

    def lane_gone(self, lane: AnyLane) -> None:
        """Nothing is to be sent there any more."""
        key = (lane.replica, lane.hash)
        if self._all.get(key) is lane:
            del self._all[key]
            if lane.busy > 0 and isinstance(lane, ForeignModelLane):
                lane.draining = True
                self.owner.draining.add(lane)
        self.lane_lost(lane)
        if not self.lanes and self._waiting:
            self.house.want(self)
        else:
            self.house.forget_idle(self)

    def pump(self, lane: Lane) -> None:
        super().pump(lane)
        if not self.house.cached and not lane.busy and not self._waiting and isinstance(lane, ModelLane | ForeignModelLane):
            self.house.dismiss(self, lane)

    # ---- what a replica said

    def place(self, replica: Replica, answer: ModelAnswer) -> None:
        """The model is there, in this version: an earlier one gets nothing more."""
        key = (replica.id, answer.hash)
        for other in [k for k in self._all if k[0] == replica.id and k != key]:
            self._remove(other)
        if key not in self._all:
            kind = ModelLane if answer.protocol == "frames" else ForeignModelLane
            self._all[key] = lane = kind(self, replica, answer.address, self.limits, answer.hash)
            lane.start()

    def refuse(self, answer: ModelAnswer) -> None:
        """There is no such model: who waits for it hears why."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for call in waiting:
            if call.settle():
                call.failed(_refused(answer))

    def without(self, gone: set[str]) -> None:
        """These replicas left the table."""
        for key in [key for key in self._all if key[0] in gone]:
            self._remove(key)
        if not self.lanes and self._waiting:
            self.house.want(self)

    def has(self, replica: str) -> bool:
        return any(key[0] == replica for key in self._all)

    @property
    def idle(self) -> bool:
        return not self._all and not self._waiting and not self.asking

    def lanes_of(self, replica: str) -> list[Lane]:
        return [lane for key, lane in self._all.items() if key[0] == replica]


class ModelSlots(VariantSlots):
    """A multi-model variant. `submit` takes calls that have a `model`."""

    __slots__ = ("_loader", "_targets", "replicas")

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits, loader: Loader) -> None:
        super().__init__(owner, variant, limits)
        self._loader = loader
        self._targets: dict[str, TargetSlots] = {}
        self.replicas: dict[str, Replica] = {}

    @property
    def cached(self) -> bool:
        return self.variant.models is None or self.variant.models.cached

    @property
    def waiting(self) -> int:
        return sum(target.waiting for target in self._targets.values() if target.waiting)

    @property
    def in_flight(self) -> int:
        return sum(target.in_flight for target in self._targets.values())

    def fits(self, variant: Variant) -> bool:
        return variant.models is not None and not variant.mode

    def submit(self, call: Call) -> None:
        self.submit_target(call, target_of(call))

    def submit_target(self, call: Call, target: str) -> None:
        """Invoke this container with this model: ends as `VariantSlots.submit`, or in `failed` with NOT_READY or a Refused."""
        found = self._targets.get(target)
        if found is None:
            if self.retired:
                call.failed(GONE)
                return
            found = self._targets[target] = TargetSlots(self, target)
        found.submit(call)

    def multi_models(self) -> Iterable[ModelSlots]:
        return (self,)

    # ---- following the table

    def update(self, variant: Variant) -> None:
        self.variant = variant
        fresh = {replica.id: replica for replica in variant.replicas}
        gone = set(self.replicas) - set(fresh)
        had = bool(self.replicas)
        self.replicas = fresh
        for target in list(self._targets.values()):
            target.variant = variant
            for id in gone & set(target.asking):
                target.asking.pop(id).cancel()
            if gone:
                target.without(gone)
            if had != bool(fresh):
                target.patience_anew()
            if target.waiting and not target.lanes:
                self.want(target)
            self.forget_idle(target)

    def retire(self) -> None:
        self.retired = True
        for target in list(self._targets.values()):
            for task in target.asking.values():
                task.cancel()
            target.retire()
        self._targets.clear()

    def present(self, target: TargetSlots) -> TargetSlots:
        """What stands for this model now: it may have been forgotten while calls were still on their way back."""
        return target if self.retired else self._targets.setdefault(target.target, target)

    def forget_idle(self, target: TargetSlots) -> None:
        if target.idle and self._targets.get(target.target) is target:
            del self._targets[target.target]

    # ---- loading

    def want(self, target: TargetSlots) -> None:
        """Have one more replica load it: the first one in its order that has room, if it is not under way already."""
        if target.asking or self.retired:
            return
        without = {id for id in self.replicas if not target.has(id)}
        if not without:
            return
        load = {id: count for id, count in self._load().items() if id in without}
        chosen = choose(target.target, load)
        if chosen is not None:
            task = asyncio.get_running_loop().create_task(self._have_loaded(target, self.replicas[chosen]))
            target.asking[chosen] = task

    def _load(self) -> Mapping[str, int]:
        """Requests in hand, by replica; a load counts as one."""
        load = dict.fromkeys(self.replicas, 0)
        for target in self._targets.values():
            for lane in target.lanes:
                if lane.replica in load:
                    load[lane.replica] += lane.busy
            for id in target.asking:
                if id in load:
                    load[id] += 1
        return load

    async def _have_loaded(self, target: TargetSlots, replica: Replica) -> None:
        pauses = 0
        answer = ModelAnswer(LATE)
        try:
            while self.replicas.get(replica.id) is not None and self._targets.get(target.target) is target:
                models = self.variant.models or Models("")
                uses = self._uses(replica)
                answer = await self._loader.ask(ModelAsk(self._keeper_id(replica), models, target.target, uses))
                if answer.state != LATE or not target.waiting:
                    break
                await asyncio.sleep(_AGAIN[min(pauses, len(_AGAIN) - 1)])
                pauses += 1
        finally:
            if target.asking.get(replica.id) is asyncio.current_task():
                del target.asking[replica.id]
        self._settle(target, replica.id, answer)

    def _settle(self, target: TargetSlots, id: str, answer: ModelAnswer) -> None:
        replica = self.replicas.get(id)
        if self._targets.get(target.target) is not target:
            return
        if answer.state == LOADED and replica is not None:
            target.place(replica, answer)
        elif answer.state in (MISSING, INVALID, FAILED) and not target.lanes:
            target.refuse(answer)
        elif target.waiting and not target.lanes:
            self.want(target)
        self.forget_idle(target)

    def _keeper_id(self, replica: Replica) -> str:
        position = self.variant.position
        return container_id(replica.id, position) if position else replica.id

    def _uses(self, replica: Replica) -> dict[str, tuple[float, int]]:
        """Of a container that does not count for itself."""
        if replica.protocol == "frames":
            return {}
        now = perf_counter()
        found: dict[str, tuple[float, int]] = {}
        for target in self._targets.values():
            for lane in target.lanes_of(replica.id):
                if isinstance(lane, ForeignModelLane):
                    found[lane.hash] = (now - lane.used, lane.busy)
        return found

    def dismiss(self, target: TargetSlots, lane: AnyLane) -> None:
        """ModelCacheSetting Disabled: it has answered, and nobody waits."""
        lane.dismissed()
        replica = self.replicas.get(lane.replica)
        if replica is not None:
            self._loader.done(self._keeper_id(replica), lane.hash)
        self.forget_idle(target)

    def model_moved(self, moved: ModelMoved) -> None:
        """A newer version is loaded there."""
        target = self._targets.get(moved.target)
        replica = next((each for each in self.replicas.values() if self._keeper_id(each) == moved.replica), None)
        if target is not None and replica is not None and target.has(replica.id):
            target.place(replica, moved.answer)
