"""RecordIO with protobuf records, the binary format of AWS's built-in algorithms: read and written, bounded by the body.

A record is framed by a magic number and a length (three bits of it say whether it is a part of a longer one) and padded to
four bytes. Inside is a `Record`: maps of names to tensors, `features` and `label`; a tensor holds `values`, and when it is
sparse `keys` (their places) and `shape`. What is not a tensor is skipped. Nothing is allocated for a length that is merely
declared. Written from the published schema (aialgs.data.Record), without a protobuf library.
"""

from __future__ import annotations

import array
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

CONTENT_TYPE = "application/x-recordio-protobuf"
_MAGIC = 0xCED7230A
_HEAD = struct.Struct("<II")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Tensor(NamedTuple):
    """`keys` empty: dense. Otherwise `values[i]` is in column `keys[i]` of `shape[-1]` columns (0: not said)."""

    values: Sequence[float]
    keys: Sequence[int] = ()
    shape: Sequence[int] = ()

    @property
    def columns(self) -> int:
        """As declared by a sparse tensor; the number of values of a dense one."""
        if not self.is_sparse:
            return len(self.values)
        return self.shape[-1] if self.shape else 0

    @property
    def is_sparse(self) -> bool:
        return bool(self.keys) or (bool(self.shape) and not self.values)


class Record(NamedTuple):
    features: Mapping[str, Tensor]
    label: Mapping[str, Tensor]


def read(body: bytes) -> list[Record]:
    """All records of a body. Raises ValueError for what is none."""
    return [_record(memoryview(payload)) for payload in _payloads(body)]


def rows(body: bytes) -> list[Tensor]:
    """The tensor `values` of each record's features: the rows of a request. Raises ValueError."""
    found = []
    for number, record in enumerate(read(body), 1):
        if "values" not in record.features:
            names = ", ".join(sorted(record.features)[:5]) or "none"
            raise ValueError(f"record {number} has no features named 'values' (it has {names})")
        found.append(record.features["values"])
    return found


def write(records: Sequence[Record]) -> bytes:
    """Each record whole, values as 32-bit floats."""
    out = []
    for record in records:
        payload = b"".join([_entry(1, name, tensor) for name, tensor in record.features.items()])
        payload += b"".join([_entry(2, name, tensor) for name, tensor in record.label.items()])
        out += [_HEAD.pack(_MAGIC, len(payload)), payload, b"\0" * (-len(payload) % 4)]
    return b"".join(out)


def _payloads(body: bytes) -> Iterator[bytes]:
    position, open_record = 0, False
    parts: list[bytes] = []
    while position < len(body):
        if len(body) - position < _HEAD.size:
            raise ValueError("the last record is cut off")
        magic, word = _HEAD.unpack_from(body, position)
        if magic != _MAGIC:
            raise ValueError(f"no record begins at byte {position}: this is not RecordIO")
        kind, length = word >> 29, word & (1 << 29) - 1
        position += _HEAD.size
        if length > len(body) - position:
            raise ValueError("the last record is cut off")
        if kind > _LAST or open_record != (kind in (_MIDDLE, _LAST)):
            raise ValueError(f"the record before byte {position} is a part of no other")
        data = body[position : position + length]
        position += length + -length % 4
        if not open_record:
            parts = []
        parts.append(data)
        open_record = kind in (_FIRST, _MIDDLE)
        if not open_record:
            # A record is split where it contained the magic number itself, which the parts lack.
            yield struct.pack("<I", _MAGIC).join(parts)
    if open_record:
        raise ValueError("the last record is cut off")


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(number, wire type, content) of each field of a message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            begin = position
            _, position = _varint(data, position)
        elif wire == _BYTES:
            length, begin = _varint(data, position)
            position = begin + length
        elif wire in (_FIXED32, _FIXED64):
            begin, position = position, position + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"a record holds a field of wire type {wire}, which protobuf does not have")
        if position > len(data) or number == 0:
            raise ValueError("a record is no protobuf message: a field leaves it")
        yield number, wire, data[begin:position]


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a record is no protobuf message: a number does not end")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, position
        shift += 7


def _record(data: memoryview) -> Record:
    maps: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for number, wire, content in _fields(data):
        if number in (1, 2) and wire == _BYTES:
            name, tensor = "", None
            for part, part_wire, inner in _fields(content):
                if part == 1 and part_wire == _BYTES:
                    name = bytes(inner).decode("utf-8", "replace")
                elif part == 2 and part_wire == _BYTES:
                    tensor = _value(inner)
            if tensor is not None:
                maps[number - 1][name] = tensor
    return Record(*maps)


def _value(data: memoryview) -> Tensor | None:
    """Value: float32_tensor = 2, float64_tensor = 3, int32_tensor = 7; others (bytes) are no tensor."""
    tensor = None
    for number, wire, content in _fields(data):
        if number in (2, 3, 7) and wire == _BYTES:
            tensor = _tensor(content, {2: "f", 3: "d", 7: "i"}[number])
    return tensor


def _tensor(data: memoryview, code: str) -> Tensor:
    values = array.array(code)
    keys: list[int] = []
    shape: list[int] = []
    for number, wire, content in _fields(data):
        if number == 1 and code == "i":
            values.extend([_signed32(n) for n in _varints(content)])
        elif number == 1 and wire in (_BYTES, _FIXED32, _FIXED64):
            if len(content) % values.itemsize:
                raise ValueError("a tensor's values are cut off")
            values.frombytes(content)
        elif number == 2 and wire in (_BYTES, _VARINT):
            keys += _varints(content)
        elif number == 3 and wire in (_BYTES, _VARINT):
            shape += _varints(content)
    if sys.byteorder == "big" and code != "i":
        values.byteswap()
    if keys and len(keys) != len(values):
        raise ValueError(f"a sparse tensor has {len(keys)} keys and {len(values)} values")
    if keys and shape and max(keys) >= shape[-1]:
        raise ValueError(f"a sparse tensor names column {max(keys)} of {shape[-1]}")
    return Tensor(values, keys, shape)


def _varints(data: memoryview) -> list[int]:
    found, position = [], 0
    while position < len(data):
        value, position = _varint(data, position)
        found.append(value)
    return found


def _signed32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _entry(number: int, name: str, tensor: Tensor) -> bytes:
    values = array.array("f", tensor.values)
    if sys.byteorder == "big":
        values.byteswap()
    inner = _delimited(1, values.tobytes())
    for field, numbers in ((2, tensor.keys), (3, tensor.shape)):
        if numbers:
            inner += _delimited(field, b"".join([_number(n) for n in numbers]))
    return _delimited(number, _delimited(1, name.encode()) + _delimited(2, _delimited(2, inner)))


def _delimited(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
