"""What control knows of replicas: whose each is (the store says), and its newest state (the keeper says).

A replica that runs and has no owner is a stray: it is stopped. Who owns what is read once, when control starts; from then on
this process is the only one that changes it, and a later reading could only be older than what is known here.
An instance is one replica, or one for each of its containers; what the store and the plan know is the instance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from slipway.core.replicas import ReplicaSpec, ReplicaState, container_id, instance_of
from slipway.core.several import Whole, whole

logger = logging.getLogger(__name__)

STRAY = "stray"
"""Kind, for the reconciler, of a replica that runs and that no row knows."""
FOREIGN_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL for a container that is not our host (containers.md 1.7)."""


class Keeper(Protocol):
    """`link.keeper.KeeperClient`, or a fake."""

    async def start(self, spec: ReplicaSpec) -> None: ...
    async def stop(self, id: str, grace: float) -> None: ...
    async def list(self) -> list[ReplicaState]: ...


class Instances:
    """All replicas of one control. `own_grace`: seconds that our own host has to stop."""

    def __init__(
        self, keeper: Keeper, wake: Callable[[str, str], None], now: Callable[[], float], own_grace: float = 2.0
    ) -> None:
        self._keeper = keeper
        self._wake = wake
        self._now = now
        self._own_grace = own_grace
        self._states: dict[str, ReplicaState] = {}
        self._ready_since: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._owners: dict[str, str] = {}
        """By instance."""
        self._names: dict[str, tuple[str, ...]] = {}
        """Of instances with several containers: their containers."""
        self._fresh: set[str] = set()
        """Ids that reported while a list was under way: what they said is newer than the list."""

    # ---- what the keeper says

    async def listed(self) -> Mapping[str, ReplicaState]:
        """What the keeper has, for `take`."""
        self._fresh.clear()
        return {state.id: state for state in await self._keeper.list()}

    def take(self, listed: Mapping[str, ReplicaState]) -> None:
        """Make it what is known; whose replicas are must have been told before."""
        for id in [id for id in self._states if id not in listed and id not in self._fresh]:
            self._drop(id)
        for id, state in listed.items():
            if id not in self._fresh:
                self.note(state)

    def reported(self, state: ReplicaState) -> str | None:
        """The keeper's word on one replica; its owner, if it has one."""
        self._fresh.add(state.id)
        self.note(state)
        return self._owners.get(instance_of(state.id))

    def note(self, state: ReplicaState) -> None:
        before = self._states.get(state.id)
        self._states[state.id] = state
        instance = instance_of(state.id)
        if state.phase == "ready" and (instance == state.id or self.whole(instance).phase == "ready"):
            self._ready_since.setdefault(instance, self._now())
        elif state.phase == "exited":
            self._ended.setdefault(instance, self._now())
        if before is None or before.phase != state.phase:
            logger.info("replica", extra={"id": state.id, "phase": state.phase, "owner": state.owner})
        if instance not in self._owners:
            self._wake(STRAY, state.id)

    def states(self, instance: str) -> list[ReplicaState | None]:
        """Of its containers, in order; None: the keeper does not have that one."""
        return [self._states.get(id) for id in self._parts(instance)]

    def whole(self, instance: str) -> Whole:
        """The instance, by its containers' states."""
        names = self._names.get(instance)
        if names:
            return whole(self.states(instance), names)
        state = self._states.get(instance)
        return Whole("planned") if state is None else Whole(state.phase, state.failure, state.missed_pings)

    def ready_since(self, instance: str) -> float | None:
        """Epoch seconds of its first `ready` that this control heard of."""
        return self._ready_since.get(instance)

    def ended_since(self, instance: str) -> float | None:
        """Epoch seconds of the first end among its containers."""
        return self._ended.get(instance)

    def _parts(self, instance: str) -> list[str]:
        names = self._names.get(instance)
        return [container_id(instance, n) for n in range(1, len(names) + 1)] if names else [instance]

    # ---- whose they are

    def own(self, instances: Mapping[str, tuple[str, ...]], owner: str) -> None:
        """`instances`: by id, the names of their containers where there are several."""
        for id, names in instances.items():
            self._owners[id] = owner
            if names:
                self._names[id] = names

    def disown(self, instances: Iterable[str]) -> None:
        """Nobody wants them any more; those that still run are strays."""
        for instance in instances:
            self._owners.pop(instance, None)
            for id in self._parts(instance):
                if id in self._states:
                    self._wake(STRAY, id)
            self._names.pop(instance, None)

    def owners(self) -> set[str]:
        return set(self._owners.values())

    def strays(self) -> list[str]:
        return [id for id in self._states if instance_of(id) not in self._owners]

    # ---- what the keeper is asked

    async def start(self, spec: ReplicaSpec) -> None:
        await self._keeper.start(spec)
        self._states.setdefault(spec.id, ReplicaState(spec.id, spec.owner, "preparing"))

    async def stop(self, instance: str) -> None:
        """Those of its containers that run; one that has ended stays known until the instance is let go."""
        for id in self._parts(instance):
            state = self._states.get(id)
            if state is None or state.phase != "exited" or id == instance:
                await self._keeper.stop(id, self._grace(id))

    async def let_go(self, instances: Iterable[str]) -> None:
        """Have the keeper forget replicas that have ended."""
        for instance in instances:
            for id in self._parts(instance):
                if id in self._states:
                    await self._keeper.stop(id, 0.0)

    def forget(self, instances: Iterable[str]) -> None:
        """They are neither in the store nor at the keeper."""
        for instance in instances:
            for id in self._parts(instance):
                self._drop(id)
            self._owners.pop(instance, None)
            self._names.pop(instance, None)

    async def stop_stray(self, id: str) -> None:
        """A replica that no row knows (any more): stop it, or have the keeper forget it."""
        state = self._states.get(id)
        if instance_of(id) in self._owners or state is None or state.phase == "stopping":
            return
        await self._keeper.stop(id, self._grace(id))
        if state.phase == "exited":
            self._drop(id)

    def _drop(self, id: str) -> None:
        self._states.pop(id, None)
        self._ready_since.pop(instance_of(id), None)
        self._ended.pop(instance_of(id), None)

    def _grace(self, id: str) -> float:
        """Our own host, and whatever is not up yet, is stopped fast; a foreign container has 30 s."""
        state = self._states.get(id)
        foreign = state is not None and state.protocol == "http" and state.phase in ("ready", "unready")
        return FOREIGN_GRACE if foreign else self._own_grace
