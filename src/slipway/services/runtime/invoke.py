"""InvokeEndpoint in the gateway: from a request's head to the model's answer in callbacks, no task and no future on the way.

`Runtime` is the HTTP server's `fast` hook. What is not an invocation it leaves to the handler behind it (control).
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Literal
from urllib.parse import unquote

from slipway.core.asynchronous import INLINE_BODY
from slipway.core.models import FAILED
from slipway.core.routing import choose_variant, endpoint_key
from slipway.data import invoke
from slipway.data.invoke import Call
from slipway.data.models import NOT_READY, Refused
from slipway.data.several import DirectSlots
from slipway.data.slots import EndpointSlots, Slots, VariantSlots
from slipway.http.exchange import Exchange
from slipway.services.runtime import answers, enqueue, headers
from slipway.services.runtime.admitted import Refusal, prove
from slipway.services.runtime.callers import Authenticate, Caller, Unproven
from slipway.services.runtime.enqueue import Enqueue
from slipway.services.runtime.headers import Target
from slipway.services.runtime.stream import StreamInvocation
from slipway.wire.errors import AwsError

INVOKE, STREAM, ASYNC = "invocations", "invocations-response-stream", "async-invocations"

_PATH = re.compile(rb"/endpoints/([^/?]+)/(invocations|invocations-response-stream|async-invocations)(?:\?.*)?", re.DOTALL)
_CACHED, _CACHED_BYTES = 2048, 256
_NO_MODEL = frozenset((invoke.NO_CAPACITY, invoke.OVERLOADED))

Route = tuple[str, str]
"""Endpoint's name and operation."""


@dataclass(frozen=True, slots=True)
class RuntimeLimits:
    """The part of settings.Limits that an invocation meets here."""

    body_bytes: int
    custom_attributes: int = 1024


class Runtime:
    """All invocations of one gateway. `roll` gives chance (0 ≤ roll < 1), `base_url` is our own address for messages."""

    def __init__(
        self,
        slots: Slots,
        limits: RuntimeLimits,
        authenticate: Authenticate,
        base_url: str,
        roll: Callable[[], float],
        enqueue: Enqueue,
    ) -> None:
        """`enqueue` takes asynchronous requests."""
        self.slots = slots
        self.enqueue = enqueue
        self.limits = limits
        self.base_url = base_url
        self.returned = headers.ReturnedHeaders()
        self._authenticate = authenticate
        self._roll = roll
        self._routes: dict[bytes, Route | Literal[False]] = {}
        self._ids = _request_ids()

    def __call__(self, exchange: Exchange) -> bool:
        """The server's fast hook: True when the exchange is an invocation (claimed, or refused already)."""
        target, values = exchange.target, exchange.values
        route = self._routes.get(target)
        if route is None:
            route = self._learn(target)
        if route is False or exchange.method != "POST":
            return False
        if not exchange.ordinary and b"authorization" in values:
            authorization = values[b"authorization"]
            if b"/s3/aws4_request" in authorization or authorization.startswith(b"AWS "):
                return False  # a bucket may be called `endpoints` (hosting.md 1.2): the credential scope decides
        request_id = next(self._ids)
        try:
            self._admit(exchange, route, request_id)
        except Unproven as unproven:
            exchange.claim(Refusal(exchange, unproven, request_id), self.limits.body_bytes)
        except AwsError as error:
            exchange.respond_block(*answers.error_answer(error, request_id))
        return True

    def _learn(self, target: bytes) -> Route | Literal[False]:
        match = _PATH.fullmatch(target)
        route: Route | Literal[False] = False
        if match is not None and b"%2Fs3%2Faws4_request" not in target:
            route = (unquote(match[1].decode("ascii", "replace")), match[2].decode())
        if len(target) <= _CACHED_BYTES:
            if len(self._routes) >= _CACHED:
                self._routes.clear()
            self._routes[target] = route
        return route

    def _admit(self, exchange: Exchange, route: Route, request_id: bytes) -> None:
        """All that the head alone can decide. Raises AwsError, or Unproven for what only a proven caller may learn."""
        name, operation = route
        caller = self._authenticate(exchange)
        limits = self.limits
        streamed = operation != INVOKE
        if streamed and operation == ASYNC:
            self._admit_async(exchange, caller, name, request_id)
            return
        head, steering = headers.request_head(exchange, streamed, limits.custom_attributes)
        length = exchange.length
        most = limits.body_bytes
        if length is not None and length > most:
            raise answers.oversize(request_id)
        endpoint = self.slots.endpoints.get(caller.prefix + name)
        target = None
        model = ""
        if endpoint is None or steering or endpoint.special:
            try:
                endpoint, target = self._steer(caller, name, steering)
                model, told = headers.target_model(steering, name, endpoint.multi_model, request_id)
                if model and streamed:
                    raise no_stream(name)
                head += told
            except AwsError as error:
                raise caller.learns(error) from None
        exchange.limit = most
        if model:
            exchange.claimant = ModelInvocation(self, exchange, caller, endpoint, target, request_id, head, model)
            return
        kind = StreamInvocation if streamed else Invocation
        exchange.claimant = kind(self, exchange, caller, endpoint, target, request_id, head)

    def _admit_async(self, exchange: Exchange, caller: Caller, name: str, request_id: bytes) -> None:
        """InvokeEndpointAsync. Raises AwsError, or Unproven."""
        found = enqueue.members(exchange.values)
        if exchange.length is not None and exchange.length > INLINE_BODY:
            raise enqueue.too_long()
        try:
            if not self.find(caller, name).asynchronous:
                raise AwsError(
                    "ValidationError",
                    f"Endpoint {name} of account {caller.account} is not an asynchronous endpoint: its configuration has no "
                    "AsyncInferenceConfig. Call InvokeEndpoint instead.",
                    status=400,
                )
        except AwsError as error:
            raise caller.learns(error) from None
        exchange.claim(enqueue.Acceptance(self.enqueue, exchange, caller, name, found, request_id), INLINE_BODY)

    def _steer(self, caller: Caller, name: str, steering: Mapping[bytes, bytes]) -> tuple[EndpointSlots, Target | None]:
        """The endpoint, and what is named, if anything is. Raises AwsError."""
        endpoint = self.find(caller, name)
        if endpoint.asynchronous:
            raise AwsError(
                "ValidationError",
                f"Endpoint {name} of account {caller.account} is an asynchronous endpoint: its configuration has an "
                "AsyncInferenceConfig. Call InvokeEndpointAsync instead.",
                status=400,
            )
        target = None
        if steering:
            headers.refuse_unsupported(steering, name)
            if not headers.NAMING.isdisjoint(steering):
                target = headers.target(steering)
                self.choose(endpoint, target)
        return endpoint, target

    def find(self, caller: Caller, name: str) -> EndpointSlots:
        endpoint = self.slots.endpoints.get(endpoint_key(caller.account, caller.region, name))
        if endpoint is None:
            raise not_found(caller, name)
        return endpoint

    def choose(self, endpoint: EndpointSlots, target: Target | None) -> VariantSlots:
        """The variant that is named, else one by weight; and of it the container that is named. Raises AwsError."""
        variant = self._variant(endpoint, None if target is None else target.variant)
        named = None if target is None else target.container
        if isinstance(variant, DirectSlots) or named is not None:
            return container(endpoint.endpoint.name, variant, named)
        return variant

    def _variant(self, endpoint: EndpointSlots, named: str | None) -> VariantSlots:
        if named is not None:
            found = endpoint.by_name.get(named)
            if found is None:
                text = f"Variant {named[:63]} of endpoint {endpoint.endpoint.name} not found."
                raise AwsError("ValidationError", text, status=400)
            return found
        if endpoint.only is not None:
            return endpoint.only
        variant = choose_variant(endpoint.endpoint.variants, self._roll())
        if variant is None:
            text = f"No variant of endpoint {endpoint.endpoint.name} has a weight above 0: name one with TargetVariant."
            raise AwsError("ValidationError", text, status=400)
        return endpoint.by_name[variant.name]

    def where(self, caller: Caller, slots: VariantSlots, name: str) -> answers.Where:
        return answers.Where(caller.account, caller.region, name, slots.variant.container, self.base_url)

    def counters(self) -> dict[str, dict[str, object]]:
        """Cumulative counters by `endpoint key/variant`, for the metrics feed."""
        return {
            f"{key}/{name}": variant.snapshot()
            for key, endpoint in self.slots.endpoints.items()
            for name, variant in endpoint.by_name.items()
        }


def _request_ids() -> Iterator[bytes]:
    """UUIDs with a counter at their end; of all digits only the last three are new each time."""
    start = str(uuid.uuid4())[:24].encode()
    digits = [b"%03x" % number for number in range(4096)]
    for high in itertools.count():
        prefix = b"%b%09x" % (start, high & 0xFFFFFFFFF)
        for low in digits:
            yield prefix + low


def container(endpoint: str, variant: VariantSlots, name: str | None) -> VariantSlots:
    """The lanes of the container that TargetContainerHostname names. Raises AwsError (containers.md 6.1)."""
    if not isinstance(variant, DirectSlots):
        text = (
            f"Endpoint {endpoint} is not a multi-container endpoint with direct invocation and does not support the target "
            "container hostname header (TargetContainerHostname)."
        )
    elif name is None:
        text = (
            f"Endpoint {endpoint} is a multi-container endpoint with direct invocation: the request is missing the target "
            f"container hostname header. Name one with TargetContainerHostname: {', '.join(variant.containers)}."
        )
    elif (found := variant.containers.get(name)) is not None:
        return found
    else:
        text = (
            f"Endpoint {endpoint} has no container with hostname {name[:63]}. Name one with TargetContainerHostname: "
            f"{', '.join(variant.containers)}."
        )
    raise AwsError("ValidationError", text, status=400)


def not_found(caller: Caller, name: str) -> AwsError:
    return AwsError("ValidationError", f"Endpoint {name} of account {caller.account} not found.", status=400)


def no_stream(name: str) -> AwsError:
    text = f"Endpoint {name} is a multi-model endpoint, which does not answer with a response stream. Call InvokeEndpoint."
    return AwsError("ValidationError", text, status=400)


class Invocation(Call):
    """One InvokeEndpoint: claims the exchange, travels as a call, answers."""

    __slots__ = ("_began", "_caller", "_endpoint", "_exchange", "_request_id", "_runtime", "_target")

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
        # Call's own part is repeated here: made for every request, it is to cost no second call
        self.head = head
        self.body = b""
        self.framed = True
        self.done = self.retried = False
        self.bucket = self.slots = self.task = None
        self._runtime = runtime
        self._exchange = exchange
        self._caller = caller
        self._endpoint = endpoint
        self._target = target
        self._request_id = request_id
        self._began = perf_counter()

    # ---- the exchange's side

    def whole(self, body: bytes) -> None:
        self.body = body
        claim = self._caller.claim
        if claim is None or not claim.needs_body_hash:
            only = self._endpoint.only
            if only is not None and self._target is None:
                only.submit(self)
            else:
                self._dispatch()
        else:
            prove(claim, body, self._proven)

    def _proven(self, error: AwsError | None) -> None:
        if self.done:
            return
        if error is not None:
            self._refuse(error)
        else:
            self._dispatch()

    def refused(self, why: str) -> None:
        self._refuse(answers.body_refused(why, self._request_id))

    def gone(self) -> None:
        self.cancel()

    def _refuse(self, error: AwsError) -> None:
        self._send(answers.error_answer(error, self._request_id))

    def _send(self, answer: answers.Answer) -> None:
        self.body = b""
        self._exchange.respond_block(answer.status, answer.block, answer.body)

    # ---- the call's side

    def _dispatch(self) -> None:
        try:
            variant = self._runtime.choose(self._endpoint, self._target)
        except AwsError as error:
            self._refuse(error)
            return
        variant.submit(self)

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        slots = self.slots
        assert slots is not None
        counters = slots.counters
        counters.invocations += 1
        sent = self.sent
        counters.model.add(now - sent)
        counters.overhead.add(sent - self._began)
        if 200 <= status < 300:
            self.body = b""
            returned, name = self._runtime.returned, slots.name
            block = returned.known.get((head, name)) or returned.render(head, name)
            self._exchange.respond_block(200, block + self._request_id + b"\r\n", b"" if status == 204 else body)
            return
        counters.model_answered(status)
        self._send(answers.model_answered(self._where(slots), status, body, self._request_id))

    def failed(self, why: str) -> None:
        slots = self.slots
        if why == invoke.GONE:
            try:
                self._endpoint = self._runtime.find(self._caller, self._endpoint.endpoint.name)
            except AwsError as error:
                self.settle()
                self._refuse(error)
            else:
                self._dispatch()
            return
        assert slots is not None
        if why in _NO_MODEL:
            slots.counters.refused += 1
            self._refuse(answers.no_place(why, self._endpoint.endpoint.name, slots.variant.name))
            return
        slots.counters.invocations += 1
        slots.counters.model_errors += 1
        limit = slots.limits.response_bytes
        if isinstance(why, invoke.Oversize):
            self._send(answers.oversize_between(self._where(slots), why, self._request_id))
            return
        self._send(answers.model_silent(self._where(slots), why, limit, self._request_id))

    def _where(self, slots: VariantSlots) -> answers.Where:
        return self._runtime.where(self._caller, slots, self._endpoint.endpoint.name)


class ModelInvocation(Invocation):
    """One InvokeEndpoint of one model of many: it travels to wherever that model is loaded."""

    __slots__ = ("model",)

    def __init__(
        self,
        runtime: Runtime,
        exchange: Exchange,
        caller: Caller,
        endpoint: EndpointSlots,
        target: Target | None,
        request_id: bytes,
        head: bytes,
        model: str,
    ) -> None:
        super().__init__(runtime, exchange, caller, endpoint, target, request_id, head)
        self.model = model

    def failed(self, why: str) -> None:
        answer = why.answer if isinstance(why, Refused) else None
        slots = self.slots
        if slots is None or (answer is None and why != NOT_READY):
            super().failed(why)
        elif answer is not None and answer.state == FAILED:
            slots.counters.invocations += 1
            slots.counters.model_answered(answer.status)
            where, body = self._where(slots), answer.message.encode()
            self._send(answers.model_answered(where, answer.status, body, self._request_id))
        else:
            slots.counters.refused += 1
            self._refuse(answers.no_model(why, answer, self._endpoint.endpoint.name, self.model))
