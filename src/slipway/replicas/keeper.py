"""All replicas of one node: what `link.keeper` serves. It carries out and remembers; it decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from slipway.core.models import LATE, ModelAnswer, ModelEvent, ModelLoad, ModelPin, ModelsSeen, ModelUnload
from slipway.core.replicas import ReplicaSpec, ReplicaState, Usage
from slipway.replicas import usage
from slipway.replicas.launch import Tools
from slipway.replicas.pins import Pins
from slipway.replicas.supervise import PING_EVERY, Replica

logger = logging.getLogger(__name__)

REMEMBERED = 2000
"""Replicas that have exited and that nobody asked to forget yet."""


class Keeper:
    """Start, stop, list: all safe to repeat, by id."""

    def __init__(self, tools: Tools, *, ping_every: float = PING_EVERY) -> None:
        self._tools = tools
        self._ping_every = ping_every
        self._replicas: dict[str, Replica] = {}
        self._subscribers: list[Callable[[ReplicaState], None]] = []
        self._closing = False
        self._pins = Pins(f"{tools.models_dir}/pins.json" if tools.models_dir else None)
        self._model_subscribers: list[Callable[[ModelEvent], None]] = []

    async def start(self, spec: ReplicaSpec) -> None:
        """Begin to start it; an id that is known, also as exited, changes nothing."""
        if spec.id in self._replicas or self._closing:
            return
        logger.info("replica-start", extra={"replica": spec.id, "owner": spec.owner, "image": spec.image})
        self._replicas[spec.id] = Replica(
            spec,
            self._tools,
            self._tell,
            ping_every=self._ping_every,
            told=self._tell_model,
            pinned=lambda: self._pins.of(spec.owner, spec.variant),
        )
        self._forget_oldest()

    async def stop(self, id: str, grace: float) -> None:
        """Begin to stop it. One that has exited is forgotten."""
        replica = self._replicas.get(id)
        if replica is None:
            return
        if replica.state.phase == "exited":
            del self._replicas[id]
        else:
            logger.info("replica-stop", extra={"replica": id, "grace": grace})
            replica.stop(grace)

    def list(self) -> list[ReplicaState]:
        return [replica.state for replica in self._replicas.values()]

    async def usage(self) -> Sequence[Usage]:
        """What each replica that runs uses; files of /proc and of cgroups are read in a thread."""
        running = [source for replica in self._replicas.values() if (source := replica.measured()) is not None]
        return await asyncio.to_thread(usage.measure, running)

    async def load_model(self, order: ModelLoad) -> ModelAnswer:
        """Have a replica load a model; LATE for a replica that is not (or no more) there."""
        replica = self._replicas.get(order.replica)
        if replica is None or replica.residency is None:
            return ModelAnswer(LATE, order.hash, message="the replica does not serve")
        return await replica.residency.load(order)

    async def unload_model(self, order: ModelUnload) -> None:
        """Unless it is in use."""
        replica = self._replicas.get(order.replica)
        if replica is not None and replica.residency is not None:
            await replica.residency.unload(order.hash, order.why, files=order.files)

    async def pin_model(self, order: ModelPin) -> bool:
        """Keep a model once it is loaded, or not any more; in all instances of the endpoint's variant on this node, also later
        ones. Whether that changed anything."""
        return await self._pins.set(order.owner, order.variant, order.target, order.pinned)

    async def keep_pins(self, owners: Sequence[str]) -> None:
        """These endpoints are all there are."""
        await self._pins.keep(frozenset(owners))

    async def drop_pins(self, owner: str) -> None:
        """An endpoint is gone: one of the same name later on is another."""
        await self._pins.drop(owner)

    async def models(self, replica: str) -> ModelsSeen | None:
        """None: there is no such multi-model replica."""
        found = self._replicas.get(replica)
        return await found.residency.seen() if found is not None and found.residency is not None else None

    def subscribe_models(self, callback: Callable[[ModelEvent], None]) -> Callable[[], None]:
        self._model_subscribers.append(callback)
        return lambda: self._model_subscribers.remove(callback)

    def _tell_model(self, event: ModelEvent) -> None:
        for callback in list(self._model_subscribers):
            callback(event)

    def subscribe(self, callback: Callable[[ReplicaState], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def close(self, grace: float) -> None:
        """Stop every replica, all at once; returns when none is left."""
        self._closing = True
        alive = [replica for replica in self._replicas.values() if replica.state.phase != "exited"]
        for replica in alive:
            replica.stop(grace)
        await asyncio.gather(*(replica.ended() for replica in alive))
        await self._tools.artifacts.close()

    def kill(self) -> None:
        """Everything, now."""
        for replica in self._replicas.values():
            if replica.state.phase != "exited":
                replica.kill()

    def _tell(self, state: ReplicaState) -> None:
        for callback in list(self._subscribers):
            callback(state)

    def _forget_oldest(self) -> None:
        exited = [id for id, replica in self._replicas.items() if replica.state.phase == "exited"]
        for id in exited[: max(0, len(exited) - REMEMBERED)]:
            del self._replicas[id]
