"""SNS's delivery policies: how often, and how much later, a delivery over HTTP is tried again. Pure.

AWS: "Creating an Amazon SNS HTTP/S delivery policy". The default here tries for some 13 minutes: AWS's own (three times, 20 s
apart) gives up on a receiver that is merely being restarted.
"""

from __future__ import annotations

import json
import math
import re
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
CONTENT_TYPE = "text/plain; charset=UTF-8"
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

    def effective_topic(self, above: bool) -> dict[str, Any]:
        """As the `http` of a topic's `EffectiveDeliveryPolicy` shows it."""
        found: dict[str, Any] = {"defaultHealthyRetryPolicy": self._shown(), _ABOVE: above}
        found["defaultRequestPolicy"] = {"headerContentType": self.content_type or CONTENT_TYPE}
        return {**found, **({"defaultThrottlePolicy": {"maxReceivesPerSecond": self.rate}} if self.rate else {})}

    def effective(self) -> dict[str, Any]:
        """As `EffectiveDeliveryPolicy` of a subscription shows it."""
        return {
            "healthyRetryPolicy": self._shown(),
            "sicklyRetryPolicy": None,
            "throttlePolicy": {"maxReceivesPerSecond": self.rate} if self.rate else None,
            "requestPolicy": {"headerContentType": self.content_type or CONTENT_TYPE},
            "guaranteed": False,
        }

    def _shown(self) -> dict[str, Any]:
        return {
            "minDelayTarget": int(self.least),
            "maxDelayTarget": int(self.longest),
            "numRetries": self.retries,
            "numMaxDelayRetries": self.at_longest,
            "numNoDelayRetries": self.undelayed,
            "numMinDelayRetries": self.at_least,
            "backoffFunction": self.function,
        }


DEFAULT = DeliveryPolicy()


def parse(text: str) -> DeliveryPolicy:
    """A subscription's DeliveryPolicy. BadDeliveryPolicy names what is wrong."""
    found = _object(_json(text), "DeliveryPolicy", (*_PARTS, "sicklyRetryPolicy", "guaranteed"))
    if found.get("sicklyRetryPolicy") or found.get("guaranteed"):
        raise BadDeliveryPolicy("DeliveryPolicy: sicklyRetryPolicy and guaranteed are not supported by slipway")
    return _policy(*(found.get(name) for name in _PARTS))


def parse_topic(text: str) -> tuple[DeliveryPolicy, bool]:
    """A topic's DeliveryPolicy for HTTP, and whether it stands above those of subscriptions. BadDeliveryPolicy."""
    found = _object(_object(_json(text), "DeliveryPolicy", ("http",)).get("http") or {}, "http", (*_TOPIC_PARTS, _ABOVE))
    above = found.get(_ABOVE, False)
    if not isinstance(above, bool):
        raise BadDeliveryPolicy(f"DeliveryPolicy: http.{_ABOVE} must be true or false")
    return _policy(*(found.get(name) for name in _TOPIC_PARTS)), above


def effective(subscription: str | None, topic: str | None) -> DeliveryPolicy:
    """What holds for a subscription, of its own (checked) DeliveryPolicy and its topic's."""
    general, above = parse_topic(topic) if topic else (DEFAULT, False)
    return general if above or not subscription else parse(subscription)


def _json(text: str) -> Any:
    if len(text) > POLICY_BYTES:
        raise BadDeliveryPolicy("DeliveryPolicy: too long")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadDeliveryPolicy("DeliveryPolicy: failed to parse JSON.") from None


def _policy(healthy: Any, throttle: Any, request: Any) -> DeliveryPolicy:
    request = _object(request or {}, "requestPolicy", ("headerContentType",))
    kind = request.get("headerContentType")
    if kind is not None and not (
        isinstance(kind, str) and _CONTENT_TYPE.fullmatch(kind) and kind.partition(";")[0] in CONTENT_TYPES
    ):
        raise BadDeliveryPolicy("DeliveryPolicy: requestPolicy.headerContentType is not one of the supported types")
    throttle = _object(throttle or {}, "throttlePolicy", ("maxReceivesPerSecond",))
    rate = _number(throttle, "maxReceivesPerSecond", None, 1, 10_000)
    return _healthy(healthy or {}, rate, kind)


_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z0-9+.-]+(?:; ?charset=[A-Za-z0-9-]{1,40})?")
_ABOVE = "disableSubscriptionOverrides"
_PARTS = ("healthyRetryPolicy", "throttlePolicy", "requestPolicy")
_TOPIC_PARTS = ("defaultHealthyRetryPolicy", "defaultThrottlePolicy", "defaultRequestPolicy")


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
