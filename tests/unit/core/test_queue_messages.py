"""Receipt handles and sums of messages."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.queue_messages import (
    Attribute,
    Message,
    Receipt,
    attributes_md5,
    body_md5,
    new_handle,
    read_handle,
    size_of,
)

ARN = "arn:aws:sqs:r:1:q"


@given(st.integers(0, 2**63 - 1), st.binary(min_size=16, max_size=16))
def test_a_handle_says_its_receipt_at_its_queue_alone(number: int, token: bytes) -> None:
    receipt = Receipt(number, token.hex())
    handle = new_handle(ARN, receipt)
    assert read_handle(ARN, handle) == receipt
    assert read_handle(ARN + "2", handle) is None


@given(st.text())
def test_no_text_breaks_reading(text: str) -> None:
    assert read_handle(ARN, text) is None


def test_a_number_that_no_database_holds() -> None:
    packed = base64.b64decode(new_handle(ARN, Receipt(1, "00" * 16)))
    assert read_handle(ARN, base64.b64encode(packed[:8] + b"\xff" * 8 + packed[16:]).decode()) is None


def test_sums() -> None:
    assert body_md5("This is a test message") == "fafb00f5732ab283681e124bf8747ed1"
    assert attributes_md5({}) is None
    one, two = Attribute("Number", "1"), Attribute("Binary", b"\x00")
    assert attributes_md5({"a": one, "b": two}) == attributes_md5({"b": two, "a": one})
    assert attributes_md5({"a": Attribute("String", "x")}) != attributes_md5({"a": Attribute("Binary", b"x")})


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (Message("ü"), 2),
        (Message("ab", {"n": Attribute("String", "ü"), "m": Attribute("Binary", b"123")}), 2 + 1 + 6 + 2 + 1 + 6 + 3),
    ],
)
def test_what_counts_for_the_size(message: Message, size: int) -> None:
    assert size_of(message) == size
