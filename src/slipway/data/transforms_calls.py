"""One request of a transform job at a container, tried again where that may help (containers.md 7.4)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from slipway.core.transforms import TransformOptions
from slipway.data import invoke
from slipway.data.asynchronous_calls import UNBEGUN, UNSENT, Answer, AsyncCall, Input, Silent
from slipway.data.asynchronous_places import AsyncVariant
from slipway.data.asynchronous_walks import AsyncWalk, Overfull, beginning, type_of
from slipway.data.transforms_places import TransformCall
from slipway.http.messages import BodyTooLarge
from slipway.http.render import clean_value

T = TypeVar("T")

MOST_ANSWER = 256 * 1024 * 1024
"""Bytes of the answer to one batch."""
SAID = 4096
"""Bytes kept of what a model says with an error."""
_PAUSES = (0.1, 0.5, 2.0)


class Refused(Exception):
    """No result for a request. `client`: the container found fault with it."""

    def __init__(self, cause: str, client: bool, detail: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.client = client
        self.detail = detail


class Gone(Exception):
    """The instance is not there any more; somebody else goes on."""


class Result(NamedTuple):
    body: bytes
    content_type: str


class Caller:
    """Requests of one job at one instance. Raises Refused, Gone; InputBroke for a stream.

    In a pipeline a request goes through all containers (`data.asynchronous_walks`), within one time limit.
    """

    def __init__(self, stages: Sequence[AsyncVariant], options: TransformOptions) -> None:
        self._stages = stages
        self._options = options
        self.requests = 0
        """How many the first container has had."""

    async def ask(self, payload: bytes | bytearray, retries: int) -> Result:
        """The whole answer to a batch."""
        for again in range(retries + 1):
            try:
                return await self._once(payload)
            except Refused as refused:
                if refused.client or again >= retries:
                    raise
            await asyncio.sleep(_PAUSES[min(again, len(_PAUSES) - 1)])
        raise AssertionError  # the last try returns or raises

    async def _once(self, payload: bytes | bytearray) -> Result:
        if isinstance(payload, bytearray):  # large: in pieces, as the container takes them
            return await self._asked(Input(len(payload), None, functools.partial(_sent, payload)), _whole)
        return await self._asked(Input(len(payload), payload), _whole)

    async def stream(
        self, size: int | None, open_input: Callable[[], AsyncIterator[bytes]], write: Callable[[bytes, str], Awaitable[None]]
    ) -> None:
        """A request of any size, its answer handed on as it comes: `await write(piece, content type)`.

        In a pipeline the answers between containers are held whole.
        """

        async def handed_on(answer: Answer) -> None:
            content_type, body = type_of(answer), answer.body
            if isinstance(body, bytes):
                await write(body, content_type)
                return
            while piece := await body.piece():
                await write(piece, content_type)

        await self._asked(Input(size, None, open_input), handed_on)

    async def _asked(self, source: Input, take: Callable[[Answer], Awaitable[T]]) -> T:
        """What `take` makes of the last container's answer."""
        options = self._options
        accept = (options.accept or "").encode("latin-1", "replace")
        given = [(b"accept", accept)] if accept and clean_value(accept) else []
        walk = AsyncWalk(self._stages, given, options.timeout, self._began, between=MOST_ANSWER, make=TransformCall)
        try:
            answer = await walk.run(options.content_type, source)
            if not 200 <= answer.status < 300:
                raise await self._refusal(walk.stage, answer)
            return await take(answer)
        except Silent as silent:
            raise self._silent(walk.stage, silent.why) from silent
        except (BodyTooLarge, Overfull) as error:
            raise self._silent(walk.stage, invoke.TOO_LARGE) from error
        finally:
            walk.cancel()

    def _began(self, call: AsyncCall) -> None:
        self.requests += 1

    def _from(self, stage: AsyncVariant) -> str:
        """Which container, where there are several."""
        return f" (container {stage.variant.container})" if len(self._stages) > 1 else ""

    async def _refusal(self, stage: AsyncVariant, answer: Answer) -> Refused:
        said = answer.body if isinstance(answer.body, bytes) else await beginning(answer.body, SAID)
        text = said[:SAID].decode("utf-8", "replace")
        if 400 <= answer.status < 500:
            return Refused(f"ClientError: {answer.status}{self._from(stage)}", True, text)
        return Refused(f"Bad HTTP status received from algorithm: {answer.status}{self._from(stage)}", False, text)

    def _silent(self, stage: AsyncVariant, why: str) -> Exception:
        if why in (invoke.GONE, UNSENT, UNBEGUN, invoke.NO_CAPACITY, invoke.OVERLOADED):
            return Gone()
        if why == invoke.TIMEOUT:
            seconds = self._options.timeout
            detail = f"it did not answer within {seconds} s (ModelClientConfig.InvocationsTimeoutInSeconds)"
        elif why == invoke.BROKEN:
            detail = "the model's handler failed in the middle of its answer"
        elif why == invoke.TOO_LARGE:
            detail = "its answer is too large"
        else:
            detail = "the model process exited while it handled the request"
        return Refused(f"Unable to get response from algorithm{self._from(stage)}: {detail}", False)


async def _whole(answer: Answer) -> Result:
    body = answer.body
    return Result(body if isinstance(body, bytes) else await body.read(MOST_ANSWER), type_of(answer))


async def _sent(payload: bytearray) -> AsyncIterator[bytes]:
    view = memoryview(payload)
    for at in range(0, len(payload), 256 * 1024):
        yield bytes(view[at : at + 256 * 1024])
