"""Records of an object: where each ends in bytes that arrive in pieces (containers.md 7.3).

Line ends at each newline; RecordIO is MXNet's framing (magic, length with three flag bits, data padded to four bytes);
TFRecord has a length with its checksum, the data, the data's checksum. Pure, and bounded by the caller's buffer.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

Split = Literal["None", "Line", "RecordIO", "TFRecord"]

RECORDIO_MAGIC = 0xCED7230A
_RECORDIO = struct.Struct("<II")
_TFRECORD = struct.Struct("<QI")
_MAGIC = struct.pack("<I", RECORDIO_MAGIC)


class Broken(ValueError):
    """Framing that cannot be read: nothing after it can be told apart any more."""


class Frame(NamedTuple):
    """A record in a buffer: it ends at `end`, and if `whole` is false at least there: more bytes are needed."""

    end: int
    whole: bool


class Framing:
    """How records lie in an object. `frame` says where the one that begins at `at` ends."""

    def frame(self, buffer: bytearray, at: int, final: bool) -> Frame:
        """`final`: nothing comes after the buffer. Raises Broken."""
        raise NotImplementedError

    def content(self, record: bytes) -> bytes:
        """What SingleRecord sends: the record without its framing."""
        raise NotImplementedError


class Lines(Framing):
    def frame(self, buffer: bytearray, at: int, final: bool) -> Frame:
        cut = buffer.find(b"\n", at)
        if cut >= 0:
            return Frame(cut + 1, True)
        return Frame(len(buffer), final)

    def content(self, record: bytes) -> bytes:
        return record[:-1] if record.endswith(b"\n") else record


class RecordIO(Framing):
    """A record may come in parts (it holds the magic itself): first, middle and last are marked in the length's top bits."""

    def frame(self, buffer: bytearray, at: int, final: bool) -> Frame:
        inside = False
        while True:
            if len(buffer) - at < _RECORDIO.size:
                _not_final(final, "the object ends in the middle of a record's head")
                return Frame(at + _RECORDIO.size, False)
            magic, word = _RECORDIO.unpack_from(buffer, at)
            if magic != RECORDIO_MAGIC:
                raise Broken(f"there is no RecordIO record: the magic number is 0x{magic:08X}, not 0x{RECORDIO_MAGIC:08X}")
            part, size = word >> 29, word & 0x1FFFFFFF
            if part not in ((2, 3) if inside else (0, 1)):
                raise Broken(f"a RecordIO record's parts are out of order (mark {part})")
            at += _RECORDIO.size + (size + 3) // 4 * 4
            if at > len(buffer):
                _not_final(final, "the object ends in the middle of a record")
                return Frame(at, False)
            if part in (0, 3):
                return Frame(at, True)
            inside = True

    def content(self, record: bytes) -> bytes:
        parts: list[bytes] = []
        at = 0
        while at < len(record):
            size = _RECORDIO.unpack_from(record, at)[1] & 0x1FFFFFFF
            at += _RECORDIO.size
            parts.append(record[at : at + size])
            at += (size + 3) // 4 * 4
        return _MAGIC.join(parts)


class TFRecord(Framing):
    def frame(self, buffer: bytearray, at: int, final: bool) -> Frame:
        if len(buffer) - at < _TFRECORD.size:
            _not_final(final, "the object ends in the middle of a record's head")
            return Frame(at + _TFRECORD.size, False)
        size, check = _TFRECORD.unpack_from(buffer, at)
        if masked_crc(bytes(buffer[at : at + 8])) != check:
            raise Broken("there is no TFRecord: the checksum of the record's length is wrong")
        end = at + _TFRECORD.size + size + 4
        if end > len(buffer):
            _not_final(final, "the object ends in the middle of a record")
            return Frame(end, False)
        return Frame(end, True)

    def content(self, record: bytes) -> bytes:
        return record[_TFRECORD.size : -4]


class Whole(Framing):
    """SplitType None: the object is one record."""

    def frame(self, buffer: bytearray, at: int, final: bool) -> Frame:
        return Frame(len(buffer), final)

    def content(self, record: bytes) -> bytes:
        return record


def framing(split: Split) -> Framing:
    return {"Line": Lines, "RecordIO": RecordIO, "TFRecord": TFRecord}.get(split, Whole)()


def _not_final(final: bool, why: str) -> None:
    if final:
        raise Broken(why)


def _crc_table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        found.append(byte)
    return tuple(found)


_CRC = _crc_table()


def masked_crc(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated and shifted. For lengths: byte by byte it is too slow for data."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
