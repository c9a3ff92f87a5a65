from __future__ import annotations

import base64
import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_host import recordio
from slipway_host.recordio import Record, Tensor

floats = st.floats(width=32, allow_nan=False)
tensors = st.lists(floats).map(Tensor) | st.integers(1, 40).flatmap(
    lambda n: st.builds(
        lambda keys, value: Tensor([value] * len(keys), sorted(keys), [n]), st.sets(st.integers(0, n - 1), min_size=1), floats
    )
)
records = st.builds(
    Record, st.dictionaries(st.text(max_size=9), tensors, max_size=3), st.dictionaries(st.text(max_size=9), tensors, max_size=2)
)


def plain(record: Record) -> list[dict[str, tuple[list[float], list[int], list[int]]]]:
    return [{k: (list(t.values), list(t.keys), list(t.shape)) for k, t in each.items()} for each in record]


@given(st.lists(records, max_size=4))
def test_what_is_written_is_read(given: list[Record]) -> None:
    assert [plain(each) for each in recordio.read(recordio.write(given))] == [plain(each) for each in given]


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, framed: bool) -> None:
    body = struct.pack("<II", 0xCED7230A, len(data)) + data + b"\0" * (-len(data) % 4) if framed else data
    with contextlib.suppress(ValueError):
        recordio.read(body)


def test_a_record_in_parts() -> None:
    whole = recordio.write([Record({"values": Tensor([1.0, 2.0])}, {})])
    payload = whole[8 : 8 + struct.unpack_from("<I", whole, 4)[0]]
    first, last = payload[:5], payload[5:]
    magic = struct.pack("<I", 0xCED7230A)

    def part(kind: int, data: bytes) -> bytes:
        return magic + struct.pack("<I", kind << 29 | len(data)) + data + b"\0" * (-len(data) % 4)

    with pytest.raises(ValueError, match="protobuf"):
        recordio.read(part(1, first) + part(3, last))  # the magic number is put back between parts
    with pytest.raises(ValueError, match="cut off"):
        recordio.read(part(1, first))
    with pytest.raises(ValueError, match="part of no other"):
        recordio.read(part(3, last))
    with pytest.raises(ValueError, match="part of no other"):
        recordio.read(part(1, first) + whole)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"1,2,3\n4,5,6\n", "not RecordIO"),
        (struct.pack("<II", 0xCED7230A, 1 << 28), "cut off"),
        (struct.pack("<II", 0xCED7230A, 0)[:6], "cut off"),
        (struct.pack("<II", 0xCED7230A, 0), "no features named 'values'"),
        (recordio.write([Record({"other": Tensor([1.0])}, {})]), "it has other"),
        (recordio.write([Record({"values": Tensor([1.0], [7], [3])}, {})]), "column 7 of 3"),
        (recordio.write([Record({"values": Tensor([1.0], [1, 2], [3])}, {})]), "2 keys and 1 values"),
    ],
)
def test_refusals(body: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recordio.rows(body)


def test_a_huge_declared_shape_costs_nothing() -> None:
    (row,) = recordio.rows(recordio.write([Record({"values": Tensor([1.0], [7], [1 << 60])}, {})]))
    assert (row.is_sparse, row.columns) == (True, 1 << 60)


OF_THE_SDK = {
    "float32": (
        "CiPXzjAAAAAKGgoGdmFsdWVzEhASDgoMAADAPwAAAMAAAAAAEhIKBnZhbHVlcxIIEgYKBAAAgD8KI9fOMAAAAAoaCgZ2YWx1ZXMSEBIOCgwAAIA+AABAQG8S"
        "gzoSEgoGdmFsdWVzEggSBgoEAAAAAA=="
    ),
    "float64": (
        "CiPXzkAAAAAKJgoGdmFsdWVzEhwaGgoYAAAAAAAA+D8AAAAAAAAAwAAAAAAAAAAAEhYKBnZhbHVlcxIMGgoKCAAAAAAAAPA/CiPXzkAAAAAKJgoGdmFsdWVz"
        "EhwaGgoYAAAAAAAA0D8AAAAAAAAIQPyp8dJNYlA/EhYKBnZhbHVlcxIMGgoKCAAAAAAAAAAA"
    ),
}
"""What sagemaker 2.257's write_numpy_to_dense_tensor makes of [[1.5, -2, 0], [0.25, 3, 0.001]] with labels [1, 0]."""


@pytest.mark.parametrize("kind", OF_THE_SDK)
def test_what_the_sdk_writes(kind: str) -> None:
    one, other = recordio.read(base64.b64decode(OF_THE_SDK[kind]))
    assert (list(one.features["values"].values), list(one.label["values"].values)) == ([1.5, -2.0, 0.0], [1.0])
    assert list(other.features["values"].values) == [0.25, 3.0, pytest.approx(1e-3)]


INTEGERS = (
    "CiPXzi0AAAAKGgoGdmFsdWVzEhA6DgoMAf7//////////wEAEg8KBnZhbHVlcxIFOgMKAQEAAAAKI9fOLQAAAAoaCgZ2YWx1ZXMSEDoOCgwHA4CAgID4/////wES"
    "DwoGdmFsdWVzEgU6AwoBAAAAAA=="
)
"""The same of [[1, -2, 0], [7, 3, -2147483648]] with labels [1, 0], as int."""
SPARSE = {
    "float32": (
        "CiPXzjMAAAAKHQoGdmFsdWVzEhMSEQoIAADAPwAAAEASAgADGgEEEhIKBnZhbHVlcxIIEgYKBAAAgD8ACiPXzi4AAAAKGAoGdmFsdWVzEg4SDAoEAABAwBIB"
        "AhoBBBISCgZ2YWx1ZXMSCBIGCgQAAAAAAAA="
    ),
    "float64": (
        "CiPXzj8AAAAKJQoGdmFsdWVzEhsaGQoQAAAAAAAA+D8AAAAAAAAAQBICAAMaAQQSFgoGdmFsdWVzEgwaCgoIAAAAAAAA8D8ACiPXzjYAAAAKHAoGdmFsdWVz"
        "EhIaEAoIAAAAAAAACMASAQIaAQQSFgoGdmFsdWVzEgwaCgoIAAAAAAAAAAAAAA=="
    ),
}
"""What its write_spmatrix_to_sparse_tensor makes of [[1.5, 0, 0, 2], [0, 0, -3, 0]]."""


def test_integers_that_the_sdk_writes() -> None:
    one, other = recordio.read(base64.b64decode(INTEGERS))
    assert (list(one.features["values"].values), list(one.label["values"].values)) == ([1, -2, 0], [1])
    assert list(other.features["values"].values) == [7, 3, -2147483648]


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_records_that_the_sdk_writes(kind: str) -> None:
    one, other = recordio.rows(base64.b64decode(SPARSE[kind]))
    assert (list(one.values), list(one.keys), list(one.shape), one.columns) == ([1.5, 2.0], [0, 3], [4], 4)
    assert (list(other.values), list(other.keys)) == ([-3.0], [2])
