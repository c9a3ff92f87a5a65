"""Control's HTTP handler: one request through route, signature, body, parser, validator, operation and serializer.

Nothing of a body is read before the head's signature was checked, and no operation runs before the body's hash was (streams:
before their last byte). Every AWS operation needs a signature: there is one path here and no list of exceptions; our own
routes (`services.own_routes`) each name their way in.
"""

from __future__ import annotations

import inspect
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore import xform_name

from slipway.http.messages import BodyTooLarge, ClientGone, Request, Response
from slipway.services import Context, Operation, World
from slipway.services.authenticate import Authenticator, Caller, Keys
from slipway.services.own_routes import ROUTES
from slipway.services.payload import Payload, without_framing
from slipway.services.slipway import PREFIX, SCOPE, Auth, OwnRoute, is_browser, json_response
from slipway.services.slipway_metrics import is_scrape
from slipway.services.strangers import refuse_cross_origin, refuse_foreign_host
from slipway.store.db import BadValue, StoreError, StoreFull
from slipway.wire.auth_errors import auth_error, not_authorized
from slipway.wire.errors import AwsError
from slipway.wire.models import streaming_input
from slipway.wire.parse import parse
from slipway.wire.route import Route, Router, Unroutable
from slipway.wire.serialize import Rendered, serialize, serialize_error
from slipway.wire.shapes import OperationModel
from slipway.wire.signatures import SignatureError, scope_of, v2_headers
from slipway.wire.validate import validate

logger = logging.getLogger(__name__)

BODY_BYTES = 10 * 1024 * 1024
"""Of a request that is not a stream."""

_OTHER_THAN_SIGNED = re.compile(rb"//|/\.{1,2}(?:/|$)")
"""What signatures of all services but S3's normalise away: such a path is not read as it was signed, so it is not read."""


@dataclass(slots=True)
class _Call:
    """What is known of a request so far; the answer to an error speaks `route`'s protocol."""

    request: Request
    id: str
    route: Route
    caller: Caller | None = None


class Dispatcher:
    """An `http.messages.Handler`. `modules`: by service (boto3's name), what holds its operations as functions."""

    def __init__(
        self,
        world: World,
        router: Router,
        modules: Mapping[str, Any],
        keys: Keys,
        *,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._world = world
        self._router = router
        self._modules = modules
        self._authenticator = Authenticator(world.settings, keys, world.now)
        self._new_id = new_id

    async def __call__(self, request: Request) -> Response:
        if request.target.startswith(PREFIX) or is_browser(request) or is_scrape(request):
            return await self._own(request)
        started = time.perf_counter()
        call = _Call(request, self._new_id(), Route("", "json"))
        try:
            response = await self._answer(call)
        except (AwsError, SignatureError, BodyTooLarge, StoreError) as error:
            response = _response(serialize_error(call.route, None, _in_terms_of_aws(error, call.route.protocol), call.id))
        except ClientGone:
            raise
        except Exception:
            logger.exception("operation-failed", extra={"request": call.id, **_names(call)})
            failure = AwsError("InternalFailure", f"slipway failed; its log has the cause under {call.id}", status=500)
            response = _response(serialize_error(call.route, None, failure, call.id))
        fields = {"request": call.id, **_names(call), "status": response.status}
        logger.info("call", extra={**fields, "seconds": round(time.perf_counter() - started, 4)})
        return response

    def operation(self, service: str, name: str) -> Operation | None:
        """The function of an operation, None when it is not built."""
        found = getattr(self._modules.get(service), xform_name(name), None)
        return found if inspect.iscoroutinefunction(found) else None

    async def _answer(self, call: _Call) -> Response:
        request = call.request
        scope = scope_of(request.headers, request.target)
        unroutable: Unroutable | None = None
        try:
            call.route = self._router.route(request.method, request.target, request.headers, scope[1] if scope else None)
        except Unroutable as error:
            # Whoever may not call does not learn what there is.
            unroutable, call.route = error, error.route
        route = call.route
        caller = call.caller = await self._authenticator.caller(request, (route.scope,) if route.service else None)
        if unroutable is not None:
            raise unroutable
        if route.service != "s3" and _OTHER_THAN_SIGNED.search(request.target.partition(b"?")[0]):
            raise AwsError("UnknownOperationException", "The path is not in its normal form.", status=404)
        headers = without_framing(request.headers)
        if caller.claim is not None and caller.claim.form == "query2":
            headers = _with(headers, v2_headers(request.target))
        payload = Payload(request.body, headers, caller.claim, route.protocol)
        stream = streaming_input(route.operation) if route.operation is not None else None
        body = b"" if stream else await payload.read(BODY_BYTES)
        try:
            if route.operation is None:
                call.route = route = self._router.query_operation(route, body)
        except Unroutable as error:
            call.route = error.route
            raise
        if route.operation is None:
            raise AwsError("InvalidAction", "Could not find an operation in the request.", status=400)
        operation = self._permitted(route, route.operation, caller)
        params = parse(route, request.target, headers, body)
        validate(route.operation, params)
        if stream:
            params[stream] = payload
        elif caller.claim is not None and not caller.claim.verified:
            raise SignatureError("mismatch", "The signature was not verified.")
        ctx = Context(self._world, caller.account, caller.region, call.id, caller.principal, caller.access_key)
        return _response(serialize(route, await operation(ctx, params), call.id))

    def _permitted(self, route: Route, model: OperationModel, caller: Caller) -> Operation:
        if not caller.may_call(route.service):
            raise not_authorized(caller.principal, f"{route.scope}:{model.name}", route.protocol)
        operation = self.operation(route.service, model.name)
        if operation is None:
            message = f"slipway does not implement {model.service_model.service_id} {model.name} yet"
            code, status = ("NotImplemented", 501) if route.protocol == "rest-xml" else ("NotImplementedException", 400)
            raise AwsError(code, message, status=status)
        return operation

    async def _own(self, request: Request) -> Response:
        path = request.target.partition(b"?")[0]
        try:
            for route in ROUTES:
                match = route.path.fullmatch(path)
                if match is not None and request.method == route.method:
                    caller = await self._admit(route, request)
                    return await route.answer(self._world, request, caller, match)
        except (SignatureError, AwsError, BodyTooLarge, StoreError) as error:
            told = _in_terms_of_aws(error, "rest-json")
            return json_response(told.status or 400, {"code": told.code, "message": told.message})
        except ClientGone:
            raise
        except Exception:
            logger.exception("route-failed", extra={"path": path[:80].decode("latin-1")})
            return json_response(500, {"code": "InternalFailure", "message": "slipway failed; its log has the cause"})
        return json_response(404, {"code": "NotFound", "message": "slipway has no such route"})

    async def _admit(self, route: OwnRoute, request: Request) -> Caller | None:
        """What the route's way in demands; None where no key is involved."""
        if route.auth is not Auth.SIGNATURE:
            refuse_cross_origin(request.headers)
            if self._world.settings.tls_cert is None:
                refuse_foreign_host(request.headers, self._world.settings.host)
            return None
        caller = await self._authenticator.caller(request, (SCOPE,))
        if caller.services:
            raise not_authorized(caller.principal, "slipway:Status", "rest-json")
        await Payload(request.body, request.headers, caller.claim, "rest-json").read(BODY_BYTES)
        return caller


def _response(rendered: Rendered) -> Response:
    """As the HTTP server wants it: a length that the operation states (GetObject, HeadObject) is the message's own."""
    length: int | None = None
    headers = []
    for name, value in rendered.headers:
        if name == b"content-length":
            length = int(value)
        else:
            headers.append((name, value))
    return Response(rendered.status, headers, rendered.body if rendered.stream is None else rendered.stream, length)


def _in_terms_of_aws(error: Exception, protocol: str) -> AwsError:
    if isinstance(error, AwsError):
        return error
    if isinstance(error, SignatureError):
        return auth_error(error, protocol)
    if isinstance(error, BodyTooLarge):
        if protocol == "rest-xml":
            return AwsError("MaxMessageLengthExceeded", "Your request was too big.", status=400)
        return AwsError("RequestEntityTooLargeException", f"The request's body is larger than {BODY_BYTES} bytes.", status=413)
    if isinstance(error, BadValue):
        code = (
            "InvalidArgument" if protocol == "rest-xml" else "ValidationError" if protocol == "query" else "ValidationException"
        )
        return AwsError(code, "The request holds what cannot be kept: a null character, or too large a number.", status=400)
    logger.error("store-unavailable", extra={"error": str(error)})
    code = "ServiceUnavailable" if protocol in ("rest-xml", "query") else "ServiceUnavailableException"
    if isinstance(error, StoreFull):
        return AwsError(code, "The disk that holds slipway's data is full. Make room, and try again.", status=503)
    return AwsError(code, "The store cannot be reached or is overloaded. Try again.", status=503)


def _with(headers: list[tuple[bytes, bytes]], more: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name for name, _ in headers}
    return headers + [(name, value) for name, value in more if name not in there]


def _names(call: _Call) -> dict[str, str]:
    operation = call.route.operation
    return {
        "service": call.route.service,
        "operation": operation.name if operation is not None else "",
        "account": call.caller.account if call.caller is not None else "",
    }
