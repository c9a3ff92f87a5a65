"""InvokeEndpointAsync in the gateway: proven and read here, accepted by control in batches (hosting.md 4.2).

All that have come while earlier batches are on their way are the next, as in a group commit: control writes each batch in
one transaction, and the caller hears 202 once that is on disk. What the members may be, control judges.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from slipway.core.asynchronous import INLINE_BODY, TIMEOUT_SECONDS, TTL_SECONDS, AcceptAnswer, AcceptRequest
from slipway.link.channel import Channel, LinkClosed, LinkError
from slipway.link.claims import ACCEPT
from slipway.services.runtime import answers
from slipway.services.runtime.admitted import prove
from slipway.wire.errors import AwsError

if TYPE_CHECKING:
    from slipway.http.exchange import Exchange
    from slipway.services.runtime.callers import Caller

logger = logging.getLogger(__name__)

BATCH = 1000
"""Requests of one message to control."""
BATCH_BYTES = 8 * 1024 * 1024
ON_THEIR_WAY = 1
"""Batches that control has at a time: two were no faster, and cost a quarter more, since each is half as large."""
WAITING = 10_000
"""Requests that wait for a batch; beyond it 503. And their bytes."""
WAITING_BYTES = 64 * 1024 * 1024
LINK_SECONDS = 5.0
"""How long requests wait for a control that is away: it restarts in less."""
ANSWER_SECONDS = 30.0

_PREFIX = b"x-amzn-sagemaker-"
_TEXTS = (
    (_PREFIX + b"inputlocation", "input_location", "inputLocation"),
    (_PREFIX + b"content-type", "content_type", "contentType"),
    (_PREFIX + b"accept", "accept", "accept"),
    (_PREFIX + b"custom-attributes", "custom_attributes", "customAttributes"),
    (_PREFIX + b"inference-id", "inference_id", "inferenceId"),
    (_PREFIX + b"s3outputpathextension", "extension", "s3OutputPathExtension"),
    (_PREFIX + b"filename", "filename", "filename"),
    (b"x-slipway-idempotency-token", "token", "X-Slipway-Idempotency-Token"),
)
"""Header, our name, AWS's member."""
_NUMBERS = (
    (_PREFIX + b"requestttlseconds", "ttl", "requestTTLSeconds", TTL_SECONDS),
    (_PREFIX + b"invocationtimeoutseconds", "timeout", "invocationTimeoutSeconds", TIMEOUT_SECONDS),
)
_NUMBER = re.compile(rb"[+-]?[0-9]{1,18}")
_VISIBLE = re.compile(rb"[ -~]*")
_TOO_LONG = (
    f"1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less than or equal to "
    f"{INLINE_BODY}"
)
_BUSY = "Too many asynchronous requests wait to be accepted; try again."
_AWAY = "The service that accepts asynchronous requests does not answer; try again."
_BROKE = "The service that accepts asynchronous requests broke off, perhaps after it had accepted this one; try again."


class Link(Protocol):
    """`link.client.Link`."""

    async def ready(self, timeout: float | None = None) -> Channel: ...


def members(values: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The request's members from its headers, by AcceptRequest's names. Raises AwsError."""
    found: dict[str, Any] = {}
    for header, name, member in _TEXTS:
        if header in values:
            value = values[header]
            if not _VISIBLE.fullmatch(value):
                raise _violation(value, member, r"Member must satisfy regular expression pattern: \p{ASCII}*")
            if not value and member != "customAttributes":
                raise _violation(value, member, "Member must have length greater than or equal to 1")
            found[name] = value.decode("ascii")
    for header, name, member, default in _NUMBERS:
        given = values.get(header)
        if given is None:
            found[name] = default
        elif _NUMBER.fullmatch(given):
            found[name] = int(given)
        else:
            raise _violation(given, member, "Member must be an integer")
    return found


def _violation(value: bytes, member: str, constraint: str) -> AwsError:
    shown = value[:64].decode("latin-1")
    text = f"1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: {constraint}"
    return AwsError("ValidationError", text, status=400)


class Enqueue:
    """Takes proven requests and has them accepted, up to `batch` in one commit. `start` once there is an event loop."""

    def __init__(self, link: Link, batch: int = BATCH) -> None:
        self._link = link
        self._batch = batch
        self._waiting: list[Acceptance] = []
        self._bytes = 0
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(ON_THEIR_WAY)
        self._on_their_way: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for task in self._on_their_way:
            task.cancel()
        await asyncio.gather(*self._on_their_way, return_exceptions=True)
        self._answer(self._take(len(self._waiting), 1 << 62), _unavailable(_AWAY))

    def add(self, acceptance: Acceptance) -> None:
        """Have it accepted with others of this turn of the loop, or of the time that control needs for those before."""
        if len(self._waiting) >= WAITING or self._bytes >= WAITING_BYTES:
            acceptance.answer(_unavailable(_BUSY))
            return
        self._waiting.append(acceptance)
        self._bytes += acceptance.size
        self._due.set()

    def _take(self, most: int, most_bytes: int) -> list[Acceptance]:
        size = count = 0
        for acceptance in self._waiting[:most]:
            count += 1
            size += acceptance.size
            if size >= most_bytes:
                break
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._bytes -= size
        return batch

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            try:
                channel = await self._link.ready(LINK_SECONDS)
            except TimeoutError:
                self._answer(self._take(len(self._waiting), 1 << 62), _unavailable(_AWAY))
                self._due.clear()
                continue
            await self._room.acquire()
            batch = self._take(self._batch, BATCH_BYTES)
            if not self._waiting:
                self._due.clear()
            if not batch:
                self._room.release()
                continue
            task = asyncio.create_task(self._accept(channel, batch))
            self._on_their_way.add(task)
            task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._on_their_way.discard(task)
        self._room.release()

    async def _accept(self, channel: Channel, batch: Sequence[Acceptance]) -> None:
        requests = tuple([acceptance.request for acceptance in batch])
        try:
            told = await channel.request(ACCEPT, requests, tuple[AcceptAnswer, ...], timeout=ANSWER_SECONDS)
        except (LinkClosed, TimeoutError, LinkError, msgspec.MsgspecError) as error:
            logger.warning("accept-failed", extra={"requests": len(batch), "error": repr(error)})
            self._answer(batch, _unavailable(_BROKE))
            return
        for acceptance, answer in zip(batch, told, strict=True):
            acceptance.answer(answer)

    @staticmethod
    def _answer(batch: Sequence[Acceptance], answer: AcceptAnswer) -> None:
        for acceptance in batch:
            acceptance.answer(answer)


def _unavailable(message: str) -> AcceptAnswer:
    return AcceptAnswer(code="ServiceUnavailable", message=message, status=503)


class Acceptance:
    """One InvokeEndpointAsync: claims the exchange, waits in the batch, answers."""

    __slots__ = ("_caller", "_enqueue", "_exchange", "_members", "_name", "_request_id", "request", "size")

    def __init__(
        self, enqueue: Enqueue, exchange: Exchange, caller: Caller, name: str, found: dict[str, Any], request_id: bytes
    ) -> None:
        self.size = 1000
        """Bytes that it holds, about."""
        self._enqueue = enqueue
        self._exchange = exchange
        self._caller = caller
        self._name = name
        self._members = found
        self._request_id = request_id

    def whole(self, body: bytes) -> None:
        caller = self._caller
        self.size += len(body)
        self.request = AcceptRequest(caller.account, caller.region, self._name, body=body or None, **self._members)
        claim = caller.claim
        if claim is None or not claim.needs_body_hash:
            self._enqueue.add(self)
        else:
            prove(claim, body, self._proven)

    def _proven(self, error: AwsError | None) -> None:
        if error is None:
            self._enqueue.add(self)
        else:
            self._refuse(error)

    def refused(self, why: str) -> None:
        self._refuse(too_long() if why == "too-large" else answers.body_refused(why, self._request_id))

    def gone(self) -> None:
        """It is accepted all the same, and the answer dropped by the exchange: as if the client had gone a moment later."""

    def answer(self, answer: AcceptAnswer) -> None:
        """Control's word."""
        if answer.code is not None:
            self._refuse(AwsError(answer.code, answer.message, status=answer.status))
            return
        lines = f"content-type: application/json\r\nX-Amzn-SageMaker-OutputLocation: {answer.output_location}\r\n"
        if answer.failure_location is not None:
            lines += f"X-Amzn-SageMaker-FailureLocation: {answer.failure_location}\r\n"
        block = b"%bx-amzn-RequestId: %b\r\n" % (lines.encode("ascii", "replace"), self._request_id)
        self._exchange.respond_block(202, block, json.dumps({"InferenceId": answer.inference_id}).encode())

    def _refuse(self, error: AwsError) -> None:
        self._exchange.respond_block(*answers.error_answer(error, self._request_id))


def too_long() -> AwsError:
    """A Body beyond INLINE_BODY."""
    return AwsError("ValidationError", _TOO_LONG, status=400)
