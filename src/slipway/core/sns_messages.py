"""What SNS sends: envelopes of notifications and confirmations, and the text that their signatures cover. Pure.

AWS: "Amazon SNS message and JSON formats", "Verifying the signatures of Amazon SNS messages".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

NOTIFICATION = "Notification"
SUBSCRIPTION = "SubscriptionConfirmation"
UNSUBSCRIPTION = "UnsubscribeConfirmation"
LINKS = "/_slipway/sns/"
"""Where the links in messages lead (`services.slipway_notices`). AWS has them at `/`; there every call of ours is signed."""
_SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SUBSCRIPTION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    UNSUBSCRIPTION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}

_LAST = ("UnsubscribeURL", "MessageAttributes")
"""What follows the signature."""


class Seal(Protocol):
    """Signs messages, and knows where they are verified and answered."""

    @property
    def url(self) -> str:
        """Of this slipway, as its clients reach it; no slash at its end."""

    @property
    def certificate_url(self) -> str:
        """Where the certificate of the signing key is to be had."""

    def sign(self, text: bytes, version: str) -> str:
        """Base64 of the RSA signature of `text`; `version` "1" means SHA-1, "2" SHA-256."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A message attribute: its type as given (`String`, `Number`, `Binary`, `String.Array`, …) and text; binary in base64."""

    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What is published to a topic."""

    message: str
    """For protocols that `texts` does not name."""
    subject: str | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    """By protocol (`MessageStructure: json`)."""
    id: str = ""
    """MessageId; "" has one made."""

    def text(self, protocol: str) -> str:
        return self.texts.get(protocol, self.message)


def timestamp(seconds: float) -> str:
    """ISO 8601 with milliseconds, as in every message of SNS."""
    moment = datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def notification(topic: str, notice: Notice, protocol: str, at: float) -> dict[str, Any]:
    """The envelope's members, those of a subscription and the signature not yet among them."""
    found: dict[str, Any] = {"Type": NOTIFICATION, "MessageId": notice.id, "TopicArn": topic}
    if notice.subject is not None:
        found["Subject"] = notice.subject
    return {**found, "Message": notice.text(protocol), "Timestamp": timestamp(at)}


def confirmation(kind: str, topic: str, token: str, id: str, at: float, url: str) -> dict[str, Any]:
    """SUBSCRIPTION or UNSUBSCRIPTION; who fetches its SubscribeURL subscribes (again)."""
    if kind == SUBSCRIPTION:
        text = f"You have chosen to subscribe to the topic {topic}.\nTo confirm the subscription, visit the SubscribeURL"
    else:
        text = f"You have chosen to deactivate subscription of the topic {topic}.\nTo cancel this, visit the SubscribeURL"
    return {
        "Type": kind,
        "MessageId": id,
        "Token": token,
        "TopicArn": topic,
        "Message": f"{text} included in this message.",
        "SubscribeURL": confirm_url(url, topic, token),
        "Timestamp": timestamp(at),
    }


def confirm_url(url: str, topic: str, token: str) -> str:
    return f"{url}{LINKS}?Action=ConfirmSubscription&TopicArn={quote(topic, safe=':')}&Token={token}"


def unsubscribe_url(url: str, subscription: str) -> str:
    return f"{url}{LINKS}?Action=Unsubscribe&SubscriptionArn={quote(subscription, safe=':')}"


def signed_text(envelope: Mapping[str, Any]) -> bytes:
    """Names and values, a line each, in byte order; a Subject that is not there is left out."""
    lines = [line for name in _SIGNED[envelope["Type"]] if name in envelope for line in (name, envelope[name])]
    return ("\n".join(lines) + "\n").encode()


def sealed(envelope: Mapping[str, Any], seal: Seal, version: str, signature: str | None = None) -> dict[str, Any]:
    """The envelope with its signature, made now unless it is given (all receivers of one text share it)."""
    signature = seal.sign(signed_text(envelope), version) if signature is None else signature
    return {**envelope, "SignatureVersion": version, "Signature": signature, "SigningCertURL": seal.certificate_url}


def sealed_text(text: str, seal: Seal, version: str) -> str:
    """An envelope for a queue, as `render` made it without its signature, with it. ValueError: it is no envelope."""
    envelope: dict[str, Any] = json.loads(text)
    last = {name: envelope.pop(name) for name in _LAST if name in envelope}
    return _laid_out({**sealed(envelope, seal, version), **last})


def render(envelope: Mapping[str, Any], attributes: Mapping[str, Attribute], **more: str) -> str:
    """JSON as SNS lays it out; `more` are the last members but the attributes (`UnsubscribeURL`)."""
    found = {**envelope, **more}
    if attributes:
        found["MessageAttributes"] = {name: {"Type": one.type, "Value": one.value} for name, one in attributes.items()}
    return _laid_out(found)


def _laid_out(envelope: Mapping[str, Any]) -> str:
    return json.dumps(envelope, indent=2, separators=(",", " : "), ensure_ascii=False)
