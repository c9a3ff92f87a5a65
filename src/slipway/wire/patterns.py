"""The patterns of service models, which are Java's, as Python's: full matches that are safe on hostile text.

Python lacks Unicode categories (`\\p{L}`), pairs of surrogates and `\\z`, and reads nested brackets otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from functools import cache

from .corrections import PATTERNS

MAX_CHECKED = 4096
"""Longer text is not matched: a pattern's cost may grow with the square of its length."""

_POSIX = {
    "ASCII": r"\x00-\x7f",
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Graph": "!-~",
    "Lower": "a-z",
    "Print": " -~",
    "Punct": r"!-/:-@\[-`{-~",
    "Space": r" \t\n\x0b\f\r",
    "Upper": "A-Z",
}
# Above the third plane nothing is assigned but variation selectors.
_ASSIGNED = (range(0x32400), range(0xE0000, 0xE0200))

_PIECE = re.compile(
    r"\\p\{(?P<category>\w+)\}"
    r"|\\u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\.|.",
    re.DOTALL,
)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern for `fullmatch`. re.error for one that Python cannot have even so."""
    return re.compile(_translate(PATTERNS.get(pattern, pattern)))


def _translate(pattern: str) -> str:
    out: list[str] = []
    inside = False
    start = 0  # where the class's members begin in `out`
    for match in _PIECE.finditer(pattern):
        piece = match[0]
        if match["category"]:
            ranges = _category(match["category"])
            out.append(ranges if inside else f"[{ranges}]")
        elif match["high"]:
            point = 0x10000 + ((int(match["high"], 16) - 0xD800) << 10) + int(match["low"], 16) - 0xDC00
            out.append(f"\\U{point:08x}")
        elif piece == r"\z":
            out.append(r"\Z")
        elif not inside:
            out.append(piece)
            if piece == "[":
                inside, start = True, len(out)
        elif piece == "]" and len(out) > start and out[start:] != ["^"]:
            inside = False
            out.append(piece)
        elif piece == "-" and _is_literal_dash(out[start:], pattern[match.end() :]):
            out.append(r"\-")
        else:
            out.append(rf"\{piece}" if piece in "[&|~" else piece)
    return "".join(out)


def _is_literal_dash(before: list[str], after: str) -> bool:
    """Whether a dash in a class stands for itself: first, last, after a range, or beside a class such as `\\w`."""
    if not before or before == ["^"] or after.startswith("]"):
        return True
    if (
        re.fullmatch(r"\\[wdsWDS]", before[-1])
        or re.match(r"\\[wdsWDS]|\\p", after)
        or (len(before[-1]) > 2 and before[-1][1:-1].count("-") > 0)
    ):
        return True
    return len(before) >= 2 and before[-2] == "-"


@cache
def _category(name: str) -> str:
    """Members of a class for `\\p{name}`: a POSIX name, or a Unicode category or its first letter."""
    if name in _POSIX:
        return _POSIX[name]
    runs: list[list[int]] = []
    for point in sorted(point for category, points in _points().items() if category.startswith(name) for point in points):
        if runs and runs[-1][1] == point - 1:
            runs[-1][1] = point
        else:
            runs.append([point, point])
    if not runs:
        raise re.error(f"unknown category {name}")
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in runs)


@cache
def _points() -> dict[str, array[int]]:
    """Assigned code points by category; some 50 ms, spent on the first pattern that names one (those of tags)."""
    found: dict[str, array[int]] = {}
    for points in _ASSIGNED:
        for point in points:
            category = unicodedata.category(chr(point))
            if category in found:
                found[category].append(point)
            else:
                found[category] = array("I", (point,))
    return found
