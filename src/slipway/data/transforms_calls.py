"""One request of a transform job at a container, tried again where that may help (containers.md 7.4)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from slipway.core.transforms import TransformOptions
from slipway.data import invoke
from slipway.data.asynchronous_calls import UNBEGUN, UNSENT, Answer, AsyncCall, Input, Silent
from slipway.data.asynchronous_places import AsyncVariant
from slipway.data.transforms_places import TransformCall
from slipway.http.body import IncomingBody
from slipway.http.messages import BodyTooLarge
from slipway.http.render import clean_value
from slipway_host.frames import pack_head

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

    In a pipeline each container's answer is the next one's request, its content type included; Accept goes to the last one
    alone (containers.md 6.2).
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
        result = await self._at(0, payload, self._options.content_type or "")
        for index in range(1, len(self._stages)):
            result = await self._at(index, *result)
        return result

    async def _at(self, index: int, payload: bytes | bytearray, content_type: str) -> Result:
        """The whole answer of one container."""
        if isinstance(payload, bytearray):  # large: in pieces, as the container takes them
            return await self._held(index, content_type, Input(len(payload), None, functools.partial(_sent, payload)))
        return await self._held(index, content_type, Input(len(payload), payload))

    async def stream(
        self, size: int | None, open_input: Callable[[], AsyncIterator[bytes]], write: Callable[[bytes, str], Awaitable[None]]
    ) -> None:
        """A request of any size, its answer handed on as it comes: `await write(piece, content type)`.

        In a pipeline the answers between containers are held whole.
        """
        source, content_type = Input(size, None, open_input), self._options.content_type or ""
        last = len(self._stages) - 1
        for index in range(last):
            between = await self._held(index, content_type, source)
            body, content_type = between
            source = Input(len(body), None, functools.partial(_sent, body))
        call = self._call(last, content_type, source)
        try:
            answer = await self._answer(last, call)
            content_type = self._content_type(answer)
            if isinstance(answer.body, bytes):
                await write(answer.body, content_type)
                return
            while piece := await answer.body.piece():
                await write(piece, content_type)
        except Silent as silent:
            raise self._silent(last, silent.why) from silent
        finally:
            call.cancel()

    async def _held(self, index: int, content_type: str, source: Input) -> Result:
        call = self._call(index, content_type, source)
        try:
            answer = await self._answer(index, call)
            body = answer.body if isinstance(answer.body, bytes) else await answer.body.read(MOST_ANSWER)
            return Result(body, self._content_type(answer))
        except Silent as silent:
            raise self._silent(index, silent.why) from silent
        except BodyTooLarge as error:
            raise self._silent(index, invoke.TOO_LARGE) from error
        finally:
            call.cancel()

    def _call(self, index: int, content_type: str, source: Input) -> AsyncCall:
        last = index == len(self._stages) - 1
        pairs = ((b"content-type", content_type), (b"accept", self._options.accept if last else None))
        found = [(name, value.encode("latin-1", "replace")) for name, value in pairs if value]
        head = pack_head([(name, value) for name, value in found if clean_value(value)])
        return TransformCall(head, source, self._options.timeout, self._began if index == 0 else _untold)

    def _began(self, call: AsyncCall) -> None:
        self.requests += 1

    async def _answer(self, index: int, call: AsyncCall) -> Answer:
        slots = self._stages[index]
        slots.submit(call)
        answer = await call.answer
        if call.began is not None:
            slots.measured(max(call.ended - call.began, 0.0))
        if not 200 <= answer.status < 300:
            raise await self._refusal(index, answer)
        return answer

    def _from(self, index: int) -> str:
        """Which container, where there are several."""
        return f" (container {self._stages[index].variant.container})" if len(self._stages) > 1 else ""

    async def _refusal(self, index: int, answer: Answer) -> Refused:
        said = answer.body if isinstance(answer.body, bytes) else await _beginning(answer.body)
        text = said[:SAID].decode("utf-8", "replace")
        if 400 <= answer.status < 500:
            return Refused(f"ClientError: {answer.status}{self._from(index)}", True, text)
        return Refused(f"Bad HTTP status received from algorithm: {answer.status}{self._from(index)}", False, text)

    def _silent(self, index: int, why: str) -> Exception:
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
        return Refused(f"Unable to get response from algorithm{self._from(index)}: {detail}", False)

    @staticmethod
    def _content_type(answer: Answer) -> str:
        return dict(answer.headers).get(b"content-type", b"").decode("latin-1")


async def _sent(payload: bytes | bytearray) -> AsyncIterator[bytes]:
    view = memoryview(payload)
    for at in range(0, len(payload), 256 * 1024):
        yield bytes(view[at : at + 256 * 1024])


async def _beginning(body: IncomingBody) -> bytes:
    found = bytearray()
    while len(found) < SAID and (piece := await body.piece()):
        found += piece
    return bytes(found)


def _untold(call: AsyncCall) -> None:
    """Requests are counted at the first container."""
