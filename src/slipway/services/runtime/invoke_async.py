"""InvokeEndpointAsync in control: a batch of requests from a gateway is checked, and queued in one transaction.

The gateway has proven the callers. What it checked of the members is checked again, as far as a bad value could do harm here:
bounds, addresses, names of objects (hosting.md 4.2).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from slipway.core.asynchronous import INLINE_BODY, TTL_SECONDS, AcceptAnswer, AcceptRequest, AsyncOptions
from slipway.names import parse_s3_uri
from slipway.services import World
from slipway.settings import Limits
from slipway.store import jobs, jobs_places
from slipway.store.db import BadValue, Connection, StoreError, StoreFull
from slipway.store.jobs import Accepted, NewRequest, Place, Refusal
from slipway.store.jobs_places import Version

LEAST_TTL = 60
TOKEN_LENGTH = 128
INPUT_LENGTH = 1024
TEXT_LENGTH = 1024
REMEMBERED = 10_000
"""Endpoints whose options are kept in memory."""

_FILENAME = re.compile(r"(?=.{1,32}$)[a-zA-Z0-9][a-zA-Z0-9_-]*(\.[a-zA-Z0-9_-]*)?", re.ASCII)
_EXTENSION = re.compile(r"(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]{1,512}", re.ASCII)
_TOKEN = re.compile(rf"[\x21-\x7e]{{1,{TOKEN_LENGTH}}}")

Accept = Callable[[Sequence[AcceptRequest]], Awaitable[tuple[AcceptAnswer, ...]]]


@dataclass(frozen=True, slots=True)
class _Spot:
    """An endpoint in service, and with what."""

    place: Place
    options: AsyncOptions


class Acceptor:
    """Accepts batches; remembers the options of endpoints from one to the next."""

    def __init__(self, world: World, random: Callable[[int], bytes] = os.urandom) -> None:
        self._world = world
        self._random = random
        self._options: dict[Version, AsyncOptions | None] = {}

    async def __call__(self, batch: Sequence[AcceptRequest]) -> tuple[AcceptAnswer, ...]:
        """An answer for each request, in order: durable, or an error. Never raises for a request's sake."""
        limits = self._world.settings.limits
        answers: list[AcceptAnswer | None] = [refusal(request, limits) for request in batch]
        groups: dict[tuple[str, str, str], list[int]] = {}
        for index, request in enumerate(batch):
            if answers[index] is None:
                groups.setdefault((request.account, request.region, request.endpoint), []).append(index)
        if groups:
            try:
                await self._write(batch, groups, answers)
            except StoreError as error:
                failed = _store_failure(error)
                answers = [failed if answer is None else answer for answer in answers]
        return tuple(answer if answer is not None else _INTERNAL for answer in answers)

    async def _write(
        self,
        batch: Sequence[AcceptRequest],
        groups: dict[tuple[str, str, str], list[int]],
        answers: list[AcceptAnswer | None],
    ) -> None:
        now = self._world.now()

        def write(connection: Connection) -> tuple[dict[int, AcceptAnswer], list[Place]]:
            told: dict[int, AcceptAnswer] = {}
            places: list[Place] = []
            for (account, region, endpoint), indexes in groups.items():
                spot = self._spot(connection, account, region, endpoint)
                if isinstance(spot, AcceptAnswer):
                    told |= dict.fromkeys(indexes, spot)
                    continue
                made = [self._new_request(batch[index], spot.options, now) for index in indexes]
                bound = self._world.settings.limits.async_queue
                taken = jobs.accept(connection, spot.place, spot.options, made, bound=bound, now=now)
                places.append(spot.place)
                for index, each in zip(indexes, taken, strict=True):
                    told[index] = _answer(each, batch[index], bound)
            return told, places

        told, places = await self._world.db.write(write)
        for index, answer in told.items():
            answers[index] = answer
        self._world.async_arrived(places)

    def _spot(self, connection: Connection, account: str, region: str, endpoint: str) -> _Spot | AcceptAnswer:
        found = jobs_places.find(connection, account, region, endpoint)
        if found is None or not found.serving:
            return _invalid(f"Endpoint {endpoint} of account {account} not found.")
        if found.version not in self._options:
            if len(self._options) >= REMEMBERED:
                self._options.clear()
            self._options[found.version] = jobs_places.options(connection, found.place)
        options = self._options[found.version]
        if options is None:
            text = f"Endpoint {endpoint} of account {account} is not an asynchronous endpoint. Call InvokeEndpoint instead."
            return _invalid(text)
        return _Spot(found.place, options)

    def _new_request(self, request: AcceptRequest, options: AsyncOptions, now: float) -> NewRequest:
        name = self._uuid(now)
        folder = options.output_path
        if request.extension is not None:
            folder = f"{folder}/{request.extension.strip('/')}"
        failure = options.failure_path
        return NewRequest(
            received=now,
            expires=now + request.ttl,
            timeout=request.timeout,
            inference_id=request.inference_id or self._uuid(now),
            output_location=f"{folder}/{request.filename or f'{name}.out'}",
            failure_location=None if failure is None else f"{failure}/{name}-error.out",
            input_location=request.input_location,
            body=request.body,
            content_type=request.content_type,
            accept=request.accept,
            custom_attributes=request.custom_attributes,
            token=request.token,
            fingerprint=None if request.token is None else fingerprint(request),
        )

    def _uuid(self, now: float) -> str:
        return ordered_uuid(now, self._random(10))


def ordered_uuid(now: float, random: bytes) -> str:
    """A UUID of version 7: those of one time are neighbours, in the index of a million requests and in a listing of outputs."""
    text = f"{int(now * 1000) & 0xFFFFFFFFFFFF:012x}{random.hex()}"
    return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-{'89ab'[random[2] & 3]}{text[17:20]}-{text[20:]}"


def fingerprint(request: AcceptRequest) -> str:
    """Of what the container would get and where its answer would go: what a token stands for."""
    parts = (
        request.input_location,
        None if request.body is None else hashlib.sha256(request.body).hexdigest(),
        request.content_type,
        request.accept,
        request.custom_attributes,
        request.filename,
        request.extension,
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def refusal(request: AcceptRequest, limits: Limits) -> AcceptAnswer | None:
    """What is wrong with a request whatever its endpoint is; None: nothing."""
    if (request.input_location is None) == (request.body is None):
        return _invalid("Exactly one of InputLocation and Body must be given.")
    if request.body is not None and len(request.body) > INLINE_BODY:
        return _constraint("body", "", f"Member must have length less than or equal to {INLINE_BODY}")
    if (wrong := _wrong_input(request.input_location)) is not None:
        return wrong
    if not LEAST_TTL <= request.ttl <= TTL_SECONDS:
        return _range("requestTTLSeconds", request.ttl, LEAST_TTL, TTL_SECONDS)
    if not 1 <= request.timeout <= limits.async_timeout_seconds:
        return _range("invocationTimeoutSeconds", request.timeout, 1, limits.async_timeout_seconds)
    return _wrong_text(request, limits)


def _wrong_input(location: str | None) -> AcceptAnswer | None:
    if location is None:
        return None
    if not 1 <= len(location) <= INPUT_LENGTH:
        return _constraint("inputLocation", location, f"Member must have length less than or equal to {INPUT_LENGTH}")
    found = parse_s3_uri(location)
    if found is None or not found.key:
        return _invalid(f"InputLocation {location} is not the S3 URI of an object: it must read s3://bucket/key.")
    return None


def _wrong_text(request: AcceptRequest, limits: Limits) -> AcceptAnswer | None:
    for name, value, most in (
        ("contentType", request.content_type, TEXT_LENGTH),
        ("accept", request.accept, TEXT_LENGTH),
        ("customAttributes", request.custom_attributes, limits.custom_attributes),
        ("inferenceId", request.inference_id, 64),
    ):
        if value is not None and len(value) > most:
            return _constraint(name, value, f"Member must have length less than or equal to {most}")
    for name, value, pattern in (
        ("filename", request.filename, _FILENAME),
        ("s3OutputPathExtension", request.extension, _EXTENSION),
        ("X-Slipway-Idempotency-Token", request.token, _TOKEN),
    ):
        if value is not None and pattern.fullmatch(value) is None:
            return _constraint(name, value, f"Member must satisfy regular expression pattern: {pattern.pattern}")
    return None


def _range(name: str, value: int, least: int, most: int) -> AcceptAnswer:
    side = f"greater than or equal to {least}" if value < least else f"less than or equal to {most}"
    return _constraint(name, str(value), f"Member must have value {side}")


def _constraint(name: str, value: str, text: str) -> AcceptAnswer:
    return _invalid(f"1 validation error detected: Value '{value[:256]}' at '{name}' failed to satisfy constraint: {text}")


def _invalid(message: str) -> AcceptAnswer:
    return AcceptAnswer(code="ValidationError", message=message, status=400)


def _unavailable(message: str) -> AcceptAnswer:
    return AcceptAnswer(code="ServiceUnavailable", message=message, status=503)


_INTERNAL = AcceptAnswer(code="InternalFailure", message="The request was not looked at.", status=500)


def _answer(taken: Accepted | Refusal, request: AcceptRequest, bound: int) -> AcceptAnswer:
    if isinstance(taken, Accepted):
        return AcceptAnswer(taken.inference_id, taken.output_location, taken.failure_location)
    if taken == "full":
        return _unavailable(
            f"The queue of endpoint {request.endpoint} is full: {bound} requests wait or run. Try again when some are done."
        )
    return _invalid(
        f"The idempotency token {request.token} was used with another input. Use a new token for a new request, or none."
    )


def _store_failure(error: StoreError) -> AcceptAnswer:
    if isinstance(error, BadValue):
        return _invalid("The request holds what cannot be kept: a null character, or too large a number.")
    if isinstance(error, StoreFull):
        return _unavailable("The disk that holds slipway's data is full; the request was not accepted. Make room there.")
    return _unavailable("The store cannot be reached or is overloaded; the request was not accepted. Try again.")
