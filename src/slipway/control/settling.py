"""Settlements where control commits them: content that was staged stays, and one that breaks a transaction breaks no other."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from slipway.core.asynchronous import Staged
from slipway.link.channel import LinkError
from slipway.store.db import StoreError

logger = logging.getLogger(__name__)

Word = TypeVar("Word")
"""A dispatcher's, on one piece of work."""
Done = TypeVar("Done")
"""What a transaction did."""


class Shelves(Protocol):
    """The embedded object store, as far as settlements concern it (`backing.objects_embedded`)."""

    def holding(self, staged: Sequence[Staged]) -> AbstractAsyncContextManager[Sequence[Staged]]: ...

    def retire(self, blobs: Sequence[str]) -> None: ...


@contextlib.asynccontextmanager
async def holding(shelves: Shelves | None, staged: Sequence[Staged]) -> AsyncIterator[Sequence[Staged]]:
    """Nobody sweeps these blobs away meanwhile; gives what has lost its own already. `shelves` None: the store is external."""
    if shelves is None or not any(each.segments for each in staged):
        yield ()
        return
    async with shelves.holding(staged) as gone:
        yield gone


async def commit(
    words: Sequence[Word],
    write: Callable[[Sequence[Word]], Awaitable[Done]],
    committed: Callable[[Done], Sequence[bool]],
    unsettleable: Callable[[Word], Word],
) -> tuple[bool, ...]:
    """Whether each counts. All in one transaction (`write`); if one of them breaks it, each in its own.

    What breaks even that is written as what `unsettleable` makes of it; and if that cannot be written either, its lease runs
    out, and it is tried again. StoreError: nothing is committed of what is left.
    """
    try:
        done = await write(words)
    except StoreError:
        raise
    except Exception:
        logger.exception("settlement-failed", extra={"outcomes": len(words)})
    else:
        return tuple(committed(done))
    if len(words) > 1:
        return tuple([(await commit([word], write, committed, unsettleable))[0] for word in words])
    made = unsettleable(words[0])
    return (False,) if words[0] == made else await commit([made], write, committed, unsettleable)


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """To a peer, a store that does not answer is an error of the link: it tries again."""
    try:
        yield
    except StoreError as error:
        raise LinkError("store", str(error)) from error
