"""The headers of InvokeEndpoint in both directions: which travel, which steer, which are refused (hosting.md 3.1, 3.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from slipway.core.models import MAX_TARGET, target_fault
from slipway.data.models import target_text
from slipway.http.exchange import Exchange
from slipway.http.messages import Headers
from slipway.http.render import clean_value
from slipway.wire.errors import AwsError
from slipway_host.frames import pack_head, unpack_head

_PREFIX = b"x-amzn-sagemaker-"
CUSTOM_ATTRIBUTES = _PREFIX + b"custom-attributes"
INFERENCE_ID = _PREFIX + b"inference-id"
TARGET_VARIANT = _PREFIX + b"target-variant"
TARGET_CONTAINER = _PREFIX + b"target-container-hostname"
TARGET_MODEL = _PREFIX + b"target-model"

_FORWARDED = {
    b"content-type": b"content-type",
    b"accept": b"accept",
    CUSTOM_ATTRIBUTES: b"X-Amzn-SageMaker-Custom-Attributes",
    INFERENCE_ID: b"X-Amzn-SageMaker-Inference-Id",
}
"""What the container sees, by lower-case name; everything else is stripped."""
_FORWARDED_STREAM = {
    b"content-type": b"content-type",
    _PREFIX + b"accept": b"accept",
    CUSTOM_ATTRIBUTES: b"X-Amzn-SageMaker-Custom-Attributes",
    INFERENCE_ID: b"X-Amzn-SageMaker-Inference-Id",
}
_MEMBERS = {
    b"content-type": ("contentType", 1024),
    b"accept": ("accept", 1024),
    _PREFIX + b"accept": ("accept", 1024),
    INFERENCE_ID: ("inferenceId", 64),
}
"""Name of the member and most characters it may have; CustomAttributes has a setting."""

REFUSED = {
    _PREFIX + b"inference-component": ("InferenceComponentName", "it hosts no inference components"),
    _PREFIX + b"session-id": ("SessionId", "its model keeps no sessions"),
    _PREFIX + b"enable-explanations": ("EnableExplanations", "it has no ExplainerConfig"),
    _PREFIX + b"prefix-aware-id": ("PrefixAwareId", "it has no prefix-aware routing"),
}
"""Parameters that need an endpoint of another kind: the member's name and why this one cannot take it."""

_STEERING = frozenset((*REFUSED, TARGET_VARIANT, TARGET_CONTAINER, TARGET_MODEL))
NAMING = frozenset((TARGET_VARIANT, TARGET_CONTAINER))
"""Headers that say which lanes are meant."""
_UNUSUAL = frozenset((*_STEERING, CUSTOM_ATTRIBUTES, INFERENCE_ID))

_RETURNED = {
    b"content-type": b"content-type",
    CUSTOM_ATTRIBUTES: b"X-Amzn-SageMaker-Custom-Attributes",
    _PREFIX + b"new-session-id": b"X-Amzn-SageMaker-New-Session-Id",
    _PREFIX + b"closed-session-id": b"X-Amzn-SageMaker-Closed-Session-Id",
}
_NONE: Mapping[bytes, bytes] = {}
_VISIBLE = re.compile(rb"[ -~]*")
_CACHED, _CACHED_BYTES = 512, 256


class Target(NamedTuple):
    """What a request asks for by its steering headers."""

    variant: str | None = None
    container: str | None = None
    """TargetContainerHostname."""


def target(steering: Mapping[bytes, bytes]) -> Target:
    found = [steering.get(name) for name in (TARGET_VARIANT, TARGET_CONTAINER)]
    return Target(*(None if value is None else value.decode("latin-1") for value in found))


def request_head(exchange: Exchange, stream: bool, custom_limit: int) -> tuple[bytes, Mapping[bytes, bytes]]:
    """The container's head, packed as in frames; and the headers that steer, by lower-case name. Raises AwsError."""
    values = exchange.values
    if stream or not (exchange.ordinary or _UNUSUAL.isdisjoint(values)):
        return _unusual_head(values, _FORWARDED_STREAM if stream else _FORWARDED, custom_limit)
    head = b"content-type\0" + values[b"content-type"] + b"\0" if b"content-type" in values else b""
    if b"accept" in values:
        head += b"accept\0" + values[b"accept"] + b"\0"
    if len(head) > 1024:
        return _unusual_head(values, _FORWARDED, custom_limit)
    return head, _NONE


def _unusual_head(
    values: Mapping[bytes, bytes], forwarded: Mapping[bytes, bytes], custom_limit: int
) -> tuple[bytes, Mapping[bytes, bytes]]:
    out = []
    for name, known in forwarded.items():
        value = values.get(name)
        if value is not None:
            _check(name, value, custom_limit)
            out.append((known, value))
    return pack_head(out), {name: values[name] for name in _STEERING if name in values}


def _check(name: bytes, value: bytes, custom_limit: int) -> None:
    member, most = _MEMBERS.get(name, ("customAttributes", custom_limit))
    text = value.decode("latin-1")
    if len(value) > most:
        raise _violation(text, member, f"Member must have length less than or equal to {most}")
    if name == INFERENCE_ID and not value:
        raise _violation(text, member, "Member must have length greater than or equal to 1")
    if name in (CUSTOM_ATTRIBUTES, INFERENCE_ID) and not _VISIBLE.fullmatch(value):
        raise _violation(text, member, r"Member must satisfy regular expression pattern: \p{ASCII}*")


def _violation(value: str, member: str, constraint: str) -> AwsError:
    shown = value if len(value) <= 64 else value[:64] + "..."
    text = f"1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: {constraint}"
    return AwsError("ValidationError", text, status=400)


def target_model(values: Mapping[bytes, bytes], endpoint: str, multi_model: bool, request_id: bytes) -> tuple[str, bytes]:
    """The model that a request names, and the header that tells the container; ("", b"") where no model is to be named.

    Raises AwsError (containers.md 5.4).
    """
    value = values.get(TARGET_MODEL)
    if not multi_model:
        if value is None:
            return "", b""
        text = f"Endpoint {endpoint} is not a multi-model endpoint and does not support target model header."
        raise AwsError("ValidationError", text, status=400, members={"ErrorCode": "TARGET_MODEL_HEADER_NOT_SUPPORTED"})
    if value is None:
        text = (
            f"Request {request_id.decode()} is missing a target model header. Endpoint {endpoint} is a multi-model endpoint: "
            "name a model with TargetModel."
        )
        raise AwsError("ValidationError", text, status=400)
    target = target_text(value)
    if len(target) > MAX_TARGET:
        raise _violation(target, "targetModel", f"Member must have length less than or equal to {MAX_TARGET}")
    if not target:
        raise _violation(target, "targetModel", "Member must have length greater than or equal to 1")
    if (fault := target_fault(target)) is not None:
        shown = target if len(target) <= 64 else target[:64] + "..."
        raise AwsError("ValidationError", f"Invalid TargetModel {shown!r}: {fault}.", status=400)
    return target, pack_head([(b"X-Amzn-SageMaker-Target-Model", value)])


def refuse_unsupported(steering: Mapping[bytes, bytes], endpoint: str) -> None:
    """Raises AwsError for a parameter that this kind of endpoint cannot serve."""
    for name in steering:
        if name in REFUSED:
            member, why = REFUSED[name]
            raise AwsError("ValidationError", f"{member} cannot be used with endpoint {endpoint}: {why}.", status=400)


class ReturnedHeaders:
    """Header lines of the answer from the container's head; equal heads are rendered once."""

    def __init__(self) -> None:
        self.known: dict[tuple[bytes, bytes], bytes] = {}
        """What has been rendered, by head and variant: to be asked first."""

    def render(self, head: bytes, variant: bytes) -> bytes:
        """With the line that names the variant, and the beginning of the one with the request's id."""
        pairs = [*returned_pairs(unpack_head(head)), (b"x-Amzn-Invoked-Production-Variant", variant)]
        block = b"".join(b"%b: %b\r\n" % pair for pair in pairs) + b"x-amzn-RequestId: "
        if len(head) <= _CACHED_BYTES:
            if len(self.known) >= _CACHED:
                self.known.clear()
            self.known[head, variant] = block
        return block


def returned_pairs(pairs: Headers, content_type: bytes = b"content-type") -> Headers:
    """Only what a caller may see; a value that would break the answer's head is left out. `content_type` renames it."""
    kept = []
    for name, value in pairs:
        lower = name.lower()
        known = _RETURNED.get(lower)
        if known is not None and clean_value(value):
            kept.append((content_type if lower == b"content-type" else known, value))
    return kept
