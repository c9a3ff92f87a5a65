"""SNS's delivery policies: how often, and how much later, a delivery over HTTP is tried again. Pure.

AWS: "Creating an Amazon SNS HTTP/S delivery policy". The default here tries for some 13 minutes: AWS's own (three times, 20 s
apart) gives up on a receiver that is merely being restarted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

POLICY_BYTES = 32_768
CONTENT_TYPES = frozenset(
    {
        "text/css", "text/csv", "text/html", "text/plain", "text/xml",
        "application/atom+xml", "application/json", "application/octet-stream", "application/soap+xml",
        "application/x-www-form-urlencoded", "application/xhtml+xml", "application/xml",
    }
)  # fmt: skip
"""What headerContentType may be, a charset after it."""
_FUNCTIONS = ("arithmetic", "exponential", "geometric", "linear")
_MOST_RETRIES = 100
_MOST_SECONDS = 3600


class BadDeliveryPolicy(ValueError):
    """Not a delivery policy; the message in AWS's words."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """Delays are seconds. First the retries without delay, then those with the least, then backoff, then the longest."""

    least: float = 1.0
    longest: float = 20.0
    retries: int = 50
    """All phases together."""
    undelayed: int = 3
    at_least: int = 2
    at_longest: int = 35
    function: str = "exponential"
    rate: int | None = None
    """Deliveries in a second at most (maxReceivesPerSecond)."""
    content_type: str | None = None

    def delay(self, attempt: int) -> float | None:
        """Seconds until the next try, after `attempt` of them (1, 2 …) have failed; None: no more."""
        if attempt > self.retries:
            return None
        if attempt <= self.undelayed:
            return 0.0
        attempt -= self.undelayed
        if attempt <= self.at_least:
            return self.least
        attempt -= self.at_least
        steps = self.retries - self.undelayed - self.at_least - self.at_longest
        return self._backoff(attempt, steps) if attempt <= steps else self.longest

    def _backoff(self, step: int, steps: int) -> float:
        """Between the least and the longest delay: `step` 1 is the least, the last one the longest."""
        share = 1.0 if steps == 1 else (step - 1) / (steps - 1)
        span = self.longest - self.least
        match self.function:
            case "exponential":
                return self.least + span * (math.pow(2.0, 10.0 * share) - 1.0) / 1023.0
            case "geometric":
                return self.least * math.pow(self.longest / self.least, share)
            case "arithmetic":
                return self.least + span * share * (share + 1.0) / 2.0
        return self.least + span * share

    def effective(self) -> dict[str, Any]:
        """As `EffectiveDeliveryPolicy` of a subscription shows it."""
        healthy = {
            "minDelayTarget": self.least,
            "maxDelayTarget": self.longest,
            "numRetries": self.retries,
            "numMaxDelayRetries": self.at_longest,
            "numNoDelayRetries": self.undelayed,
            "numMinDelayRetries": self.at_least,
            "backoffFunction": self.function,
        }
        found: dict[str, Any] = {"healthyRetryPolicy": {k: int(v) if isinstance(v, float) else v for k, v in healthy.items()}}
        found["sicklyRetryPolicy"] = None
        found["throttlePolicy"] = {"maxReceivesPerSecond": self.rate} if self.rate else None
        found["requestPolicy"] = {"headerContentType": self.content_type or "text/plain; charset=UTF-8"}
        found["guaranteed"] = False
        return found


DEFAULT = DeliveryPolicy()


def parse(text: str, *, topic: bool = False) -> DeliveryPolicy:
    """A subscription's DeliveryPolicy, or the `http` part of a topic's. BadDeliveryPolicy names what is wrong."""
    if len(text) > POLICY_BYTES:
        raise BadDeliveryPolicy("DeliveryPolicy: too long")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise BadDeliveryPolicy("DeliveryPolicy: failed to parse JSON.") from None
    prefix = "DeliveryPolicy"
    if topic:
        found, prefix = _object(_object(found, prefix, ("http",)).get("http", {}), "http", _TOPIC_PARTS), "http"
        parts = {name: found.get(long) for name, long in zip(_PARTS, _TOPIC_PARTS, strict=False)}
    else:
        parts = dict(_object(found, prefix, (*_PARTS, "sicklyRetryPolicy", "guaranteed")))
        if parts.get("sicklyRetryPolicy") or parts.get("guaranteed"):
            raise BadDeliveryPolicy("DeliveryPolicy: sicklyRetryPolicy and guaranteed are not supported by slipway")
    throttle = _object(parts.get("throttlePolicy") or {}, "throttlePolicy", ("maxReceivesPerSecond",))
    request = _object(parts.get("requestPolicy") or {}, "requestPolicy", ("headerContentType",))
    kind = request.get("headerContentType")
    if kind is not None and (not isinstance(kind, str) or kind.partition(";")[0].strip() not in CONTENT_TYPES or "\n" in kind):
        raise BadDeliveryPolicy("DeliveryPolicy: requestPolicy.headerContentType is not one of the supported types")
    rate = _number(throttle, "maxReceivesPerSecond", None, 1, 10_000)
    return _healthy(parts.get("healthyRetryPolicy") or {}, rate, kind)


_PARTS = ("healthyRetryPolicy", "throttlePolicy", "requestPolicy")
_TOPIC_PARTS = ("defaultHealthyRetryPolicy", "defaultThrottlePolicy", "defaultRequestPolicy", "disableSubscriptionOverrides")


def _healthy(found: Any, rate: int | None, kind: str | None) -> DeliveryPolicy:
    names = ("minDelayTarget", "maxDelayTarget", "numRetries", "numNoDelayRetries", "numMinDelayRetries", "numMaxDelayRetries")
    found = _object(found, "healthyRetryPolicy", (*names, "backoffFunction"))
    if not found:
        return DeliveryPolicy(rate=rate, content_type=kind)
    least = _number(found, names[0], 20, 1, _MOST_SECONDS) or 20
    longest = _number(found, names[1], max(20, least), 1, _MOST_SECONDS) or 20
    retries = _number(found, names[2], 3, 0, _MOST_RETRIES) or 0
    undelayed, at_least, at_longest = (_number(found, name, 0, 0, _MOST_RETRIES) or 0 for name in names[3:])
    function = found.get("backoffFunction", "linear")
    if function not in _FUNCTIONS:
        raise BadDeliveryPolicy(f"DeliveryPolicy: healthyRetryPolicy.backoffFunction must be one of {', '.join(_FUNCTIONS)}")
    if longest < least:
        raise BadDeliveryPolicy("DeliveryPolicy: healthyRetryPolicy.maxDelayTarget must be at least minDelayTarget")
    if undelayed + at_least + at_longest > retries:
        raise BadDeliveryPolicy(
            "DeliveryPolicy: healthyRetryPolicy.numRetries must be greater than or equal to total of numMinDelayRetries, "
            "numNoDelayRetries and numMaxDelayRetries"
        )
    return DeliveryPolicy(least, longest, retries, undelayed, at_least, at_longest, function, rate, kind)


def _object(value: Any, name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadDeliveryPolicy(f"DeliveryPolicy: {name} must be an object")
    for key in value:
        if key not in known:
            raise BadDeliveryPolicy(f"DeliveryPolicy: unexpected JSON member: {key[:60]}")
    return value


def _number(found: Mapping[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    value = found.get(name, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadDeliveryPolicy(f"DeliveryPolicy: {name} must be a number")
    if not least <= value <= most:
        raise BadDeliveryPolicy(f"DeliveryPolicy: {name} must be between {least} and {most}")
    return int(value)
