"""What may be on the disk after power loss at any moment of a write log: fsynced data for certain, the rest as it pleases.

The model is POSIX's, not one file system's: a file's content is safe after its fsync, a name after the fsync of its folder;
of what was written later any part may be there, in pieces of a sector.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SECTOR = 512
_HEAD = struct.Struct("=cHQI")


class Event(NamedTuple):
    kind: str
    path: str
    offset: int
    data: bytes


def read_log(path: Path) -> list[Event]:
    """A log whose last record is incomplete (its process was killed) is read up to there."""
    raw = path.read_bytes()
    events, at = [], 0
    while at + _HEAD.size <= len(raw):
        kind, length, offset, size = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        name, data = raw[at : at + length], raw[at + length : at + length + size]
        at += length + size
        if at > len(raw):
            break
        events.append(Event(kind.decode(), name.decode(), offset, data))
    return events


@dataclass(eq=False)
class _File:
    safe: bytearray = field(default_factory=bytearray)
    loose: list[Event] = field(default_factory=list)
    """Writes and truncations since the last fsync."""


@dataclass(eq=False)
class _Folder:
    safe: dict[str, _File | _Folder] = field(default_factory=dict)
    now: dict[str, _File | _Folder] = field(default_factory=dict)
    loose: list[tuple[str, _File | _Folder | None]] = field(default_factory=list)
    """Names entered (or, None, removed) since the last fsync."""

    def enter(self, name: str, what: _File | _Folder | None) -> None:
        self.loose.append((name, what))
        _enter(self.now, name, what)


def _enter(names: dict[str, _File | _Folder], name: str, what: _File | _Folder | None) -> None:
    if what is None:
        names.pop(name, None)
    else:
        names[name] = what


class Disk:
    """Apply events one by one; `after_power_loss` writes one of the states that the disk may be found in."""

    def __init__(self) -> None:
        self._root = _Folder()

    def apply(self, event: Event) -> None:
        parent, name = self._parent(event.path)
        match event.kind:
            case "C":
                parent.enter(name, _File())
            case "M":
                parent.enter(name, _Folder())
            case "U":
                parent.enter(name, None)
            case "R":
                there = parent.now[name]
                target, new = self._parent(event.data.decode())
                target.enter(new, there)
                parent.enter(name, None)
            case "W" | "T":
                found = parent.now[name]
                assert isinstance(found, _File)
                found.loose.append(event)
            case "S":
                self._sync(self._root if not event.path else parent.now[name])

    def _parent(self, path: str) -> tuple[_Folder, str]:
        folder = self._root
        parts = PurePosixPath(path).parts
        for part in parts[:-1]:
            inner = folder.now[part]
            assert isinstance(inner, _Folder)
            folder = inner
        return folder, parts[-1] if parts else ""

    @staticmethod
    def _sync(what: _File | _Folder) -> None:
        if isinstance(what, _File):
            for event in what.loose:
                _write(what.safe, event)
        else:
            what.safe = dict(what.now)
        what.loose.clear()

    def after_power_loss(self, folder: Path, chance: random.Random) -> None:
        """Write into `folder` (empty) what survived."""
        kept = chance.choice((0.0, 0.5, 1.0))
        self._survive(self._root, folder, chance, kept)

    def _survive(self, what: _Folder, folder: Path, chance: random.Random, kept: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        names = dict(what.safe)
        # A folder's own changes reach the disk in order: journals keep it.
        for name, entry in what.loose[: round(len(what.loose) * (kept if kept in (0.0, 1.0) else chance.random()))]:
            _enter(names, name, entry)
        for name, entry in names.items():
            if isinstance(entry, _Folder):
                self._survive(entry, folder / name, chance, kept)
            else:
                content = bytearray(entry.safe)
                for event in entry.loose:
                    for piece in _pieces(event):
                        if chance.random() < kept:
                            _write(content, piece)
                (folder / name).write_bytes(content)


def _pieces(event: Event) -> Iterator[Event]:
    """A write, torn at the sectors of the disk."""
    if event.kind == "T" or len(event.data) <= SECTOR:
        yield event
        return
    start = 0
    while start < len(event.data):
        end = min(len(event.data), start + SECTOR - (event.offset + start) % SECTOR)
        yield Event("W", event.path, event.offset + start, event.data[start:end])
        start = end


def _write(content: bytearray, event: Event) -> None:
    if event.kind == "T":
        if event.offset < len(content):
            del content[event.offset :]
        else:
            content.extend(bytes(event.offset - len(content)))
        return
    end = event.offset + len(event.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[event.offset : end] = event.data
