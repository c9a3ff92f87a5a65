"""Which models of which endpoint are pinned on this node: kept in a file, so that a replaced replica keeps them as well.

The one place where it is known: replicas look here whenever they decide who has to go, and keep no list of their own, so that
whatever was said last holds, however long it takes to load a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Collection, Sequence

logger = logging.getLogger(__name__)


class Pins:
    """By the endpoint's ARN and variant. `path` None: in memory alone."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._pins: dict[str, list[str]] = {}
        self._saving = asyncio.Lock()
        if path is not None:
            with contextlib.suppress(OSError, ValueError), open(path) as file:
                self._pins = {str(key): [str(each) for each in value] for key, value in json.load(file).items()}

    def of(self, owner: str, variant: str) -> tuple[str, ...]:
        return tuple(self._pins.get(f"{owner}/{variant}", ()))

    async def set(self, owner: str, variant: str, target: str, pinned: bool) -> bool:
        """Whether that changed anything. It holds at once, and is durable as far as a rename is: a wish about speed."""
        key = f"{owner}/{variant}"
        if (target in self._pins.get(key, ())) == pinned:
            return False
        targets = [each for each in self._pins.get(key, []) if each != target]
        if pinned:
            targets.append(target)
        if targets:
            self._pins[key] = targets
        else:
            self._pins.pop(key, None)
        await self._save()
        return True

    async def keep(self, owners: Collection[str]) -> None:
        """Forget those of all other endpoints."""
        await self._forget([key for key in self._pins if key.rpartition("/")[0] not in owners])

    async def drop(self, owner: str) -> None:
        """Forget those of an endpoint that is gone."""
        await self._forget([key for key in self._pins if key.rpartition("/")[0] == owner])

    async def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            del self._pins[key]
        if keys:
            await self._save()

    async def _save(self) -> None:
        if self._path is None:
            return
        async with self._saving:
            try:
                await asyncio.to_thread(_write, self._path, json.dumps(self._pins))
            except OSError as error:
                logger.warning("pins-not-saved", extra={"error": str(error)})


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
