"""The grammar of metric math: text to a tree, in bounded depth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

LENGTH = 2048
"""Characters of an expression (AWS's bound)."""
DEPTH = 40


class MathError(ValueError):
    """The expression cannot be evaluated; the message is for the caller."""


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    ident: str


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Array:
    members: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple[Node, ...]


Node: TypeAlias = Number | Text | Name | Negative | Binary | Array | Call

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/^<>()\[\],])
    )""",
    re.VERBOSE,
)
_SYNONYMS: Final = {"&&": "AND", "||": "OR"}
_LEVELS: Final = (("OR",), ("AND",), ("==", "!=", "<", "<=", ">", ">="), ("+", "-"), ("*", "/"))
"""Operators that bind alike, the loosest first; all of them from the left."""


def parse(expression: str) -> Node:
    """Raises MathError."""
    if len(expression) > LENGTH:
        raise MathError(f"The expression is longer than {LENGTH} characters")
    parser = _Parser(_tokens(expression))
    tree = parser.level(0, 0)
    if parser.peek():
        raise MathError(f"Unexpected '{parser.peek()}'")
    return tree


def _tokens(expression: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    text = expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise MathError(f"Unexpected '{text[at:].strip()[:1]}'")
        kind = match.lastgroup or ""
        word = match[kind]
        if kind == "word" and word.upper() in ("AND", "OR"):
            kind, word = "sign", word.upper()
        found.append((kind, _SYNONYMS.get(word, word) if kind == "sign" else word))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str:
        """The next token's text; empty at the end."""
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def level(self, level: int, depth: int) -> Node:
        """An expression of operators of `_LEVELS[level]` and those that bind tighter."""
        if depth > DEPTH:
            raise MathError("The expression is nested too deeply")
        if level == len(_LEVELS):
            return self._unary(depth)
        left = self.level(level + 1, depth)
        while self._sign() in _LEVELS[level]:
            operator = self._take()
            left = Binary(operator, left, self.level(level + 1, depth))
        return left

    def _unary(self, depth: int) -> Node:
        if self._sign() in ("-", "+"):
            operator = self._take()
            operand = self.level(len(_LEVELS), depth + 1)
            return Negative(operand) if operator == "-" else operand
        base = self._primary(depth)
        if self._sign() == "^":
            self._take()
            return Binary("^", base, self.level(len(_LEVELS), depth + 1))
        return base

    def _primary(self, depth: int) -> Node:
        kind, word = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        self._at += 1
        if kind == "number":
            return Number(float(word))
        if kind == "text":
            return Text(word[1:-1])
        if kind == "word":
            if self._sign() == "(":
                self._take()
                return Call(word.upper(), self._members(")", depth))
            return Name(word)
        if word == "(":
            inner = self.level(0, depth + 1)
            self._expect(")")
            return inner
        if word == "[":
            return Array(self._members("]", depth))
        raise MathError(f"Unexpected '{word}'" if word else "Unexpected end of the expression")

    def _members(self, closing: str, depth: int) -> tuple[Node, ...]:
        found: list[Node] = []
        if self._sign() != closing:
            found.append(self.level(0, depth + 1))
            while self._sign() == ",":
                self._take()
                found.append(self.level(0, depth + 1))
        self._expect(closing)
        return tuple(found)

    def _sign(self) -> str:
        """The next token, if it is a sign."""
        return self.peek() if self._at < len(self._tokens) and self._tokens[self._at][0] == "sign" else ""

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _expect(self, sign: str) -> None:
        if self._sign() != sign:
            raise MathError(f"Expected '{sign}'" + (f" before '{self.peek()}'" if self.peek() else " at the end"))
        self._at += 1
