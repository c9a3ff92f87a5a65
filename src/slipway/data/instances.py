"""The instances of a pipeline: their containers, who is inside, and how an instance that left the route table comes to its end.

One request stays in one instance. What leaves the table goes on until nothing is inside; `Slots.leaving` holds it until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from slipway.core.routing import SERIAL, Variant
from slipway.data.slots import Slots


class Stage(Protocol):
    """The lanes of one container of one instance."""

    @property
    def usable(self) -> bool:
        """Its container is there."""

    def update(self, variant: Variant) -> None: ...

    def retire(self) -> None: ...

    def give_up(self) -> None:
        """No lane comes back: who waits has no hope."""


S = TypeVar("S", bound=Stage)


class Instance(Generic[S]):
    """One instance: its containers, in order."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.inside = 0
        """Requests."""
        self.leaving = False
        """Out of the table: nothing new comes."""
        self.stages: Sequence[S] = ()

    @property
    def ready(self) -> bool:
        return all(stage.usable for stage in self.stages)

    def update(self, variant: Variant) -> None:
        """To this version of its own part of the variant."""
        for index, stage in enumerate(self.stages):
            stage.update(variant.of_stage(index))

    def leave(self) -> None:
        self.leaving = True
        for stage in self.stages:
            if not stage.usable:
                stage.give_up()

    def close(self) -> None:
        for stage in self.stages:
            stage.retire()


I = TypeVar("I", bound=Instance)  # type: ignore[type-arg]  # noqa: E741


class Instances(Generic[I]):
    """Those of one variant that are in the table."""

    def __init__(self, owner: Slots, make: Callable[[Variant], I]) -> None:
        """`make`: an instance that is the variant's only one, without lanes yet."""
        self._owner = owner
        self._make = make
        self._all: dict[str, I] = {}
        self.ready: list[I] = []
        """Those whose containers are all there, as of the last `look`."""

    def __iter__(self) -> Iterator[I]:
        return iter(self._all.values())

    def look(self) -> None:
        """Containers came or went."""
        self.ready = [each for each in self._all.values() if each.ready]

    def follow(self, variant: Variant) -> None:
        """A new table."""
        wanted = {replica.id: replica for replica in variant.replicas}
        self.ready = [each for each in self.ready if each.id in wanted]  # who has to leave one chooses among these
        for id in [id for id in self._all if id not in wanted]:
            self._leave(self._all.pop(id))
        for id, replica in wanted.items():
            alone = variant.alone(replica)
            instance = self._all.get(id)
            if instance is None:
                instance = self._all[id] = self._make(alone)
            instance.update(alone)
        self.look()

    def retire(self) -> None:
        """The variant is no longer in the table."""
        self.ready = []
        for id in list(self._all):
            self._leave(self._all.pop(id))

    def left(self, instance: I) -> None:
        """A request is not inside any more."""
        instance.inside -= 1
        if instance.leaving and not instance.inside:
            self._close(instance)

    def _leave(self, instance: I) -> None:
        self._owner.leaving.add(instance.id)
        instance.leave()
        if not instance.inside:
            self._close(instance)

    def _close(self, instance: I) -> None:
        instance.close()
        self._owner.left(instance.id)


def same_pipeline(before: Variant, after: Variant) -> bool:
    """Whether the lanes of one can follow to the other."""
    return after.mode == SERIAL and after.stages == before.stages
