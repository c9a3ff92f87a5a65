"""Serial pipelines of asynchronous endpoints: which instance a request enters, and the lanes of each of its containers.

An instance takes as many requests as its containers have places (MaxConcurrentInvocationsPerInstance at most), so that what
lies between its containers is bounded. One that leaves the route table goes on until the requests in it are done.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Mapping

from slipway.core.routing import SERIAL, Variant
from slipway.data.asynchronous_calls import UNSENT, Silent
from slipway.data.asynchronous_places import AsyncSlots, AsyncVariant
from slipway.data.instances import Instance, Instances, same_pipeline
from slipway.data.lanes import DataLimits, Lane
from slipway.data.slots import Slots, VariantSlots


class AsyncStage(AsyncVariant):
    """The lanes of one container of one instance."""

    __slots__ = ("instance",)

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits, instance: AsyncInstance) -> None:
        super().__init__(owner, variant, limits)
        self.instance = instance

    @property
    def usable(self) -> bool:
        return bool(self.lanes)

    def lane_lost(self, lane: Lane) -> None:
        super().lane_lost(lane)
        if self.instance.leaving and not self.lanes:
            self.give_up()


class AsyncInstance(Instance[AsyncStage]):
    """One instance."""

    def __init__(self, pipeline: AsyncPipeline, alone: Variant) -> None:
        super().__init__(alone.replicas[0].id)
        count = len(alone.stages)
        self.stages = [AsyncStage(pipeline.owner, alone.of_stage(n), pipeline.limits, self) for n in range(count)]
        for stage in self.stages:
            stage.changed = pipeline.look

    def count(self, of: Callable[[AsyncStage], int], most: int) -> int:
        """Over its containers; 0 where one is not there."""
        found = sum(of(stage) for stage in self.stages) if self.ready else 0
        return min(found, most) if most else found


class AsyncPipeline(AsyncVariant):
    """A variant whose instances are pipelines: `enter` one, go through its `stages`, `leave` it."""

    __slots__ = ("_entering", "_instances")

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits) -> None:
        super().__init__(owner, variant, limits)
        self._instances: Instances[AsyncInstance] = Instances(owner, functools.partial(AsyncInstance, self))
        self._entering: deque[asyncio.Future[None]] = deque()

    # ---- how much

    @property
    def waiting(self) -> int:
        return len(self._entering) + sum(each.stages[0].waiting for each in self._instances)

    @property
    def in_flight(self) -> int:
        return sum(each.inside for each in self._instances)

    @property
    def workers(self) -> int:
        return sum(each.count(lambda stage: stage.workers, self.most) for each in self._instances)

    @property
    def places(self) -> int:
        return sum(each.count(lambda stage: stage.places, self.most) for each in self._instances)

    def allow(self, most: int) -> None:
        super().allow(most)
        self.look()

    # ---- requests

    async def enter(self) -> AsyncInstance:
        """An instance that has room, the emptiest; to be left again. Raises Silent (UNSENT) where there is none."""
        while (instance := self._emptiest()) is None:
            if self.retired or not self._instances.ready:
                raise Silent(UNSENT)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._entering.append(turn)
            try:
                await turn
            finally:
                if turn in self._entering:
                    self._entering.remove(turn)
        instance.inside += 1
        return instance

    def leave(self, instance: AsyncInstance) -> None:
        self._instances.left(instance)
        self.look()

    def _emptiest(self) -> AsyncInstance | None:
        found = [each for each in self._instances.ready if each.inside < each.count(lambda stage: stage.places, self.most)]
        return min(found, key=lambda each: each.inside, default=None)

    def look(self) -> None:
        """There may be room, or an instance more or less: who waits looks again."""
        self._instances.look()
        self.lanes = [lane for each in self._instances.ready for lane in each.stages[0].lanes]
        while self._entering:
            turn = self._entering.popleft()
            if not turn.done():
                turn.set_result(None)
        self.changed()

    def give_up(self) -> None:
        while self._entering:
            turn = self._entering.popleft()
            if not turn.done():
                turn.set_exception(Silent(UNSENT))
        for each in self._instances:
            each.stages[0].give_up()

    # ---- instances

    def fits(self, variant: Variant) -> bool:
        return same_pipeline(self.variant, variant)

    def update(self, variant: Variant) -> None:
        self.variant = variant
        self._instances.follow(variant)
        self.look()

    def retire(self) -> None:
        self.retired = True
        self._instances.retire()
        self.look()


class DispatcherSlots(AsyncSlots):
    """The asynchronous endpoints of the current table, of one container or of a pipeline."""

    kinds: Mapping[str, type[VariantSlots]] = {"": AsyncVariant, SERIAL: AsyncPipeline}
