"""CBOR (RFC 8949) as far as Smithy's RPC v2 uses it: no bignums, no tag but 1 (epoch seconds), text keys in maps.

`encode` turns a datetime into tag 1; `decode` gives tag 1 back as `Epoch`. Both are bounded: depth, and never more
items than there are bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_MAX_DEPTH = 100
_BREAK = 0xFF
_INDEFINITE = 31


class CborError(ValueError):
    """The bytes are no CBOR that RPC v2 knows; the message says why."""


class Epoch(float):
    """Seconds since 1970 that came with tag 1."""


def _head(major: int, value: int) -> bytes:
    major <<= 5
    if value < 24:
        return bytes((major | value,))
    if value < 0x100:
        return bytes((major | 24, value))
    if value < 0x10000:
        return struct.pack(">BH", major | 25, value)
    if value < 0x1_0000_0000:
        return struct.pack(">BI", major | 26, value)
    return struct.pack(">BQ", major | 27, value)


def encode(value: Any) -> bytes:
    """Bytes of plain values: None, bool, int, float, str, bytes, datetime, list, mapping. TypeError for anything else."""
    out = bytearray()
    _encode(out, value)
    return bytes(out)


def _encode(out: bytearray, value: Any) -> None:
    match value:
        case None:
            out.append(0xF6)
        case bool():
            out.append(0xF5 if value else 0xF4)
        case int():
            out += _head(0, value) if value >= 0 else _head(1, -1 - value)
        case Epoch():
            out += b"\xc1" + struct.pack(">Bd", 0xFB, value)
        case float():
            out += struct.pack(">Bd", 0xFB, value)
        case str():
            raw = value.encode()
            out += _head(3, len(raw)) + raw
        case bytes() | bytearray() | memoryview():
            out += _head(2, len(value))
            out += value
        case datetime():
            _encode(out, Epoch(value.timestamp()))
        case Mapping():
            out += _head(5, len(value))
            for key, item in value.items():
                _encode(out, key)
                _encode(out, item)
        case list() | tuple():
            out += _head(4, len(value))
            for item in value:
                _encode(out, item)
        case _:
            raise TypeError(f"CBOR cannot hold a {type(value).__name__}")


def decode(data: bytes) -> Any:
    """The one item that `data` holds. CborError when malformed, cut short, too deep or followed by more bytes."""
    reader = _Reader(data)
    value = reader.item(0)
    if reader.at != len(data):
        raise CborError("bytes after the end of the value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise CborError("unexpected end of input")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise CborError("malformed length")
        return int.from_bytes(self.take(1 << (info - 24)), "big")

    def ended(self) -> bool:
        """Whether the next byte closes an item of indefinite length; steps over it if so."""
        if self.at < len(self.data) and self.data[self.at] == _BREAK:
            self.at += 1
            return True
        return False

    def item(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise CborError("nested too deeply")
        initial = self.take(1)[0]
        major, info = initial >> 5, initial & 31
        match major:
            case 0:
                return self.argument(info)
            case 1:
                return -1 - self.argument(info)
            case 2 | 3:
                return self.text(major, info)
            case 4:
                return self.array(info, depth)
            case 5:
                return self.map(info, depth)
            case 6:
                return self.tag(info, depth)
        return self.simple(info)

    def text(self, major: int, info: int) -> bytes | str:
        if info == _INDEFINITE:
            pieces = []
            while not self.ended():
                initial = self.take(1)[0]
                if initial >> 5 != major or initial & 31 == _INDEFINITE:
                    raise CborError("malformed chunk of a string")
                pieces.append(self.take(self.argument(initial & 31)))
            raw = b"".join(pieces)
        else:
            raw = self.take(self.argument(info))
        if major == 2:
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise CborError("text is not UTF-8") from error

    def array(self, info: int, depth: int) -> list[Any]:
        if info == _INDEFINITE:
            items = []
            while not self.ended():
                items.append(self.item(depth + 1))
            return items
        count = self.argument(info)
        if count > len(self.data) - self.at:  # each item takes at least a byte
            raise CborError("unexpected end of input")
        return [self.item(depth + 1) for _ in range(count)]

    def map(self, info: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        left = -1 if info == _INDEFINITE else self.argument(info)
        while left and not (left < 0 and self.ended()):
            key = self.item(depth + 1)
            if not isinstance(key, str):
                raise CborError("a map's key is not text")
            found[key] = self.item(depth + 1)
            left -= 1
        return found

    def tag(self, info: int, depth: int) -> Epoch:
        if self.argument(info) != 1:
            raise CborError("unknown tag")
        value = self.item(depth + 1)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CborError("tag 1 holds no number")
        return Epoch(value)

    def simple(self, info: int) -> Any:
        match info:
            case 20:
                return False
            case 21:
                return True
            case 22 | 23:
                return None
            case 25:
                return struct.unpack(">e", self.take(2))[0]
            case 26:
                return struct.unpack(">f", self.take(4))[0]
            case 27:
                return struct.unpack(">d", self.take(8))[0]
        raise CborError("unknown simple value")
