"""MXNet's file of arrays (`*.params`, `mx.nd.save`), read without MXNet: what its built-in algorithms' models are kept in.

Layout (little endian), as MXNet 1.x writes it and as files that AWS trained show it: a magic number, a reserved word, the
count of arrays, the arrays, the count of names (none, or one each), the names. An array: a magic number, its storage
(dense or row-sparse here), a sparse one's storage shape, the shape, the device, the type of its numbers, for a sparse one type
and shape of its indices, and the bytes. Every length is held against what is left of the file before anything is made of it.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from . import codecs

_FILE = 0x112
_V2, _V3 = 0xF993FAC9, 0xF993FACA
_DENSE, _ROW_SPARSE = 0, 1
_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
_MOST_DIMENSIONS = 32
_MOST_ZEROS = 1 << 28
"""Numbers of a row-sparse array once it is dense: a few bytes can declare any shape."""


class Array(NamedTuple):
    """`name` as written (`arg:fc0_weight`), empty in a file without names. `data`: numbers of `kind` (`<f4`), row by row.
    Row-sparse: `data` has the rows `indices` (of `index_kind`) alone, the others are 0."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: memoryview
    index_kind: str = ""
    indices: memoryview = memoryview(b"")

    def values(self) -> Any:
        """As a numpy array of `shape`. Raises ValueError for a sparse one that is too large, or whose rows are not there."""
        np = codecs.numpy()
        numbers = np.frombuffer(self.data, self.kind)
        if not self.index_kind:
            return numbers.reshape(self.shape)
        indices = np.frombuffer(self.indices, self.index_kind)
        if math.prod(self.shape) > _MOST_ZEROS:
            raise ValueError(f"{self.name or 'an array'} is row-sparse with the shape {self.shape}, too large to be kept")
        if len(indices) and not (indices.dtype.kind in "iu" and indices.min() >= 0 and indices.max() < self.shape[0]):
            raise ValueError(f"{self.name or 'an array'} is row-sparse, and has rows that are none of its {self.shape[0]}")
        dense = np.zeros(self.shape, self.kind)
        dense[indices] = numbers.reshape((len(indices), *self.shape[1:]))
        return dense


class _Reader:
    """Takes numbers and bytes off a buffer; ValueError where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, size: int, what: str) -> memoryview:
        if size > self.left:
            raise ValueError(f"the file ends inside {what}: {size:,} bytes are declared and {self.left:,} are left")
        begin = self._position
        self._position += size
        return self._data[begin : self._position]

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout), what))

    def number(self, layout: str, what: str) -> int:
        return self.numbers(layout, what)[0]

    def shape(self, what: str) -> tuple[int, ...]:
        count = self.number("i", what)
        if not 0 <= count <= _MOST_DIMENSIONS:
            raise ValueError(f"{what} has {count} dimensions")
        shape = self.numbers(f"{count}q", what)
        if any(length < 0 for length in shape):
            raise ValueError(f"{what} has the shape {shape}")
        return shape


def read(data: bytes) -> list[Array]:
    """All arrays of a file, in its order. ValueError says what is wrong with it."""
    reader = _Reader(data)
    if reader.left < 24 or reader.number("Q", "its head") != _FILE:
        raise ValueError("it is no file of MXNet arrays: it does not begin with their magic number")
    reader.number("Q", "its head")
    count = reader.number("Q", "its head")
    if count > reader.left // 4:
        raise ValueError(f"{count:,} arrays are declared in {len(data):,} bytes")
    arrays = [_array(reader, f"array {number}") for number in range(1, count + 1)]
    names = reader.number("Q", "the count of names")
    if names not in (0, count):
        raise ValueError(f"it has {names:,} names for {count:,} arrays")
    for number in range(names):
        what = f"name {number + 1}"
        name = bytes(reader.take(reader.number("Q", what), what)).decode("utf-8", "replace")
        arrays[number] = arrays[number]._replace(name=name)
    return arrays


def _array(reader: _Reader, what: str) -> Array:
    magic = reader.number("I", what)
    if magic not in (_V2, _V3):
        raise ValueError(f"{what} is in a format ({magic:#x}) that MXNet before 1.0 wrote, or is no array")
    storage = reader.number("i", what)
    if storage not in (_DENSE, _ROW_SPARSE):
        raise ValueError(f"{what} has the storage type {storage}; dense and row-sparse ones are read")
    stored = reader.shape(f"the stored shape of {what}") if storage == _ROW_SPARSE else None
    shape = reader.shape(f"the shape of {what}")
    reader.numbers("ii", what)  # the device it lay on
    kind = _kind(reader, what)
    if stored is None:
        return Array("", kind, shape, _numbers(reader, kind, shape, what))
    indices = f"the indices of {what}"
    index_kind, index_shape = _kind(reader, indices), reader.shape(indices)
    if not shape or stored[1:] != shape[1:] or index_shape != stored[:1]:
        raise ValueError(f"{what} is row-sparse, and its parts do not fit: {stored} of {shape} with indices {index_shape}")
    data = _numbers(reader, kind, stored, what)
    return Array("", kind, shape, data, index_kind, _numbers(reader, index_kind, index_shape, indices))


def _kind(reader: _Reader, what: str) -> str:
    number = reader.number("i", what)
    if number not in _TYPES:
        raise ValueError(f"{what} holds numbers of an unknown type ({number})")
    return _TYPES[number]


def _numbers(reader: _Reader, kind: str, shape: tuple[int, ...], what: str) -> memoryview:
    return reader.take(math.prod(shape) * int(kind[-1]), what)
