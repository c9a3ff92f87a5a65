"""Values of SparkML columns: vectors, the casts between a column and a stage, and numbers as Java reads and writes them."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

_DOUBLE = re.compile(r"[+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[dDfF]?)")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_SPACES = "".join(map(chr, range(33)))
_DENSE = 4096


class Refused(Exception):
    """A request that the container answers with 400 and this message."""


class Vector:
    """A vector of doubles; never changed. `indices` None: dense, `values` has every element. Else ascending places."""

    __slots__ = ("indices", "size", "values")

    def __init__(self, size: int, indices: list[int] | None, values: list[float]) -> None:
        self.size = size
        self.indices = indices
        self.values = values

    def items(self) -> Iterable[tuple[int, float]]:
        """Places and values of what is stored: all of a dense vector, the named places of a sparse one."""
        return enumerate(self.values) if self.indices is None else zip(self.indices, self.values)

    def array(self) -> list[float]:
        """All elements; not to be changed."""
        if self.indices is None:
            return self.values
        full = [0.0] * self.size
        for index, value in zip(self.indices, self.values):
            full[index] = value
        return full

    def __getitem__(self, index: int) -> float:
        if self.indices is None:
            return self.values[index]
        at = bisect_left(self.indices, index)
        return self.values[at] if at < len(self.indices) and self.indices[at] == index else 0.0

    def lookup(self) -> Any:
        """Something whose `[index]` is quick, for code that looks at a few elements many times."""
        return self.array() if self.size <= _DENSE else self

    def mapped(self, values: list[float]) -> Vector:
        """Of the same places."""
        return Vector(self.size, self.indices, values)

    def __iter__(self) -> Iterator[float]:
        return iter(self.array())


def dense(values: list[float]) -> Vector:
    return Vector(len(values), None, values)


def sparse(size: int, elements: dict[int, float]) -> Vector:
    places = sorted(elements)
    return Vector(size, places, [elements[place] for place in places])


def as_double(value: Any) -> float:
    """A number, a truth value or a text as a double. Raises Refused."""
    kind = type(value)
    if kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is bool:
        return float(value)
    if kind is str:
        return parse_double(value)
    raise Refused(f"{_named(value)} cannot be used as a number")


def as_text(value: Any) -> str:
    """As `toString` writes it. Raises Refused."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is float:
        return java_double(value)
    if kind is bool:
        return "1" if value else "0"
    if kind is int:
        return str(value)
    raise Refused(f"{_named(value)} cannot be used as a string")


def as_vector(value: Any, size: int = -1) -> Vector:
    """`size`: how many elements it must have; -1: any number. Raises Refused."""
    if type(value) is not Vector:
        raise Refused(f"{_named(value)} cannot be used as a vector")
    if size >= 0 and value.size != size:
        raise Refused(f"the vector has {value.size} elements where the model has {size}")
    return value


def as_words(value: Any) -> list[str]:
    """Raises Refused."""
    if type(value) is not list:
        raise Refused(f"{_named(value)} cannot be used as an array of strings")
    return [as_text(item) for item in value]


def _named(value: Any) -> str:
    names = {float: "a double", int: "an integer", bool: "a boolean", str: "a string", list: "an array", Vector: "a vector"}
    return names.get(type(value), type(value).__name__)


def parse_double(text: str) -> float:
    """As java.lang.Double reads it. Raises Refused with Java's words."""
    stripped = text.strip(_SPACES)
    if not _DOUBLE.fullmatch(stripped):
        raise Refused(f'For input string: "{text}"' if stripped else "empty String")
    if stripped[-1] in "dDfF":
        stripped = stripped[:-1]
    return float(stripped)  # Python knows NaN and Infinity by the same names


def parse_integer(text: str, bits: int) -> int:
    """As java.lang.Byte, Short, Integer and Long read it. Raises Refused with Java's words."""
    limit = 1 << (bits - 1)
    if not _INTEGER.fullmatch(text) or len(text) > 40 or not -limit <= int(text) < limit:
        raise Refused(f'For input string: "{text}"')
    return int(text)


def java_double(value: float) -> str:
    """As java.lang.Double.toString writes it, with the fewest digits that tell it from its neighbours."""
    if value != value:
        return "NaN"
    size = abs(value)
    if size == math.inf:
        return "Infinity" if value > 0 else "-Infinity"
    if 1e-3 <= size < 1e7 or size == 0.0:
        return repr(value)
    _, digits, exponent = Decimal(repr(size)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    shown = f"{text[0]}.{text[1:] or '0'}E{len(digits) + int(exponent) - 1}"
    return f"-{shown}" if value < 0 else shown
