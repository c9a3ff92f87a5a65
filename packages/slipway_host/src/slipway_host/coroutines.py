"""`async def` functions of a script, called by a worker that blocks: one event loop per worker, kept between requests."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, Callable


class Loops:
    """The loop of this process. A forked copy makes its own: a loop's descriptors must not be shared."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0

    def run(self, awaitable: Any) -> Any:
        if self._loop is None or self._owner != os.getpid():
            self._loop = asyncio.new_event_loop()
            self._owner = os.getpid()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(awaitable)


def blocking(function: Callable[..., Any], loops: Loops) -> Callable[..., Any]:
    """The same function for callers that cannot await; an async iterator it gives becomes an ordinary one."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        result = function(*args)
        if inspect.isawaitable(result):
            result = loops.run(result)
        if isinstance(result, tuple) and result and hasattr(result[0], "__anext__"):
            return (_drained(loops, result[0]), *result[1:])
        return _drained(loops, result) if hasattr(result, "__anext__") else result

    return call


def _drained(loops: Loops, source: AsyncIterator[Any]) -> Iterator[Any]:
    try:
        while True:
            try:
                piece = loops.run(source.__anext__())
            except StopAsyncIteration:
                return
            yield piece
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            loops.run(close())
