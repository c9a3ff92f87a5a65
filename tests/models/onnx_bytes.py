"""A small ONNX model, written as the protocol buffers it is: y = x · W, with a free first dimension."""

from __future__ import annotations

import struct


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor_info(name: str, width: int) -> bytes:
    shape = _bytes(1, _bytes(2, "rows")) + _bytes(1, _number(1, width))
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, shape)))


def product(weights: list[list[float]]) -> bytes:
    """The model file. `weights`: W, by rows."""
    rows, columns = len(weights), len(weights[0])
    flat = [value for row in weights for value in row]
    initial = (
        _number(1, rows)
        + _number(1, columns)
        + _number(2, 1)
        + _bytes(8, "W")
        + _bytes(9, struct.pack(f"<{len(flat)}f", *flat))
    )
    node = _bytes(1, "x") + _bytes(1, "W") + _bytes(2, "y") + _bytes(4, "MatMul")
    graph = _bytes(1, node) + _bytes(2, "product") + _bytes(5, initial)
    graph += _bytes(11, _tensor_info("x", rows)) + _bytes(12, _tensor_info("y", columns))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 17))
