"""The data-log of a transform job's instances: what holds for it, how far it is, which objects failed and why."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from slipway.backing.logs import AlreadyExists, Logs, NoGroup, NoStream
from slipway.core.transforms import LOG_GROUP

logger = logging.getLogger(__name__)

MOST_LINES = 10_000
"""That wait to be written; more are counted and dropped."""
FLUSH_SECONDS = 0.1
_MESSAGE_LINES = 50

Stream = tuple[str, str, str]
"""Account, region, name."""


class TransformLog:
    """`say` from anywhere in the loop."""

    def __init__(self, logs: Logs, now: Callable[[], float]) -> None:
        self._logs = logs
        self._now = now
        self._lines: dict[Stream, list[tuple[int, str]]] = {}
        self._waiting = 0
        self._dropped = 0
        self._writing: asyncio.Task[None] | None = None

    def say(self, account: str, region: str, stream: str, lines: Sequence[str]) -> None:
        """Append lines, marked as AWS marks them, to the stream's data-log."""
        now = self._now()
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        if self._waiting + len(lines) > MOST_LINES:
            self._dropped += len(lines)
            return
        self._waiting += len(lines)
        found = self._lines.setdefault((account, region, f"{stream}/data-log"), [])
        found += [(int(now * 1000), f"{stamp}:[sagemaker logs]: {line}") for line in lines]
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._write()

    async def _write_later(self) -> None:
        while self._lines:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._write()

    async def _write(self) -> None:
        lines, self._lines, self._waiting = self._lines, {}, 0
        if self._dropped:
            logger.warning("transform-log-lines-dropped", extra={"lines": self._dropped})
            self._dropped = 0
        for stream, events in lines.items():
            try:
                await asyncio.to_thread(self._append, stream, events)
            except (OSError, NoGroup, NoStream) as error:
                logger.warning("transform-log-not-written", extra={"stream": stream[2], "error": str(error)})

    def _append(self, stream: Stream, events: Sequence[tuple[int, str]]) -> None:
        account, region, name = stream
        try:
            self._logs.append(account, region, LOG_GROUP, name, events)
        except (NoGroup, NoStream):
            with contextlib.suppress(AlreadyExists):
                self._logs.create_group(account, region, LOG_GROUP)
            with contextlib.suppress(AlreadyExists):
                self._logs.create_stream(account, region, LOG_GROUP, name)
            self._logs.append(account, region, LOG_GROUP, name, events)


def failure_lines(bucket: str, key: str, cause: str, detail: str) -> Iterator[str]:
    """Of an object that failed (containers.md 7.4)."""
    where = f"{bucket}/{key}"
    yield f"{where}: {cause}"
    if detail:
        yield f"{where}: "
        yield f"{where}: Message:"
        for line in detail.splitlines()[:_MESSAGE_LINES]:
            yield f"{where}: {line}"
