"""JSONPath as batch transform's filters have it (containers.md 7.5): parsed once, then applied to values and to csv rows.

`$` is the record. Children `.name`, `['a']`, `['a','b']`; wildcards `.*`, `[*]`; indexes and slices `[0]`, `[-1]`, `[0,3]`,
`[1:5]`, `[:-1]`, `[0,5:]`, whose end is exclusive. Nothing else: no recursion, no expressions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 63
"""The longest filter has 63 characters."""


class BadPath(ValueError):
    """A path that cannot be read; `sign` is the character where it ended, empty at its end."""

    def __init__(self, message: str, sign: str = "") -> None:
        super().__init__(message)
        self.sign = sign


class NotThere(LookupError):
    """The record has nothing at the path."""


@dataclass(frozen=True, slots=True)
class Names:
    """Children of an object; several make an object of them."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Every:
    """All children of an object or array."""


@dataclass(frozen=True, slots=True)
class Items:
    """Elements of an array: indexes, and slices as (start, end)."""

    items: tuple[int | tuple[int | None, int | None], ...]

    @property
    def single(self) -> int | None:
        """The one index, if it is nothing else."""
        return self.items[0] if len(self.items) == 1 and isinstance(self.items[0], int) else None


Step = Names | Every | Items


@dataclass(frozen=True, slots=True)
class Path:
    text: str
    steps: tuple[Step, ...]

    @property
    def whole(self) -> bool:
        """It is the record itself."""
        return not self.steps

    @property
    def for_csv(self) -> bool:
        """It names fields by their positions alone."""
        return len(self.steps) <= 1 and not any(isinstance(step, Names) for step in self.steps)


def parse(text: str) -> Path:
    """Raises BadPath."""
    if not text.startswith("$"):
        raise BadPath("it must begin with $", text[:1])
    return Path(text, tuple(_Reader(text).steps()))


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 1

    def steps(self) -> Iterator[Step]:
        while self._skip() != "":
            sign = self._next()
            if sign == ".":
                yield self._child()
            elif sign == "[":
                yield self._bracket()
            else:
                raise BadPath(f'unexpected "{sign}"', sign)

    def _skip(self) -> str:
        """Over blanks; the sign that follows."""
        while self._text[self._at : self._at + 1] == " ":
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        sign = self._text[self._at : self._at + 1]
        if not sign:
            raise BadPath("it ends too early")
        self._at += 1
        return sign

    def _child(self) -> Step:
        if self._skip() == "*":
            self._at += 1
            return Every()
        start = self._at
        while (sign := self._text[self._at : self._at + 1]) and (sign.isalnum() or sign in "_-"):
            self._at += 1
        if self._at == start:
            raise BadPath("a name is missing after the dot", sign)
        return Names((self._text[start : self._at],))

    def _bracket(self) -> Step:
        sign = self._skip()
        if sign == "*":
            self._at += 1
            self._close()
            return Every()
        if sign in ("'", '"'):
            return Names(tuple(self._listed(self._quoted)))
        return Items(tuple(self._listed(self._item)))

    def _close(self) -> None:
        self._skip()
        if (sign := self._next()) != "]":
            raise BadPath(f'unexpected "{sign}"', sign)

    def _listed(self, read: Any) -> Iterator[Any]:
        while True:
            self._skip()
            yield read()
            self._skip()
            sign = self._next()
            if sign == "]":
                return
            if sign != ",":
                raise BadPath(f'unexpected "{sign}"', sign)

    def _quoted(self) -> str:
        quote = self._next()
        if quote not in ("'", '"'):
            raise BadPath(f'unexpected "{quote}"', quote)
        end = self._text.find(quote, self._at)
        if end < 0:
            raise BadPath("a quote is not closed")
        name, self._at = self._text[self._at : end], end + 1
        return name

    def _item(self) -> int | tuple[int | None, int | None]:
        start = self._number()
        if self._skip() != ":":
            if start is None:
                sign = self._next()
                raise BadPath(f'unexpected "{sign}"', sign)
            return start
        self._at += 1
        self._skip()
        return start, self._number()

    def _number(self) -> int | None:
        begin = self._at
        if self._text[self._at : self._at + 1] == "-":
            self._at += 1
        while self._text[self._at : self._at + 1].isascii() and self._text[self._at : self._at + 1].isdigit():
            self._at += 1
        digits = self._text[begin : self._at]
        if digits == "-":
            raise BadPath('unexpected "-"', "-")
        return int(digits) if digits else None


def find(path: Path, value: Any) -> Any:
    """What the path selects: the value itself where it can be only one, else an array. Raises NotThere."""
    found, several = [value], False
    for step in path.steps:
        wide = isinstance(step, Every) or (isinstance(step, Items) and step.single is None)
        found = [each for node in found for each in _apply(step, node, lenient=several)]
        several = several or wide
    if several:
        return found
    return found[0]


def _apply(step: Step, node: Any, *, lenient: bool) -> Sequence[Any]:
    """`lenient`: under a wildcard, what lacks the child is passed over."""
    try:
        if isinstance(step, Names):
            return _children(step.names, node)
        if isinstance(step, Every):
            return _every(node)
        if not isinstance(node, list):
            raise NotThere("there is no array to take elements from")
        return pick(step, node)
    except NotThere:
        if lenient:
            return ()
        raise


def _children(names: Sequence[str], node: Any) -> Sequence[Any]:
    if not isinstance(node, dict):
        raise NotThere(f'there is no object to take "{names[0]}" from')
    if missing := [name for name in names if name not in node]:
        raise NotThere(f'there is no "{missing[0]}"')
    return (node[names[0]],) if len(names) == 1 else ({name: node[name] for name in names},)


def _every(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return tuple(node.values())
    if isinstance(node, list):
        return node
    raise NotThere("there is neither an object nor an array under the wildcard")


def pick(step: Items, row: Sequence[Any]) -> Sequence[Any]:
    """Elements of an array, or fields of a csv row, in the order of the path. Raises NotThere for an index outside it."""
    found: list[Any] = []
    for item in step.items:
        if isinstance(item, tuple):
            found += row[slice(*item)]
        elif -len(row) <= item < len(row):
            found.append(row[item])
        else:
            raise NotThere(f"index {item} is outside its {len(row)} elements")
    return found


def fields(path: Path, row: Sequence[Any]) -> Sequence[Any]:
    """Fields of a csv row; the path is one `for_csv`. Raises NotThere."""
    if not path.steps or isinstance(path.steps[0], Every):
        return row
    step = path.steps[0]
    if not isinstance(step, Items):
        raise NotThere("a csv row has no names")
    return pick(step, row)
