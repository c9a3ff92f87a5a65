"""Event notifications of buckets: which event goes where, and the JSON that AWS makes of it ("Event message structure")."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote_plus

from slipway.core.sns_messages import Seal

PUT = "ObjectCreated:Put"
COPY = "ObjectCreated:Copy"
COMPLETE = "ObjectCreated:CompleteMultipartUpload"
DELETE = "ObjectRemoved:Delete"
_POST = "ObjectCreated:Post"
_MARKER = "ObjectRemoved:DeleteMarkerCreated"
EVENTS = frozenset(f"s3:{n}" for n in ("ObjectCreated:*", PUT, _POST, COPY, COMPLETE, "ObjectRemoved:*", DELETE, _MARKER))
"""What a rule may ask for; Post and DeleteMarkerCreated never happen here (no form uploads, no versions)."""
SUBJECT = "Amazon S3 Notification"
SENDER = "s3.amazonaws.com"
"""SenderId of the messages in queues."""

Kind = Literal["queue", "topic"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One QueueConfiguration or TopicConfiguration."""

    id: str
    kind: Kind
    target: str
    """ARN of the queue or topic."""
    events: tuple[str, ...]
    """As configured: `s3:ObjectCreated:*` …"""
    prefix: str | None = None
    suffix: str | None = None

    def wants(self, event: str, key: str) -> bool:
        """`event` without `s3:` in front."""
        named = f"s3:{event}" in self.events or f"s3:{event.partition(':')[0]}:*" in self.events
        return named and key.startswith(self.prefix or "") and key.endswith(self.suffix or "")


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, as far as its events tell of it."""

    bucket: str
    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    """`ObjectCreated:Put` …"""
    key: str
    time: float
    """Epoch seconds."""
    size: int | None = None
    """None (and `etag`): the object is gone."""
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who did what an event tells of; the default is slipway itself."""

    name: str = PUT
    """Of the event, where there is a choice: PUT or COPY."""
    principal: str = "slipway"
    request_id: str = ""
    seal: Seal | None = None
    """Signs what topics send on into queues."""


SLIPWAY = Origin()


def rules_of(column: Sequence[Mapping[str, Any]] | None) -> list[Rule]:
    """Rules from the JSON that keeps them."""
    return [Rule(**{**each, "events": tuple(each["events"])}) for each in column or ()]


def timestamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def message(rule: Rule, place: Place, event: Event, origin: Origin, host: str) -> str:
    """The text of one event: a list of one record, as AWS sends it. `host`: x-amz-id-2."""
    found: dict[str, Any] = {"key": quote_plus(event.key, safe="/")}
    if event.size is not None:
        found |= {"size": event.size, "eTag": event.etag}
    found["sequencer"] = f"{int(event.time * 1_000_000):018X}"
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": place.region,
        "eventTime": timestamp(event.time),
        "eventName": event.name,
        "userIdentity": {"principalId": f"AWS:{origin.principal}"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": origin.request_id, "x-amz-id-2": host},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": rule.id,
            "bucket": {
                "name": place.bucket,
                "ownerIdentity": {"principalId": place.account},
                "arn": f"arn:aws:s3:::{place.bucket}",
            },
            "object": found,
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"))


def test_message(place: Place, origin: Origin, host: str, now: float) -> str:
    """What a destination gets when it is configured."""
    found = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": timestamp(now),
        "Bucket": place.bucket,
        "RequestId": origin.request_id,
        "HostId": host,
    }
    return json.dumps(found, separators=(",", ":"))


class BadRules(ValueError):
    """A configuration that S3 refuses; the message is AWS's."""

    def __init__(self, message: str, argument: str = "", value: str = "") -> None:
        super().__init__(message)
        self.argument = argument
        self.value = value


MAX_RULES = 100


def check(rules: Sequence[Rule]) -> None:
    """What S3 demands of a whole configuration. BadRules."""
    if len(rules) > MAX_RULES:
        raise BadRules(f"The number of notification configurations is above the maximum of {MAX_RULES}.")
    if len({rule.id for rule in rules}) < len(rules):
        raise BadRules("Same ID used for multiple configurations. IDs must be unique")
    for rule in rules:
        for name in rule.events:
            if name not in EVENTS:
                raise BadRules(f"The event {name} is not published by slipway's object store", "Event", name)
        if not rule.events:
            raise BadRules("The event is not supported for notifications")
    for number, rule in enumerate(rules):
        for other in rules[:number]:
            if _overlap(rule, other):
                raise BadRules(
                    "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are"
                    " overlapping for the same event type."
                )


def _overlap(one: Rule, other: Rule) -> bool:
    return (
        any(_same(a, b) for a in one.events for b in other.events)
        and _nested(one.prefix or "", other.prefix or "", str.startswith)
        and _nested(one.suffix or "", other.suffix or "", str.endswith)
    )


def _same(a: str, b: str) -> bool:
    return a == b or (a.rpartition(":")[0] == b.rpartition(":")[0] and "*" in (a[-1], b[-1]))


def _nested(a: str, b: str, within: Any) -> bool:
    return bool(within(a, b) or within(b, a))
