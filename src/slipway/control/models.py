"""Multi-model endpoints in control: which object a target is, who shall load it, and what happens when it changes.

Control resolves and hands on; residency is the keeper's. Nothing here is kept: after a restart gateways ask again, and the
keeper knows what is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from slipway.background import Background
from slipway.control.specs import Missing, ObjectHead
from slipway.core.models import (
    INVALID,
    LATE,
    LOADED,
    MISSING,
    MODELS_DIR,
    ModelAnswer,
    ModelAsk,
    ModelDone,
    ModelLoad,
    ModelMoved,
    ModelPin,
    Models,
    ModelsSeen,
    ModelUnload,
    model_hash,
    target_fault,
)
from slipway.core.rendezvous import ranking
from slipway.core.replicas import Artifact, instance_of
from slipway.core.routing import Endpoint
from slipway.link.channel import LinkClosed, LinkError
from slipway.names import S3Location, parse_s3_uri

logger = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
"""Between two looks at the objects of loaded models, where the store does not tell of changes."""
HEADS = 8
"""Asked of the store at a time."""
MARGIN_SECONDS = 30.0
DOWNLOAD_MESSAGE = (
    "Failed to download model data(bucket: {bucket}, key: {key}). Please ensure that there is an object located at the URL and "
    "that the role passed to CreateModel has permissions to download the object."
)
_LINK = (LinkClosed, LinkError, TimeoutError)


class ModelKeeper(Protocol):
    """`link.keeper.KeeperClient`, or a fake."""

    async def load_model(self, order: ModelLoad, timeout: float) -> ModelAnswer: ...
    async def unload_model(self, order: ModelUnload) -> None: ...
    async def pin_model(self, order: ModelPin) -> bool: ...
    async def keep_pins(self, owners: tuple[str, ...]) -> None: ...
    async def drop_pins(self, owner: str) -> None: ...
    async def models(self, replica: str) -> ModelsSeen | None: ...


class Head(Protocol):
    """As `control.endpoints.Head`."""

    def __call__(self, bucket: str, key: str, *, account: str | None) -> Awaitable[ObjectHead | None]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    keeper: ModelKeeper
    head: Head
    presign: Callable[[str, str, str, int], str]
    routed: Callable[[], Mapping[str, Endpoint]]
    """Endpoints in service, by ARN."""
    tell: Callable[[ModelMoved], Awaitable[None]]
    """To every gateway."""
    load_seconds: float = 360.0


class ModelDesk:
    """Answers gateways and people."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self._heads = asyncio.Semaphore(HEADS)
        self._background = Background()
        self._serving: dict[str, set[str]] = {}
        """Multi-model replicas that were looked at for pins, by endpoint."""

    # ---- gateways

    async def ask(self, ask: ModelAsk) -> ModelAnswer:
        """Find the object, have the replica load it."""
        order = await self._order(ask.replica, ask.models, ask.target, ask.uses)
        return order if isinstance(order, ModelAnswer) else await self._load(order)

    def done(self, done: ModelDone) -> None:
        """A model that is not to stay has answered."""
        self._background.spawn(self._dismiss(ModelUnload(done.replica, done.hash, "disabled", files=True)))

    async def _order(
        self, replica: str, models: Models, target: str, uses: Mapping[str, tuple[float, int]]
    ) -> ModelLoad | ModelAnswer:
        place = _location(models, target)
        if place is None:
            return ModelAnswer(INVALID, message=f"TargetModel {target[:63]} names no object below {models.prefix}")
        try:
            head = await self._world.head(place.bucket, place.key, account=models.account)
        except Missing as error:
            logger.warning("model-store-unavailable", extra={"error": error.failure.message})
            return ModelAnswer(LATE, message=error.failure.message)
        if head is None:
            return ModelAnswer(MISSING, message=DOWNLOAD_MESSAGE.format(bucket=place.bucket, key=place.key))
        etag = head.etag.strip('"')
        seconds = int(self._world.load_seconds) + 600
        url = self._world.presign(models.account, place.bucket, place.key, seconds)
        hash = model_hash(models.prefix, target, etag)
        artifact = Artifact(f"{MODELS_DIR}/{hash}", f"s3://{place.bucket}/{place.key}", url, etag, head.size)
        return ModelLoad(replica, target, hash, artifact, uses)

    async def _load(self, order: ModelLoad) -> ModelAnswer:
        try:
            answer = await self._world.keeper.load_model(order, self._world.load_seconds + MARGIN_SECONDS)
        except _LINK as error:
            return ModelAnswer(LATE, order.hash, message=f"the keeper does not answer: {error!r}")
        if answer.state == MISSING:
            place = parse_s3_uri(order.artifact.source) or S3Location("", "")
            return ModelAnswer(MISSING, order.hash, message=DOWNLOAD_MESSAGE.format(bucket=place.bucket, key=place.key))
        return answer

    async def _dismiss(self, order: ModelUnload) -> None:
        with contextlib.suppress(*_LINK):
            await self._world.keeper.unload_model(order)

    # ---- changed objects

    def written(self, bucket: str, key: str) -> None:
        """The embedded store has a new object there: replicas that have the old one load it, and then gateways are told."""
        for models, replicas in self._parts():
            if (target := _target(models, bucket, key)) is not None:
                self._background.spawn(self._renew(models, replicas, {target}))

    async def watch(self) -> None:
        """For a store that does not tell: look, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for models, replicas in self._parts():
                with contextlib.suppress(*_LINK):
                    await self._renew(models, replicas, None)

    async def _renew(self, models: Models, replicas: Sequence[str], targets: set[str] | None) -> None:
        """All these replicas; `targets` None: all that each has."""
        for replica in replicas:
            with contextlib.suppress(*_LINK):
                seen = await self._world.keeper.models(replica)
                rows = seen.models if seen is not None else ()
                current = {row.target: row.etag for row in rows if targets is None or row.target in targets}
                await asyncio.gather(*(self._renew_one(replica, models, *each) for each in current.items()))

    async def _renew_one(self, replica: str, models: Models, target: str, etag: str) -> None:
        async with self._heads:
            order = await self._order(replica, models, target, {})
        if isinstance(order, ModelAnswer) or order.artifact.etag == etag:
            return  # one that was deleted goes on answering until it has to make room
        answer = await self._load(order)
        logger.info("model-changed", extra={"replica": replica, "model": order.hash, "state": answer.state})
        if answer.state == LOADED:
            await self._world.tell(ModelMoved(replica, target, answer))

    def _parts(self) -> list[tuple[Models, list[str]]]:
        """Of all endpoints."""
        return [part for e in self._world.routed().values() for variant in e.variants for part in variant.model_parts()]

    # ---- people

    async def seen(self, arn: str) -> list[tuple[str, Models, list[ModelsSeen]]] | None:
        """Variants of a multi-model endpoint with what their replicas have; None: it is none, or not in service."""
        found = []
        for variant, models, replicas in self._of(arn):
            seen = [await self._world.keeper.models(replica) for replica in replicas]
            found.append((variant, models, [each for each in seen if each is not None]))
        return found or None

    async def preload(self, arn: str, target: str, *, pin: bool, everywhere: bool = False) -> list[ModelAnswer] | None:
        """Have it loaded by the replica that its requests go to first (or by all), and with `pin` kept by all that have it.

        None: there is no such endpoint. What cannot be loaded is not pinned. Empty: no replica is ready.
        """
        parts = self._of(arn)
        answers = []
        for variant, models, replicas in parts:
            ids = _ranked(target, replicas)
            for id in ids if everywhere else ids[:1]:
                answers.append(await self._preload(id, models, target, ModelPin(arn, variant, target, True) if pin else None))
        return answers if parts else None

    async def _preload(self, replica: str, models: Models, target: str, pin: ModelPin | None) -> ModelAnswer:
        """Pinned before it is loaded, so that whoever unpins it meanwhile has the last word."""
        order = await self._order(replica, models, target, {})
        if isinstance(order, ModelAnswer):
            return order
        if pin is not None and pin.owner not in self._world.routed():
            return ModelAnswer(LATE, order.hash, message="the endpoint is gone")
        changed = pin is not None and await self._world.keeper.pin_model(pin)
        answer = await self._load(order)
        if pin is not None and changed and answer.state != LOADED:
            await self._world.keeper.pin_model(replace(pin, pinned=False))
        return answer

    async def unpin(self, arn: str, target: str) -> bool | None:
        """Whether it was pinned; None: there is no such endpoint."""
        parts = self._of(arn)
        changed = [await self._world.keeper.pin_model(ModelPin(arn, variant, target, False)) for variant, _, _ in parts]
        return any(changed) if parts else None

    # ---- pins

    def adopted(self, arns: Iterable[str]) -> None:
        """The keeper is (again) there: these endpoints are all there are."""
        self._background.spawn(self._quietly(self._world.keeper.keep_pins(tuple(arns))))

    def forget(self, arn: str) -> None:
        """The endpoint is gone. A keeper that is away hears it by `adopted`."""
        self._serving.pop(arn, None)
        self._background.spawn(self._quietly(self._world.keeper.drop_pins(arn)))

    def routed(self, arn: str) -> None:
        """Gateways know the endpoint as it is now: instances that came have pinned models loaded."""
        parts = self._of(arn)
        serving = {replica for _, _, replicas in parts for replica in replicas}
        fresh = serving - self._serving.get(arn, set())
        if serving:
            self._serving[arn] = serving
        for _, models, replicas in parts:
            if came := fresh.intersection(replicas):
                self._background.spawn(self._quietly(self._restore(models, replicas, came)))

    async def _restore(self, models: Models, replicas: Sequence[str], came: set[str]) -> None:
        """What is pinned: by the first in its order, and by those that came if all others have it."""
        seen = {id: found for id in replicas if (found := await self._world.keeper.models(id)) is not None}
        has = {id: {row.target for row in found.models} for id, found in seen.items()}
        for target in sorted({target for found in seen.values() for target in found.pinned}):
            others = [id for id in has if id not in came]
            wanted = {_ranked(target, has)[0]}
            if others and all(target in has[id] for id in others):
                wanted |= came.intersection(has)
            for id in sorted(id for id in wanted if target not in has[id]):
                order = await self._order(id, models, target, {})
                answer = order if isinstance(order, ModelAnswer) else await self._load(order)
                logger.info("pinned-model-loaded", extra={"replica": id, "model": answer.hash, "state": answer.state})

    async def _quietly(self, work: Awaitable[None]) -> None:
        with contextlib.suppress(*_LINK):
            await work

    def _of(self, arn: str) -> list[tuple[str, Models, list[str]]]:
        endpoint = self._world.routed().get(arn)
        variants = endpoint.variants if endpoint is not None else ()
        return [(variant.name, *part) for variant in variants for part in variant.model_parts()]

    async def close(self) -> None:
        await self._background.close()


def _ranked(target: str, replicas: Iterable[str]) -> list[str]:
    """Keeper's ids as gateways order them: by the instance."""
    by_instance = {instance_of(id): id for id in replicas}
    return [by_instance[instance] for instance in ranking(target, by_instance)]


def _location(models: Models, target: str) -> S3Location | None:
    place = parse_s3_uri(models.prefix)
    if place is None or target_fault(target) is not None:
        return None
    return S3Location(place.bucket, place.key + target)


def _target(models: Models, bucket: str, key: str) -> str | None:
    """The target that the object is, for these models; None: it is not theirs."""
    place = parse_s3_uri(models.prefix)
    if place is None or place.bucket != bucket or not key.startswith(place.key) or key == place.key:
        return None
    return key[len(place.key) :]
