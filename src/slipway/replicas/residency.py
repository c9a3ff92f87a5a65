"""The models of one multi-model replica: fetched, unpacked, loaded on first use, unloaded when memory is short.

Beside the replica, in the keeper, and in nobody's request path: gateways send requests for a loaded model to its process
directly. A load is one task, which all who ask for that model share; loads of different models run beside one another. Who has
to go is `core.residency`'s decision, on what the host counted and measured a moment before (containers.md 5.3).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.core.models import (
    FAILED,
    INVALID,
    LATE,
    LOADED,
    MISSING,
    ModelAnswer,
    ModelEvent,
    ModelLoad,
    ModelsSeen,
)
from slipway.core.reasons import sentence
from slipway.core.replicas import Failure, ReplicaSpec
from slipway.core.residency import next_victim, victims
from slipway.replicas.artifacts import Artifacts
from slipway.replicas.failures import CannotRun
from slipway.replicas.model_book import LOADING, HeldModel, ModelBook
from slipway.replicas.model_container import BROKEN, ModelContainer

logger = logging.getLogger(__name__)

LOAD_SECONDS = 360.0
"""AWS's limit for one load, download included."""
SHARE = 0.8
"""Of the instance's memory: what loaded models may take together."""
PARALLEL = 4
"""Loads at a time beside one another, and as many downloads; the rest wait."""
_REPLACED_LOOK = 0.5
_PATIENCE = 0.02
_TRIM_SECONDS = 0.1
_BAD_ARCHIVE = frozenset(("not-an-archive", "hostile-archive", "archive-too-large"))


@dataclass(frozen=True, slots=True)
class House:
    """Where and how the models of one replica live."""

    spec: ReplicaSpec
    folder: str
    """Holds `<hash>/model` for each model; the container sees it as `inside`."""
    inside: str
    address: str
    """For gateways."""
    protocol: str
    budget: int
    """Bytes; 0: unbounded."""
    load_seconds: float = LOAD_SECONDS


class Residency:
    """All models of one replica. `tell` hears what happens to them."""

    def __init__(
        self,
        house: House,
        container: ModelContainer,
        artifacts: Artifacts,
        tell: Callable[[ModelEvent], None],
        *,
        pinned: Callable[[], Sequence[str]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pinned`: targets that stay once they are loaded, as of now."""
        self._house = house
        self._container = container
        self._artifacts = artifacts
        self._tell = tell
        self._clock = clock
        self._book = ModelBook(pinned, clock)
        self._models = self._book.models
        self._downloads = asyncio.Semaphore(PARALLEL)
        self._loads = asyncio.Semaphore(max(PARALLEL, 2 * (os.cpu_count() or 1)))
        self._room = asyncio.Lock()
        """Held while it is decided who goes."""
        self._turn = asyncio.Lock()
        """Held by the load that is next to get room."""
        self._trimming = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def loaded(self) -> int:
        return self._book.loaded

    async def answers(self) -> bool:
        """Whether the container keeps to the contract at all."""
        return await self._container.listed() is not None

    # ---- what is asked

    async def load(self, order: ModelLoad) -> ModelAnswer:
        """Have it loaded, and say where; shared by all who ask. The caller may go: the load goes on."""
        self._book.note(order.uses)
        while not self._closed:
            model = self._models.get(order.hash)
            if model is not None and model.leaving is not None:
                await asyncio.wait([model.leaving])
                continue
            if model is not None and model.state == LOADED and not await self._container.has(order.hash):
                self._lost(order.hash, model)
                continue
            if model is None:
                model = self._models[order.hash] = HeldModel(order)
                model.work = asyncio.get_running_loop().create_task(self._bring(model))
            if model.work is not None:
                await asyncio.wait([model.work])
                if not model.work.cancelled():
                    return model.work.result()
        return ModelAnswer(LATE, order.hash, message="the replica is stopping")

    async def unload(self, hash: str, why: str, *, files: bool = False) -> None:
        """Unless it is in use, or pinned. `files`: what was fetched goes as well."""
        model = self._models.get(hash)
        if model is None or model.state != LOADED or model.leaving is not None or self._book.is_pinned(model):
            return
        await self._refresh()
        if not model.busy and self._models.get(hash) is model and model.leaving is None:
            await self._part(model, why)
            if files:
                await self._artifacts.discard((model.order.artifact,))

    async def seen(self) -> ModelsSeen:
        await self._refresh()
        return ModelsSeen(
            replica=self._house.spec.id,
            budget=self._house.budget,
            used=self._book.bytes,
            measured=self._container.ours,
            models=self._book.seen(),
            evictions=tuple(self._book.evictions),
            pinned=self._book.pinned(),
        )

    async def close(self) -> None:
        """The container is gone, or is about to go: nothing more is loaded; files are let go."""
        self._closed = True
        tasks: list[asyncio.Task[ModelAnswer] | asyncio.Task[None]] = [*self._tasks]
        tasks += [model.work for model in self._models.values() if model.work is not None and not model.work.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for model in self._models.values():
            if model.holding is not None:
                model.holding.release()
        self._models.clear()
        self._container.close()
        await asyncio.to_thread(shutil.rmtree, self._house.folder, True)

    # ---- loading

    async def _bring(self, model: HeldModel) -> ModelAnswer:
        """Fetch and load; nothing of a model that failed stays."""
        order, began = model.order, self._clock()
        answer = ModelAnswer(FAILED, order.hash, message="slipway itself failed; see the keeper's log")
        try:
            async with asyncio.timeout(self._house.load_seconds):
                answer = await self._fetch_and_load(model)
        except TimeoutError:
            seconds = f"{self._house.load_seconds:g}"
            answer = ModelAnswer(FAILED, order.hash, message=f"The model was not loaded within {seconds} seconds.", status=504)
        except CannotRun as error:
            kind, failure = error.failure.kind, error.failure
            state = MISSING if kind == "fetch-missing" else INVALID if kind in _BAD_ARCHIVE else FAILED
            answer = ModelAnswer(state, order.hash, message=_said(failure), status=500)
        except Exception as error:
            logger.exception("model-load-broke", extra={"replica": self._house.spec.id, "model": order.hash})
            answer = ModelAnswer(FAILED, order.hash, message=f"slipway itself failed ({type(error).__name__})", status=500)
        finally:
            if answer.state != LOADED:
                await self._undo(model)
        if answer.state != LOADED:
            self._event(model, "failed", self._clock() - began, answer.state)
        return answer

    async def _undo(self, model: HeldModel) -> None:
        if model.state == LOADING and not self._closed:
            await asyncio.shield(self._container.unload(model.order.hash))
        self._models.pop(model.order.hash, None)
        await self._let_go(model)

    async def _fetch_and_load(self, model: HeldModel) -> ModelAnswer:
        order, began = model.order, self._clock()
        async with self._downloads:
            holding = await self._artifacts.hold((order.artifact,), _silent, self._house.load_seconds)
            model.holding = holding
            place = f"{self._house.folder}/{order.hash}"
            await asyncio.to_thread(_show, holding.path, place)
        self._event(model, "downloaded", self._clock() - began)
        async with self._loads:
            model.state = LOADING
            model.bytes = self._book.expected(order.hash, holding.bytes)
            return await self._load(model)

    async def _load(self, model: HeldModel) -> ModelAnswer:
        house, hash = self._house, model.order.hash
        await self._make_room(model)
        began = self._clock()
        while True:
            reply = await self._container.load(hash, f"{house.inside}/{hash}/model")
            if reply.status in (200, 409):
                break
            if reply.status == BROKEN:
                return ModelAnswer(LATE, hash, message=reply.message)
            if reply.status != 507:
                return ModelAnswer(FAILED, hash, message=reply.message, status=reply.status)
            if reply.alone or not await self._yield_one():
                return ModelAnswer(FAILED, hash, message=reply.message, status=507)
        if self._container.ours:
            model.bytes = reply.bytes or model.bytes
        if house.budget and model.bytes > house.budget:
            text = (
                f"The model takes {_mib(model.bytes)} MiB of memory; models of this instance may take {_mib(house.budget)} MiB."
            )
            return ModelAnswer(FAILED, hash, message=text, status=507)
        self._book.arrived(model)
        self._event(model, "loaded", self._clock() - began)
        self._retire_older(model)
        self._begin_to_trim()
        return ModelAnswer(LOADED, hash, house.address, house.protocol)

    # ---- room

    async def _make_room(self, model: HeldModel) -> None:
        """Until the model, as large as it is expected to be, fits: first come, first served. One alone may always try."""
        if not self._house.budget or not self._container.ours:
            return
        async with self._turn:
            while not await self._admit(model):  # noqa: ASYNC110  those in the way are in use: only asking the host tells
                await asyncio.sleep(_PATIENCE)

    async def _admit(self, model: HeldModel) -> bool:
        budget = self._house.budget
        async with self._room:
            others = self._book.others(model)
            reserved = sum(each.bytes for each in others if each.admitted)
            if self._book.taken(model) + model.bytes > budget:
                await self._refresh()
                going = victims(self._book.residents(), model.bytes, budget, reserved)
                await self._part_all([each.hash for each in going], "memory")
            taken = self._book.taken(model)
            model.admitted = taken + model.bytes <= budget or not taken or self._book.only_pinned(others)
            return model.admitted

    async def _yield_one(self) -> bool:
        """The container's memory is full: unload one, or wait for one to become idle. False: there is none."""
        while True:
            async with self._room:
                await self._refresh()
                victim = next_victim(self._book.residents())
                if victim is not None:
                    await self._part_all([victim.hash], "memory")
                    return True
            if not self._book.any_in_use():
                return False
            await asyncio.sleep(_PATIENCE)

    def _begin_to_trim(self) -> None:
        over = sum(each.bytes for each in self._book.residents()) > self._house.budget > 0
        if over and self._container.ours and not self._trimming:
            self._trimming = True
            self._spawn(self._trim_once())

    async def _trim(self) -> None:
        """Models took more than was expected: unload others, as soon as they are idle."""
        while not self._closed:
            async with self._room:
                await self._refresh()
                residents = self._book.residents()
                going = victims(residents, 0, self._house.budget)
                await self._part_all([each.hash for each in going], "memory")
                left = [each for each in residents if each not in going]
            if sum(each.bytes for each in left) <= self._house.budget or not any(each.busy for each in left):
                return
            await asyncio.sleep(_TRIM_SECONDS)

    async def _trim_once(self) -> None:
        try:
            await self._trim()
        finally:
            self._trimming = False

    async def _refresh(self) -> None:
        """What our host counted; of a foreign container gateways have told (`ModelBook.note`)."""
        if not self._container.ours:
            return
        listed = await self._container.listed()
        if listed is None:
            return
        for hash, model in list(self._models.items()):
            if model.state == LOADED and model.leaving is None:
                counted = listed.get(hash)
                if counted is None:
                    self._lost(hash, model)
                else:
                    self._book.count(hash, model, counted)

    # ---- going

    async def _part_all(self, hashes: Sequence[str], why: str) -> None:
        """In order, one after the other begun; together waited for."""
        parting = [self._part(model, why) for hash in hashes if (model := self._models.get(hash)) is not None]
        await asyncio.gather(*parting)

    async def _part(self, model: HeldModel, why: str) -> None:
        """Unload it; its files stay on the disk for another time."""
        if model.leaving is None:
            model.leaving = asyncio.get_running_loop().create_task(self._unload(model, why))
        await asyncio.shield(model.leaving)

    async def _unload(self, model: HeldModel, why: str) -> None:
        hash, began = model.order.hash, self._clock()
        self._book.went(model, why)
        reply = await self._container.unload(hash)
        if reply.status not in (200, 404):
            logger.warning("model-not-unloaded", extra={"model": hash, "status": reply.status, "said": reply.message[:200]})
        self._models.pop(hash, None)
        await self._let_go(model)
        self._event(model, "unloaded", self._clock() - began, why)

    async def _let_go(self, model: HeldModel) -> None:
        await asyncio.to_thread(shutil.rmtree, f"{self._house.folder}/{model.order.hash}", True)
        if model.holding is not None:
            model.holding.release()
            model.holding = None

    def _lost(self, hash: str, model: HeldModel) -> None:
        """Its process has ended by itself."""
        if self._models.get(hash) is not model:
            return
        del self._models[hash]
        self._book.went(model, "gone")
        self._event(model, "unloaded", 0.0, "gone")
        if model.holding is not None:
            model.holding.release()
            model.holding = None

    def _retire_older(self, model: HeldModel) -> None:
        """Earlier versions of the same target: gateways are told of the new one, and then they go."""
        for other in self._book.replaced_by(model):
            self._spawn(self._outlive(other))

    async def _outlive(self, model: HeldModel) -> None:
        while not self._closed and self._models.get(model.order.hash) is model:
            await asyncio.sleep(_REPLACED_LOOK)
            if model.state == LOADED and model.leaving is None:
                await self._refresh()
                if not model.busy:
                    await self._part(model, "replaced")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _event(self, model: HeldModel, kind: str, seconds: float, why: str = "") -> None:
        spec, order = self._house.spec, model.order
        said = {"event": kind, "replica": spec.id, "model": order.hash, "seconds": round(seconds, 4), "why": why}
        logger.info("model", extra=said)
        place = (spec.id, spec.account, spec.region, spec.endpoint, spec.variant)
        self._tell(ModelEvent(kind, *place, order.target, order.hash, max(0.0, seconds), why))


def _said(failure: Failure) -> str:
    return f"{sentence(failure.message)} {sentence(failure.mend)}".strip()


def _silent(_text: str) -> None:
    """Nobody watches the progress of one model's download."""


def _show(tree: str, place: str) -> None:
    """Let the container see the unpacked files as `<place>/model`: links to them, read-only for it. Blocking."""
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place, mode=0o755)
    with contextlib.suppress(OSError):
        shutil.copytree(tree, f"{place}/model", copy_function=os.link, symlinks=True)
        return
    shutil.rmtree(f"{place}/model", ignore_errors=True)
    shutil.copytree(tree, f"{place}/model", symlinks=True)  # another file system, or links are not allowed


def _mib(count: int) -> int:
    return max(1, round(count / (1024 * 1024)))
