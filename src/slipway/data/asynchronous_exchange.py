"""One claimed request: its input, a container's answer, the staged output; and what became of it, as an Outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from slipway.backing.objects import Reading, Span
from slipway.backing.objects_errors import ObjectsError
from slipway.backing.objects_staging import Staging
from slipway.core.asynchronous import INCLUDED_BODY, AsyncOptions, CauseKind, Claimed, Outcome, Spent, Staged
from slipway.data import invoke
from slipway.data.asynchronous_calls import UNBEGUN, UNSENT, Answer, AsyncCall, Input, InputBroke, Silent
from slipway.data.asynchronous_pipelines import AsyncPipeline
from slipway.data.asynchronous_places import AsyncVariant
from slipway.data.asynchronous_walks import AsyncWalk, Overfull, beginning, type_of
from slipway.http.body import IncomingBody
from slipway.http.messages import Headers
from slipway.http.render import clean_value
from slipway.names import parse_s3_uri
from slipway_host.frames import MAX_BODY

logger = logging.getLogger(__name__)
T = TypeVar("T")

SAID = 64 * 1024
"""Bytes kept of what a model says with an error."""
FRUITLESS = 10
"""Claims without an attempt, after which a worker's death before it begins is no accident: receiving the input may kill it."""
QUOTED = 2048
"""Characters of that in the cause."""
UNTYPED = "binary/octet-stream"
"""S3's content type of an object that was put without one."""
_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before a store that is away is asked again."""
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container {container}: it did not answer within {seconds} s "
    "(InvocationTimeoutSeconds). Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and "
    "try again."
)


class _Failed(Exception):
    """It ends as `failed`."""

    def __init__(self, kind: CauseKind, cause: str, status: int = 0, answer: bytes | None = None) -> None:
        super().__init__(cause)
        self.kind = kind
        self.cause = cause
        self.status = status
        self.answer = answer


@dataclass(slots=True)
class Timing:
    """Seconds; `started` is an epoch."""

    started: float | None = None
    instance: str = ""
    download: float | None = None
    model: float | None = None
    upload: float | None = None
    containers: tuple[Spent, ...] = ()
    """Of a pipeline."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an exchange works with; `told` hears when a container has the request."""

    staging: Callable[[], Awaitable[Staging]]
    now: Callable[[], float]
    body_bytes: int
    """Most of an input and of an output."""


class Exchange:
    """`await exchange.run(variant, options)`, once. `freed` is called as soon as the container is done with it."""

    def __init__(
        self, claimed: Claimed, world: Surroundings, began: Callable[[Exchange], None], freed: Callable[[], None]
    ) -> None:
        self.claimed = claimed
        self.timing = Timing()
        self.variant = ""
        self._world = world
        self._began = began
        self._freed = freed
        self._walk: AsyncWalk | None = None
        self._reading: Reading | None = None
        self._container = ""
        """The one that has the request."""

    @property
    def begun(self) -> bool:
        """A container has (had) it."""
        return self.timing.started is not None

    async def run(self, slots: AsyncVariant, options: AsyncOptions) -> Outcome:
        """Never raises for the request's sake; cancelled, it lets go of the container and of what it staged."""
        self.variant = slots.variant.name
        try:
            content_type, source = await self._input()
            answer = await self._ask(slots, content_type, source)
            return await self._answered(slots, options, answer)
        except _Failed as failed:
            return self.outcome(
                "failed", failed.kind, failed.cause, status=failed.status, answer=failed.answer if failed.answer else None
            )
        except Silent as silent:
            return self._silent(silent.why)
        finally:
            if self._walk is not None:
                self._walk.cancel()
            if self._reading is not None:
                self._reading.close()
            self._freed()

    def outcome(
        self,
        kind: str,
        cause_kind: CauseKind = "",
        cause: str = "",
        *,
        status: int = 0,
        answer: bytes | None = None,
        content_type: str = "",
        staged: Staged | None = None,
    ) -> Outcome:
        timing, claimed = self.timing, self.claimed
        return Outcome(
            claimed.id,
            claimed.lease,
            kind,  # type: ignore[arg-type]
            cause_kind,
            cause,
            status,
            content_type,
            staged,
            answer,
            self.variant,
            timing.instance,
            timing.started,
            self._world.now(),
            timing.download,
            timing.model,
            timing.upload,
            timing.containers,
        )

    # ---- input

    async def _input(self) -> tuple[str | None, Input]:
        claimed = self.claimed
        if claimed.body is not None:
            return claimed.content_type, Input(len(claimed.body), claimed.body)
        where = parse_s3_uri(claimed.input_location or "")
        if where is None:
            raise _Failed("download", f"The input location {claimed.input_location} is not an S3 address.")
        began = perf_counter()
        try:
            staging = await self._world.staging()
            reading = await _persistently(lambda: staging.open(where.bucket, where.key, claimed.account))
            self._reading = reading
            size = reading.info.size
            if size > self._world.body_bytes:
                text = f"The input object {claimed.input_location} has {size} bytes"
                raise _Failed("download", f"{text}; at most {self._world.body_bytes} are allowed.")
            data = await _small(reading) if size <= MAX_BODY else None
        except (ObjectsError, OSError) as error:
            raise self._unreadable(error) from error
        self.timing.download = perf_counter() - began
        content_type = claimed.content_type or reading.info.attributes.headers.get("ContentType") or UNTYPED
        return content_type, Input(size, data, None if data is not None else self._pieces)

    async def _pieces(self) -> AsyncIterator[bytes]:
        reading, self._reading = self._reading, None  # from the first piece on this closes it
        assert reading is not None
        async with aclosing(reading.read(Span(0, reading.info.size))) as pieces:
            async for piece in pieces:
                yield piece

    def _unreadable(self, error: Exception) -> _Failed:
        where = parse_s3_uri(self.claimed.input_location or "")
        place = f" (bucket {where.bucket}, key {where.key})" if where is not None else ""
        what = f"{error.code}: {error.message}" if isinstance(error, ObjectsError) else str(error)
        text = f"The input object {self.claimed.input_location} could not be read{place}. {what}"
        return _Failed("download", text)

    # ---- container

    async def _ask(self, slots: AsyncVariant, content_type: str | None, source: Input) -> Answer:
        """The answer of the last container, or of the first that refuses."""
        if isinstance(slots, AsyncPipeline):
            instance = await slots.enter()
            try:
                answer = await self._through(instance.stages, content_type, source)
            finally:
                slots.leave(instance)
            slots.measured(self.timing.model or 0.0)
        else:
            answer = await self._through((slots,), content_type, source)
        if isinstance(answer.body, bytes):
            self._freed()
        return answer

    async def _through(self, stages: Sequence[AsyncVariant], content_type: str | None, source: Input) -> Answer:
        claimed, between = self.claimed, stages[0].limits.between_bytes
        walk = AsyncWalk(stages, self._given(), claimed.timeout, self._begins, between=between, make=self._make)
        self._walk = walk
        try:
            return await walk.run(content_type, source)
        except InputBroke as broke:
            cause = broke.__cause__
            raise self._unreadable(cause if isinstance(cause, Exception) else broke) from broke
        except Overfull as error:
            raise _overfull(error) from error
        finally:
            self._container = walk.stage.variant.container
            self.timing.model = walk.seconds
            if len(stages) > 1:
                self.timing.containers = tuple(walk.spent)

    def _make(self, head: bytes, source: Input, seconds: float, on_begin: Callable[[AsyncCall], None]) -> AsyncCall:
        # A second attempt goes alone: it, or another one of its batch, may have killed its worker.
        call = AsyncCall(head, source, seconds, on_begin, alone=self.claimed.attempt > 1)
        call.expired = self._expired
        return call

    def _expired(self) -> bool:
        return self.claimed.expires <= self._world.now()

    def _begins(self, call: AsyncCall) -> None:
        assert call.lane is not None
        self.timing.started = self._world.now()
        self.timing.instance = call.lane.instance
        self._began(self)

    def _given(self) -> Headers:
        """The caller's headers, but for the content type."""
        claimed = self.claimed
        pairs = (
            (b"accept", claimed.accept),
            (b"X-Amzn-SageMaker-Custom-Attributes", claimed.custom_attributes),
            (b"X-Amzn-SageMaker-Inference-Id", claimed.inference_id),
        )
        found = [(name, value.encode("latin-1", "replace")) for name, value in pairs if value is not None]
        return [(name, value) for name, value in found if clean_value(value)]

    def _silent(self, why: str) -> Outcome:
        container = self._container
        accident = why != UNBEGUN or self.claimed.lease - self.claimed.attempt < FRUITLESS
        if why == UNSENT or (accident and not self.begun):
            return self.outcome("released")
        if why == invoke.TIMEOUT:
            return self.outcome("failed", "timeout", _TIMED_OUT.format(container=container, seconds=self.claimed.timeout))
        if why == invoke.BROKEN:
            text = f"The handler of container {container} failed in the middle of its answer."
            return self.outcome("failed", "model-error", text)
        if why == invoke.TOO_LARGE:
            return self.outcome("failed", "too-large", self._too_large())
        return self.outcome("lost", "no-answer", "An error occurred while handling request as the model process exited.")

    def _too_large(self) -> str:
        return f"The model's answer is larger than the {self._world.body_bytes} bytes that an asynchronous answer may have."

    # ---- output

    async def _answered(self, slots: AsyncVariant, options: AsyncOptions, answer: Answer) -> Outcome:
        if not 200 <= answer.status < 300:
            raise await self._refusal(self._container, answer)
        content_type = type_of(answer)
        where = parse_s3_uri(self.claimed.output_location)
        if where is None:
            raise _Failed("upload", f"The output location {self.claimed.output_location} is not an S3 address.")
        began = perf_counter()
        body = answer.body
        kept = _Kept(INCLUDED_BODY if options.include_success else 0)
        try:
            staging = await self._world.staging()
            most, account = self._world.body_bytes, self.claimed.account
            if isinstance(body, bytes):
                kept.add(body)
                staged = await _persistently(lambda: staging.stage(where.bucket, where.key, body, content_type, account, most))
            else:
                stream = kept.through(body)
                staged = await staging.stage(where.bucket, where.key, stream, content_type, account, most)
        except (ObjectsError, OSError) as error:
            raise self._unwritten(where.bucket, error) from error
        self.timing.upload = perf_counter() - began
        return self.outcome("succeeded", status=answer.status, content_type=content_type, staged=staged, answer=kept.whole())

    async def _refusal(self, container: str, answer: Answer) -> _Failed:
        said = answer.body if isinstance(answer.body, bytes) else await beginning(answer.body, SAID)
        side = "client" if 400 <= answer.status < 500 else "server"
        text = said[:SAID].decode("utf-8", "replace")
        quoted = text if len(text) <= QUOTED else text[:QUOTED] + "…"
        cause = f'Received {side} error ({answer.status}) from {container} with message "{quoted}".'
        return _Failed("model-error", cause, answer.status, said[:SAID])

    def _unwritten(self, bucket: str, error: Exception) -> _Failed:
        if isinstance(error, ObjectsError) and error.code == "EntityTooLarge":
            return _Failed("too-large", self._too_large())
        what = f"{error.code}: {error.message}" if isinstance(error, ObjectsError) else str(error)
        location = self.claimed.output_location
        return _Failed("upload", f"The answer could not be written to {location} (bucket {bucket}). {what}")


def _overfull(error: Overfull) -> _Failed:
    size = f"{error.size} bytes" if error.size is not None else f"more than {error.limit} bytes"
    text = (
        f"Received response from {error.container} with status code {error.status}. However, the request payload from "
        f"{error.container} to {error.following} is {size}, which has exceeded the maximum limit of {error.limit / 2**20:g} MB."
    )
    return _Failed("model-error", text, error.status)


class _Kept:
    """A copy of an answer, while it is short enough for a notification to hold it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] | None = [] if most else None
        self._size = 0

    def add(self, piece: bytes) -> None:
        if self._parts is not None:
            self._size += len(piece)
            self._parts.append(piece)
            if self._size > self._most:
                self._parts = None

    async def through(self, body: IncomingBody) -> AsyncIterator[bytes]:
        async for piece in body:
            self.add(piece)
            yield piece

    def whole(self) -> bytes | None:
        return None if self._parts is None else b"".join(self._parts)


async def _persistently(work: Callable[[], Awaitable[T]]) -> T:
    """Once more where the store itself was not able."""
    for pause in _PAUSES:
        try:
            return await work()
        except ObjectsError as error:
            if error.status is None or error.status < 500 or error.code == "InsufficientStorage":
                raise
            logger.warning("store-asked-again", extra={"error": error.code})
            await asyncio.sleep(pause)
    return await work()


async def _small(reading: Reading) -> bytes:
    if reading.data is not None:
        return reading.data
    return b"".join([piece async for piece in reading.read(Span(0, reading.info.size))])
