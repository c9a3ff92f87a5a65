from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_host import mxnet_arrays
from tests.models.linear_learner import params

HEAD = struct.pack("<QQQ", 0x112, 0, 1)
MATRIX = params({"arg:w": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]})


def row_sparse(rows: int, indices: list[int], width: int = 2) -> bytes:
    """As MXNet 1.9 writes it: storage 1, the stored shape, the shape, device, type; type and shape of the indices; data."""
    head = struct.pack("<Iiiqq", 0xF993FAC9, 1, 2, len(indices), width) + struct.pack("<iqqiii", 2, rows, width, 1, 0, 0)
    index = struct.pack("<iiq", 6, 1, len(indices))
    data = struct.pack(f"<{len(indices) * width}f", *range(len(indices) * width))
    return HEAD + head + index + data + struct.pack(f"<{len(indices)}q", *indices) + struct.pack("<Q", 0)


def test_matrices_and_their_names() -> None:
    (array,) = mxnet_arrays.read(MATRIX)
    assert (array.name, array.kind, array.shape) == ("arg:w", "<f4", (3, 2))
    assert struct.unpack("<6f", array.data) == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def test_a_list_has_no_names() -> None:
    (array,) = mxnet_arrays.read(MATRIX[: -8 - 8 - 5] + struct.pack("<Q", 0))
    assert array.name == ""


def test_a_row_sparse_array() -> None:
    (array,) = mxnet_arrays.read(row_sparse(6, [1, 4]))
    assert (array.shape, array.index_kind, struct.unpack("<2q", array.indices)) == ((6, 2), "<i8", (1, 4))


@pytest.mark.parametrize("size", range(len(MATRIX)))
def test_every_shorter_file_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"ends inside|does not begin|declared"):
        mxnet_arrays.read(MATRIX[:size])


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, headed: bool) -> None:
    with contextlib.suppress(ValueError):
        mxnet_arrays.read(HEAD + data if headed else data)


@given(st.integers(0, len(MATRIX) - 1), st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused(position: int, byte: int) -> None:
    with contextlib.suppress(ValueError):
        mxnet_arrays.read(MATRIX[:position] + bytes([byte]) + MATRIX[position + 1 :])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK" + b"\0" * 40, "does not begin with their magic number"),
        (struct.pack("<QQQ", 0x112, 0, 1 << 60), "1,152,921,504,606,846,976 arrays are declared in 24 bytes"),
        (HEAD + struct.pack("<Iii", 0xF993FAC8, 0, 0), "format .* before 1.0"),
        (HEAD + struct.pack("<Iii", 0xF993FAC9, 2, 0), "storage type 2"),
        (HEAD + struct.pack("<Iii", 0xF993FAC9, 0, 1 << 30), "has 1073741824 dimensions"),
        (HEAD + struct.pack("<Iiiq", 0xF993FAC9, 0, 1, -5), r"the shape \(-5,\)"),
        (HEAD + struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 1 << 50, 1, 0, 0), "bytes are declared and 0 are left"),
        (HEAD + struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 1, 1, 0, 77), r"unknown type \(77\)"),
        (MATRIX[: -8 - 8 - 5] + struct.pack("<Q", 3), "3 names for 1 arrays"),
        (row_sparse(6, [1, 4])[:-40], "ends inside"),
        (row_sparse(6, [1, 4]).replace(struct.pack("<iiq", 6, 1, 2), struct.pack("<iiq", 6, 1, 1)), "its parts do not fit"),
    ],
)
def test_refusals(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        mxnet_arrays.read(data)
