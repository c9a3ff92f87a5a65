"""The book of one multi-model replica's models: what is here, how large, how used, what is on its way, and what went.

Bookkeeping alone: `residency` fetches, loads and unloads, and writes it down here; who has to go is decided on what this says.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from slipway.core.models import LOADED, Eviction, ModelAnswer, ModelLoad, ModelSeen
from slipway.core.residency import Resident
from slipway.replicas.artifacts import Holding
from slipway.replicas.model_container import Counted

KEPT_EVICTIONS = 500
FRESH_SECONDS = 1.0
"""How long a model that nobody has used yet counts as in use: who asked for it is on the way, and must not find it gone."""
DOWNLOADING, LOADING = "downloading", "loading"
_KEPT_SIZES = 10_000


@dataclass(slots=True)
class HeldModel:
    """One model that is here, or comes."""

    order: ModelLoad
    state: str = DOWNLOADING
    work: asyncio.Task[ModelAnswer] | None = None
    holding: Holding | None = None
    bytes: int = 0
    """Measured once loaded; before that what it is expected to need."""
    admitted: bool = False
    """There is room for it, or is about to be."""
    uses: int = 0
    used: float = 0.0
    since: float = 0.0
    """When it was loaded."""
    busy: bool = False
    replaced: bool = False
    leaving: asyncio.Task[None] | None = None


class ModelBook:
    """`models` by hash. `pinned`: targets that stay once they are loaded, as of now."""

    def __init__(self, pinned: Callable[[], Sequence[str]], clock: Callable[[], float]) -> None:
        self.models: dict[str, HeldModel] = {}
        self.evictions: deque[Eviction] = deque(maxlen=KEPT_EVICTIONS)
        """Newest last."""
        self._pinned = pinned
        self._clock = clock
        self._sizes: dict[str, int] = {}
        """Bytes of models that were here, by hash."""

    # ---- what happens

    def arrived(self, model: HeldModel) -> None:
        model.state, model.since = LOADED, self._clock()
        model.used = model.since
        model.admitted = False

    def count(self, hash: str, model: HeldModel, counted: Counted) -> None:
        """What our own host counted."""
        model.bytes = counted.bytes or model.bytes
        model.uses, model.busy = counted.uses, counted.busy
        model.used = max(model.used, counted.used)

    def note(self, uses: Mapping[str, tuple[float, int]]) -> None:
        """What a gateway knows of models in a container that does not count."""
        now = self._clock()
        for hash, (ago, in_flight) in uses.items():
            model = self.models.get(hash)
            if model is not None:
                model.used = max(model.used, now - ago)
                model.busy = in_flight > 0

    def went(self, model: HeldModel, why: str) -> None:
        """Remember it. It is struck out by whoever unloads it, once that is done."""
        hash = model.order.hash
        self._sizes[hash] = model.bytes
        if len(self._sizes) > _KEPT_SIZES:
            del self._sizes[next(iter(self._sizes))]
        self.evictions.append(Eviction(time.time(), model.order.target, hash, model.bytes, model.uses, why))

    def replaced_by(self, model: HeldModel) -> list[HeldModel]:
        """Earlier versions of the same target, each told once."""
        target = model.order.target
        older = [each for each in self.models.values() if each is not model and each.order.target == target]
        fresh = [each for each in older if not each.replaced]
        for each in fresh:
            each.replaced = True
        return fresh

    # ---- what follows

    @property
    def loaded(self) -> int:
        return sum(model.state == LOADED for model in self.models.values())

    @property
    def bytes(self) -> int:
        """Of all that is loaded."""
        return sum(model.bytes for model in self.models.values() if model.state == LOADED)

    def others(self, model: HeldModel) -> list[HeldModel]:
        return [each for each in self.models.values() if each is not model]

    def taken(self, but: HeldModel) -> int:
        """Bytes of all others that are loaded, or are let in."""
        return sum(each.bytes for each in self.others(but) if each.admitted or each.state == LOADED)

    def is_pinned(self, model: HeldModel) -> bool:
        return model.order.target in self._pinned()

    def only_pinned(self, models: Iterable[HeldModel]) -> bool:
        """All are loaded and stay: nothing will ever make room."""
        pinned = frozenset(self._pinned())
        return all(each.state == LOADED and each.order.target in pinned and not each.admitted for each in models)

    def expected(self, hash: str, unpacked: int) -> int:
        """Bytes: what it took the last time, else what others take, and no less than its files."""
        known = [each.bytes for each in self.models.values() if each.state == LOADED]
        return self._sizes.get(hash) or max(unpacked, sum(known) // len(known) if known else 0)

    def residents(self) -> list[Resident]:
        """Those that are loaded and stay so far, as `core.residency` looks at them."""
        fresh, pinned = self._clock() - FRESH_SECONDS, frozenset(self._pinned())
        return [
            Resident(hash, model.bytes, model.used, _in_use(model, fresh), model.order.target in pinned, model.replaced)
            for hash, model in self.models.items()
            if model.state == LOADED and model.leaving is None
        ]

    def any_in_use(self) -> bool:
        fresh = self._clock() - FRESH_SECONDS
        return any(_in_use(model, fresh) for model in self.models.values())

    def seen(self) -> tuple[ModelSeen, ...]:
        """A row for each, for people."""
        now, pinned = self._clock(), frozenset(self._pinned())
        return tuple(
            ModelSeen(
                target=model.order.target,
                hash=hash,
                etag=model.order.artifact.etag.strip('"'),
                state=model.state,
                bytes=model.bytes,
                uses=model.uses,
                idle=max(0.0, now - model.used) if model.used else 0.0,
                busy=model.busy,
                pinned=model.order.target in pinned,
            )
            for hash, model in self.models.items()
        )

    def pinned(self) -> tuple[str, ...]:
        return tuple(sorted(self._pinned()))


def _in_use(model: HeldModel, fresh: float) -> bool:
    return model.busy or (model.since > fresh and model.used <= model.since)
