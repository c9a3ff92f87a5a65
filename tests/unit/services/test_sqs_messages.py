"""Envelopes of SNS in queues get their signature when they are received."""

from __future__ import annotations

import json

import pytest

from slipway.core.queue_messages import Receipt, Received
from slipway.core.sns_messages import Notice, notification, render, signed_text
from slipway.services.sqs.messages import sealed


class FakeSeal:
    url = "http://here"
    certificate_url = "http://here/c.pem"

    def sign(self, text: bytes, version: str) -> str:
        return f"{version} {text.decode()}"


class BrokenSeal(FakeSeal):
    def sign(self, text: bytes, version: str) -> str:
        raise OSError("no space")


ENVELOPE = notification("arn:aws:sns:r:1:t", Notice("ä", id="m"), "sqs", 1.0)


def received(body: str, seal: str | None) -> Received:
    return Received("id", body, {}, Receipt(1, ""), 1.0, 1.0, 1, seal=seal)


def test_what_was_marked_is_signed() -> None:
    text = render(ENVELOPE, {}, UnsubscribeURL="http://here/u")
    marked, plain = sealed([received(text, "2"), received(text, None)], FakeSeal())
    envelope = json.loads(marked.body)
    assert envelope["Signature"] == f"2 {signed_text(ENVELOPE).decode()}"
    assert envelope["SigningCertURL"] == "http://here/c.pem"
    assert list(envelope)[-1] == "UnsubscribeURL"
    assert plain.body == text


@pytest.mark.parametrize("seal", [BrokenSeal(), None])
def test_a_key_that_cannot_be_read_does_not_hold_up_the_message(
    seal: FakeSeal | None, caplog: pytest.LogCaptureFixture
) -> None:
    text = render(ENVELOPE, {})
    (found,) = sealed([received(text, "1")], seal)
    assert found.body == text
    assert ("notification-not-signed" in caplog.text) == (seal is not None)
