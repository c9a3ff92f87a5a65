"""InvokeEndpointWithResponseStream: the model's chunks as event-stream frames, one by one, nothing held back."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator
from time import perf_counter
from typing import TYPE_CHECKING

from slipway.data import invoke
from slipway.data.invoke import NoPlace, Refused, Ticket, post
from slipway.data.pipelines import on_the_way
from slipway.data.slots import EndpointSlots, VariantSlots
from slipway.http.client import ClientResponse, ConnectFailed, NoAnswer
from slipway.http.messages import BodyTooLarge, ClientGone, Headers, Response
from slipway.http.render import BadHeader
from slipway.services.runtime import answers, headers
from slipway.services.runtime.admitted import prove
from slipway.services.runtime.callers import Caller
from slipway.services.runtime.headers import Target
from slipway.wire.errors import AwsError
from slipway.wire.eventstream import CONTENT_TYPE, exception_frame, payload_part

if TYPE_CHECKING:
    from slipway.http.exchange import Exchange
    from slipway.services.runtime.invoke import Runtime

TOO_SLOW = "Your model {container} did not complete sending the inference response in the allotted time."
BROKE = "The connection to your model {container} broke before its response was complete."
_AT_A_CONTAINER = frozenset((invoke.DIED, invoke.BROKEN, invoke.TOO_LARGE, "oversize"))
"""Reasons that only a pipeline's container can give before the last one is reached."""
_ERROR_BODY = 64 * 1024
"""Bytes read of a container's refusal."""


class _Stopped(Exception):
    """A container of a pipeline, before the last one, ended the walk."""

    def __init__(self, answer: answers.Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class StreamInvocation:
    """Claims the exchange; from the proven body on a coroutine does the rest."""

    def __init__(
        self,
        runtime: Runtime,
        exchange: Exchange,
        caller: Caller,
        endpoint: EndpointSlots,
        target: Target | None,
        request_id: bytes,
        head: bytes,
    ) -> None:
        self._runtime = runtime
        self._exchange = exchange
        self._caller = caller
        self._endpoint = endpoint
        self._target = target
        self._request_id = request_id
        self._began = perf_counter()
        self._head = head
        self._gone = False

    def whole(self, body: bytes) -> None:
        prove(self._caller.claim, body, functools.partial(self._proven, body))

    def _proven(self, body: bytes, error: AwsError | None) -> None:
        if self._gone:
            return
        if error is not None:
            self._exchange.respond_block(*answers.error_answer(error, self._request_id))
        else:
            self._exchange.run(functools.partial(self._answer, body))

    def refused(self, why: str) -> None:
        self._exchange.respond_block(*answers.error_answer(answers.body_refused(why, self._request_id), self._request_id))

    def gone(self) -> None:
        """The connection cancels the coroutine, if it has begun."""
        self._gone = True

    async def _answer(self, body: bytes) -> Response:
        try:
            ticket, slots = await self._place(body)
        except AwsError as error:
            return _response(answers.error_answer(error, self._request_id))
        except _Stopped as stopped:
            return _response(stopped.answer)
        try:
            return await self._open(ticket, slots)
        except BaseException:
            ticket.release(clean=False)
            raise

    async def _place(self, body: bytes) -> tuple[Ticket, VariantSlots]:
        """A lane of a variant that is in the table. Raises AwsError."""
        name = self._endpoint.endpoint.name
        while True:
            slots = self._runtime.choose(self._endpoint, self._target)
            ticket = Ticket(self._head, body)
            slots.submit(ticket)
            try:
                await ticket.lane
            except Refused as refused:
                slots.counters.invocations += 1
                slots.counters.model_answered(refused.status)
                where = self._where(ticket.slots or slots)
                raise _Stopped(answers.model_answered(where, refused.status, refused.body, self._request_id)) from None
            except NoPlace as error:
                if error.why in _AT_A_CONTAINER or (error.why == invoke.TIMEOUT and on_the_way(ticket)):
                    raise self._silent(ticket.slots or slots, error.why) from None
                if error.why == invoke.GONE:
                    self._endpoint = self._runtime.find(self._caller, name)
                    continue
                slots.counters.refused += 1
                if error.why == invoke.TIMEOUT:
                    raise answers.no_place(invoke.OVERLOADED, name, slots.variant.name) from None
                raise answers.no_place(error.why, name, slots.variant.name) from None
            except asyncio.CancelledError:
                ticket.release(clean=False)
                raise
            # Of a pipeline, the last container: the others have answered.
            return ticket, ticket.slots or slots

    def _where(self, slots: VariantSlots) -> answers.Where:
        return self._runtime.where(self._caller, slots, self._endpoint.endpoint.name)

    def _silent(self, slots: VariantSlots, why: str) -> _Stopped:
        """A container of a pipeline, before the last one, gave no answer that the next could have."""
        slots.counters.invocations += 1
        slots.counters.model_errors += 1
        where = self._where(slots)
        if isinstance(why, invoke.Oversize):
            return _Stopped(answers.oversize_between(where, why, self._request_id))
        return _Stopped(answers.model_silent(where, why, slots.limits.response_bytes, self._request_id))

    async def _open(self, ticket: Ticket, slots: VariantSlots) -> Response:
        """Up to the head of the container's answer: until then a failure is an ordinary error."""
        counters = slots.counters
        counters.invocations += 1
        where = self._where(slots)
        limits = slots.limits
        lane = ticket.lane.result()
        ticket.timeout_ms = int(limits.stream_seconds * 1000)
        deadline = asyncio.get_running_loop().time() + limits.stream_seconds
        try:
            async with asyncio.timeout_at(deadline):
                response = await post(lane, ticket)
                if not 200 <= response.status < 300:
                    refusal = await _read_some(response)
                    ticket.release(clean=True)
                    counters.model_answered(response.status)
                    slots.streamed(response.status, perf_counter() - ticket.sent)
                    return _response(answers.model_answered(where, response.status, refusal, self._request_id))
        except (TimeoutError, ConnectFailed, NoAnswer, ClientGone, BadHeader) as error:
            why = invoke.TIMEOUT if isinstance(error, TimeoutError) else invoke.DIED
            ticket.release(clean=why == invoke.DIED)
            counters.model_errors += 1
            slots.streamed(0, 0.0)
            return _response(answers.model_silent(where, why, limits.response_bytes, self._request_id))
        ticket.body = b""
        counters.overhead.add(ticket.sent - self._began)
        return Response(200, self._head_of(response, slots), Events(response, ticket, slots, deadline))

    def _head_of(self, response: ClientResponse, slots: VariantSlots) -> Headers:
        pairs = headers.returned_pairs(response.headers, b"X-Amzn-SageMaker-Content-Type")
        return [
            (b"content-type", CONTENT_TYPE),
            *pairs,
            (b"x-Amzn-Invoked-Production-Variant", slots.name),
            (b"x-amzn-RequestId", self._request_id),
        ]


class Events:
    """The answer's frames; `aclose` gives the worker's place back, also when nothing was ever read."""

    def __init__(self, response: ClientResponse, ticket: Ticket, slots: VariantSlots, deadline: float) -> None:
        self._response = response
        self._ticket: Ticket | None = ticket
        self._slots = slots
        self._deadline = deadline
        self._clean = False
        self._frames = self._encode()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    async def _encode(self) -> AsyncGenerator[bytes, None]:
        pieces = aiter(self._response)
        container = self._slots.variant.container
        counters = self._slots.counters
        began = perf_counter()
        try:
            while True:
                async with asyncio.timeout_at(self._deadline):
                    data = await anext(pieces, b"")
                if not data:
                    self._clean = True
                    counters.model.add(perf_counter() - began)
                    self._slots.streamed(200, perf_counter() - began)
                    return
                yield payload_part(data)
        except TimeoutError:
            counters.model_errors += 1
            self._slots.streamed(0, 0.0)
            yield exception_frame("ModelStreamError", TOO_SLOW.format(container=container), "ModelInvocationTimeExceeded")
        except (ClientGone, ConnectionError):
            counters.model_errors += 1
            self._slots.streamed(0, 0.0)
            self._clean = True
            yield exception_frame("ModelStreamError", BROKE.format(container=container), "StreamBroken")

    async def aclose(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            await self._frames.aclose()
            await self._response.close()
            ticket.release(clean=self._clean)


async def _read_some(response: ClientResponse) -> bytes:
    """A refusal's body; what is more than a message needs is not waited for."""
    try:
        return await response.read(_ERROR_BODY)
    except BodyTooLarge:
        return b""


def _response(answer: answers.Answer) -> Response:
    lines = answer.block.decode("latin-1").split("\r\n")[:-1]
    pairs = [line.partition(": ")[::2] for line in lines]
    return Response(answer.status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs], answer.body)
