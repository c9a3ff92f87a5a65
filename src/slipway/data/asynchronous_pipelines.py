"""Serial pipelines of asynchronous endpoints: which instance a request enters, and the lanes of each of its containers.

An instance takes as many requests as its containers have places (MaxConcurrentInvocationsPerInstance at most), so that what
lies between its containers is bounded. One that leaves the route table goes on until the requests in it are done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from slipway.core.routing import SERIAL, Replica, Variant
from slipway.data.asynchronous_calls import UNSENT, Silent
from slipway.data.asynchronous_places import AsyncSlots, AsyncVariant
from slipway.data.lanes import DataLimits, Lane
from slipway.data.slots import Slots, VariantSlots


class AsyncStage(AsyncVariant):
    """The lanes of one container of one instance."""

    __slots__ = ("instance",)

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits, instance: AsyncInstance) -> None:
        super().__init__(owner, variant, limits)
        self.instance = instance

    def lane_lost(self, lane: Lane) -> None:
        super().lane_lost(lane)
        if self.instance.leaving and not self.lanes:
            self.give_up()


class AsyncInstance:
    """One instance: its containers, in order, and how many requests are in it."""

    def __init__(self, pipeline: AsyncPipeline, variant: Variant, replica: Replica) -> None:
        self.id = replica.id
        self.inside = 0
        self.leaving = False
        alone = _alone(variant, replica)
        stages = [AsyncStage(pipeline.owner, alone.of_stage(n), pipeline.limits, self) for n in range(len(variant.stages))]
        self.stages = stages

    @property
    def ready(self) -> bool:
        return all(stage.lanes for stage in self.stages)

    def count(self, of: Callable[[AsyncStage], int], most: int) -> int:
        """Over its containers; 0 where one is not there."""
        found = sum(of(stage) for stage in self.stages) if self.ready else 0
        return min(found, most) if most else found

    def update(self, variant: Variant, replica: Replica) -> None:
        alone = _alone(variant, replica)
        for index, stage in enumerate(self.stages):
            stage.update(alone.of_stage(index))

    def leave(self) -> None:
        self.leaving = True
        for stage in self.stages:
            if not stage.lanes:
                stage.give_up()

    def close(self) -> None:
        for stage in self.stages:
            stage.retire()


def _alone(variant: Variant, replica: Replica) -> Variant:
    return Variant(variant.name, variant.weight, (replica,), mode=SERIAL, stages=variant.stages)


class AsyncPipeline(AsyncVariant):
    """A variant whose instances are pipelines: `enter` one, go through its `stages`, `leave` it."""

    __slots__ = ("_entering", "_instances")

    def __init__(self, owner: Slots, variant: Variant, limits: DataLimits) -> None:
        super().__init__(owner, variant, limits)
        self._instances: dict[str, AsyncInstance] = {}
        self._entering: deque[asyncio.Future[None]] = deque()

    # ---- how much

    @property
    def waiting(self) -> int:
        return len(self._entering) + sum(each.stages[0].waiting for each in self._instances.values())

    @property
    def in_flight(self) -> int:
        return sum(each.inside for each in self._instances.values())

    @property
    def workers(self) -> int:
        return sum(each.count(lambda stage: stage.workers, self.most) for each in self._instances.values())

    @property
    def places(self) -> int:
        return sum(each.count(lambda stage: stage.places, self.most) for each in self._instances.values())

    def allow(self, most: int) -> None:
        super().allow(most)
        self._look()

    # ---- requests

    async def enter(self) -> AsyncInstance:
        """An instance that has room, the emptiest; to be left again. Raises Silent (UNSENT) where there is none."""
        while (instance := self._emptiest()) is None:
            if self.retired or not any(each.ready for each in self._instances.values()):
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
        instance.inside -= 1
        if instance.leaving and not instance.inside:
            self._close(instance)
        self._look()

    def _emptiest(self) -> AsyncInstance | None:
        found = [each for each in self._instances.values() if each.inside < each.count(lambda stage: stage.places, self.most)]
        return min(found, key=lambda each: each.inside, default=None)

    def _look(self) -> None:
        """There may be room, or an instance more or less: who waits looks again."""
        self.lanes = [lane for each in self._instances.values() if each.ready for lane in each.stages[0].lanes]
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
        for each in self._instances.values():
            each.stages[0].give_up()

    # ---- instances

    def fits(self, variant: Variant) -> bool:
        return variant.mode == SERIAL and variant.stages == self.variant.stages

    def update(self, variant: Variant) -> None:
        self.variant = variant
        wanted = {replica.id: replica for replica in variant.replicas}
        for id in [id for id in self._instances if id not in wanted]:
            self._withdraw(self._instances.pop(id))
        for id, replica in wanted.items():
            instance = self._instances.get(id)
            if instance is None:
                instance = self._instances[id] = AsyncInstance(self, variant, replica)
                for stage in instance.stages:
                    stage.changed = self._look
            instance.update(variant, replica)
        self._look()

    def retire(self) -> None:
        self.retired = True
        for id in list(self._instances):
            self._withdraw(self._instances.pop(id))
        self._look()

    def _withdraw(self, instance: AsyncInstance) -> None:
        self.owner.leaving.add(instance.id)
        instance.leave()
        if not instance.inside:
            self._close(instance)

    def _close(self, instance: AsyncInstance) -> None:
        instance.close()
        self.owner.left(instance.id)


class DispatcherSlots(AsyncSlots):
    """The asynchronous endpoints of the current table, of one container or of a pipeline."""

    kinds: Mapping[str, type[VariantSlots]] = {"": AsyncVariant, SERIAL: AsyncPipeline}
