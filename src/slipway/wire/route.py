"""Which service and operation a request is for: the order of hosting.md 1.2, on one port for all services.

Decided from method, target and headers alone, but for the query protocol, whose operation is in the body. A request that
nobody answers raises `Unroutable`: an AwsError that carries the route as far as it was found, so that the answer speaks
the caller's protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_to_bytes

from .compression import decompress
from .corrections import CATALOG
from .errors import AwsError
from .models import ServiceModels
from .route_s3 import S3Routes, virtual_host_bucket
from .shapes import OperationModel

_CBOR_PATH = re.compile(rb"/service/([^/]+)/operation/([^/?]+)")
_RUNTIME_PATH = re.compile(rb"/endpoints/([^/]*)/([^/]+)")
_RUNTIME = {
    b"invocations": "InvokeEndpoint",
    b"async-invocations": "InvokeEndpointAsync",
    b"invocations-response-stream": "InvokeEndpointWithResponseStream",
}
_QUEUE_PATH = re.compile(rb"/\d{12}/[^/]+")
_MAX_FIELDS = 20_000
"""Fields in a form or a query string; AWS's own largest request, 1000 metrics, has fewer."""

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. `service` is boto3's name, "" when even that is open (an unsigned form)."""

    service: str
    protocol: str
    """Botocore's word: json, query, rest-json, rest-xml, smithy-rpc-v2-cbor."""
    operation: OperationModel | None = None
    """None with protocol query until `Router.query_operation` has seen the body."""
    path_params: dict[str, str] = field(default_factory=dict)
    """Decoded; `Bucket` and `Key` of S3 also where the bucket came in the Host header."""
    query: Pairs = field(default_factory=list)
    """Decoded pairs of the query string, and of the form in the query protocol."""
    resource: str = "/"
    """The path as sent, for S3's errors."""
    gzipped: bool = False
    query_mode: bool = False
    """The caller wants the codes of the former query protocol beside the json ones (`x-amzn-query-mode`)."""

    @property
    def scope(self) -> str:
        """The name that the signature's credential scope must carry."""
        return CATALOG[self.service].scope if self.service else ""


class Unroutable(AwsError):
    """Nobody answers this request; `route` names protocol and, where known, service."""

    def __init__(self, route: Route, code: str, message: str, status: int) -> None:
        super().__init__(code, message, status=status)
        self.route = route


class Router:
    """Finds routes among the services of `models`. `domains`: host names of ours below which a label is a bucket."""

    def __init__(self, models: ServiceModels, domains: tuple[str, ...] = ("localhost",)) -> None:
        self._models = models
        self._domains = domains
        served = {name: CATALOG[name] for name in models.names}
        self._by_prefix = {facts.prefix: name for name, facts in CATALOG.items() if facts.prefix}
        self._query = {name: facts for name, facts in served.items() if "query" in facts.protocols}
        self._query_by_scope = {facts.scope: name for name, facts in self._query.items()}
        self._scopes = {facts.scope for facts in served.values()}
        self._s3: S3Routes | None = None

    def route(self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], scope: str | None) -> Route:
        """`headers` have lower-case names; `scope` is the signing name of the credential scope, None when unsigned.

        Raises Unroutable.
        """
        found = dict(reversed(list(headers)))
        path, _, query = target.partition(b"?")
        base = Route(
            "",
            "json",
            query=[],
            resource=path.decode("latin-1"),
            gzipped=found.get(b"content-encoding", b"").strip().lower() == b"gzip",
            query_mode=found.get(b"x-amzn-query-mode", b"").lower() == b"true",
        )
        if scope != "s3":
            route = (
                self._cbor(base, method, path, found)
                or self._json(base, method, path, found)
                or self._runtime(base, method, path, query, scope)
                or self._query_service(base, method, path, query, found, scope)
            )
            if route is not None:
                return route
            if scope is not None:
                form = found.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded")
                raise self._unserved_scope(replace(base, protocol="query" if form else "rest-json"), method, path, scope)
        return self._object_store(base, method, path, query, found)

    def query_operation(self, route: Route, body: bytes) -> Route:
        """The route of a form, its fields in `query`; raises Unroutable (InvalidAction, MissingAction …)."""
        pairs = list(route.query)
        if body:
            body = decompress(body) if route.gzipped else body
            pairs += _pairs(body, lambda why: Unroutable(route, "MalformedQueryString", why, 400))
        values = dict(reversed(pairs))
        action, version = values.get("Action"), values.get("Version", "NO_VERSION_SPECIFIED")
        if not action:
            raise Unroutable(route, "MissingAction", "Could not find an Action in the request.", 400)
        service = route.service or next((name for name, facts in self._query.items() if facts.version == version), "")
        if service == "sqs" and "QueueUrl" not in values and _QUEUE_PATH.fullmatch(route.resource.encode("latin-1")):
            pairs.append(("QueueUrl", route.resource))  # early SDKs post to the queue's URL, and say it nowhere else
        found = replace(route, service=service, query=pairs)
        if service and self._query[service].version == version:
            try:
                return replace(found, operation=self._models.operation(service, action, "query"))
            except KeyError:
                pass
        raise Unroutable(found, "InvalidAction", f"Could not find operation {action} for version {version}", 400)

    def _cbor(self, base: Route, method: str, path: bytes, headers: dict[bytes, bytes]) -> Route | None:
        match = _CBOR_PATH.fullmatch(path)
        if match is None or b"smithy-protocol" not in headers:
            return None
        base = replace(base, protocol="smithy-rpc-v2-cbor")
        prefix, name = match[1].decode("latin-1"), match[2].decode("latin-1")
        if headers[b"smithy-protocol"].strip() != b"rpc-v2-cbor" or method != "POST":
            raise _unknown_operation(base, f"{prefix}.{name} is a POST with smithy-protocol: rpc-v2-cbor.", 404)
        return self._named(base, prefix, name, 404)

    def _json(self, base: Route, method: str, path: bytes, headers: dict[bytes, bytes]) -> Route | None:
        target = headers.get(b"x-amz-target")
        if target is None:
            return None
        prefix, _, name = target.decode("latin-1").strip().rpartition(".")
        if method != "POST" or (path != b"/" and not (prefix == "AmazonSQS" and _QUEUE_PATH.fullmatch(path))):
            raise _unknown_operation(base, "A request with X-Amz-Target is a POST to /.", 404)
        return self._named(base, prefix, name, 400)

    def _named(self, base: Route, prefix: str, name: str, status: int) -> Route:
        service = self._by_prefix.get(prefix, "")
        facts = CATALOG[service] if service else None
        if service not in self._models.names or facts is None or base.protocol not in facts.protocols:
            # Answered as JSON 1.1; every SDK of a json service reads that.
            raise _unknown_operation(base, f"{prefix}.{name} belongs to a service that is not served here.", status)
        base = replace(base, service=service)
        try:
            return replace(base, operation=self._models.operation(service, name, base.protocol))
        except KeyError:
            raise _unknown_operation(base, f"{service} has no operation {name}.", status) from None

    def _runtime(self, base: Route, method: str, path: bytes, query: bytes, scope: str | None) -> Route | None:
        if "sagemaker-runtime" not in self._models.names or scope not in (None, "sagemaker"):
            return None
        base = replace(base, service="sagemaker-runtime", protocol="rest-json")
        match = _RUNTIME_PATH.fullmatch(path)
        operation = _RUNTIME.get(match[2]) if match else None
        if match is None or operation is None or method != "POST":
            if scope is None and not operation:
                return None
            text = f"{method} {base.resource} is no operation of SageMaker Runtime."
            raise _unknown_operation(base, text, 404 if operation is None else 405)
        name = _decode(match[1], lambda why: Unroutable(base, "ValidationError", why, 400))
        pairs = _pairs(query, lambda why: Unroutable(base, "ValidationError", why, 400))
        model = self._models.operation("sagemaker-runtime", operation)
        return replace(base, operation=model, path_params={"EndpointName": name}, query=pairs)

    def _query_service(
        self, base: Route, method: str, path: bytes, query: bytes, headers: dict[bytes, bytes], scope: str | None
    ) -> Route | None:
        service = self._query_by_scope.get(scope or "")
        if scope is not None and service is None:
            return None
        base = replace(base, service=service or "", protocol="query")
        kind = headers.get(b"content-type", b"").lower()
        form = method == "POST" and (service is not None or kind.startswith(b"application/x-www-form-urlencoded"))
        if service is None and not (path == b"/" or _QUEUE_PATH.fullmatch(path)):
            return None  # an unsigned POST of a form to a key: S3's to refuse
        named = b"Action=" in query
        if service is None and not named and not form:
            return None
        pairs = _pairs(query, lambda why: Unroutable(base, "MalformedQueryString", why, 400)) if query else []
        base = replace(base, query=pairs)
        if form:
            return base
        if method not in ("GET", "POST"):
            raise Unroutable(base, "InvalidAction", f"{method} is not a method of this service.", 405)
        return self.query_operation(base, b"")

    def _unserved_scope(self, base: Route, method: str, path: bytes, scope: str) -> Unroutable:
        text = f"{method} {path[:200].decode('latin-1')} is no operation of {scope[:100]!r} that is served here"
        served = "" if scope in self._scopes else f"; served are {', '.join(sorted(self._scopes))}"
        return _unknown_operation(base, f"{text}{served}.", 404)

    def _object_store(self, base: Route, method: str, path: bytes, query: bytes, headers: dict[bytes, bytes]) -> Route:
        base = replace(base, service="s3", protocol="rest-xml")
        if "s3" not in self._models.names:
            raise _unknown_operation(replace(base, service="", protocol="json"), "Nothing is served at this path.", 404)
        if self._s3 is None:
            self._s3 = S3Routes(self._models.service("s3"))
        pairs = _pairs(query, lambda why: Unroutable(base, "InvalidURI", why, 400))
        decoded = _decode(path, lambda why: Unroutable(base, "InvalidURI", why, 400))
        bucket = virtual_host_bucket(headers.get(b"host", b"").decode("latin-1"), self._domains)
        if bucket is None:
            bucket, _, key = decoded.removeprefix("/").partition("/")
            if not bucket and key:
                raise Unroutable(base, "InvalidBucketName", "The specified bucket is not valid.", 400)
        else:
            key = decoded.removeprefix("/")
        params = ({"Bucket": bucket} if bucket else {}) | ({"Key": key} if key else {})
        base = replace(base, path_params=params, query=pairs)
        try:
            operation = self._s3.operation(method, len(params), pairs, headers)
        except AwsError as error:
            raise Unroutable(base, error.code, error.message, error.status or 400) from None
        return replace(base, operation=operation)


def _unknown_operation(route: Route, message: str, status: int) -> Unroutable:
    return Unroutable(route, "UnknownOperationException", message, status)


def _decode(raw: bytes, refuse: Any, *, plus: bool = False) -> str:
    if plus:
        raw = raw.replace(b"+", b" ")
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError:
        raise refuse("Couldn't parse the specified URI: it is not UTF-8.") from None


def _pairs(raw: bytes, refuse: Any) -> Pairs:
    """Fields of `a=b&c=d` in order; one without `=` has the value "". `refuse` makes the error to raise from a text."""
    if not raw:
        return []
    if raw.count(b"&") >= _MAX_FIELDS:
        raise refuse(f"More than {_MAX_FIELDS} fields in one request.")
    pairs = []
    for piece in raw.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append((_decode(name, refuse, plus=True), _decode(value, refuse, plus=True)))
    return pairs
