from __future__ import annotations

import contextlib
import math
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.wire.cbor import CborError, Epoch, decode, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=8), inner, max_size=8),
    max_leaves=40,
)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(VALUES)
def test_round_trip(value: Any) -> None:
    assert decode(encode(value)) == value


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    with contextlib.suppress(CborError):
        decode(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1000000),
        ("1bffffffffffffffff", 2**64 - 1),
        ("3bffffffffffffffff", -(2**64)),
        ("f97bff", 65504.0),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("f7", None),
        ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("c11a514b67b0", 1363896240),
    ],
)
def test_examples_of_the_standard(data: str, value: Any) -> None:
    assert decode(bytes.fromhex(data)) == value


def test_times_are_tag_one() -> None:
    raw = encode({"t": datetime(2024, 5, 1, 10, tzinfo=UTC)})
    assert isinstance(decode(raw)["t"], Epoch)
    assert decode(raw)["t"] == 1714557600.0
    assert encode(Epoch(1)) == b"\xc1\xfb" + struct.pack(">d", 1.0)
    assert math.isnan(decode(encode(math.nan)))
    assert encode((1, memoryview(b"a"))) == b"\x82\x01\x41a"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "18",
        "1c",
        "61",
        "62c328",
        "5f6161ff",
        "5f5fffff",
        "9f",
        "9bffffffffffffffff",
        "bbffffffffffffffff",
        "a101",
        "a10102",
        "c001",
        "c16161",
        "c1f5",
        "e0",
        "f8ff",
        "ff",
        "0000",
        "81" * 200 + "00",
    ],
)
def test_what_is_no_cbor(data: str) -> None:
    with pytest.raises(CborError):
        decode(bytes.fromhex(data))


def test_what_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="object"):
        encode(object())
