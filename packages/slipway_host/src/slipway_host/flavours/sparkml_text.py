"""Feature transformers of MLeap bundles that work on text: tokenizers, n-grams, stop words, term counts, and their weights."""

from __future__ import annotations

import re
from typing import Any, Callable

from .sparkml_bundle import Source, Step
from .sparkml_values import Vector, as_text, as_vector, as_words, sparse

_ESCAPES = frozenset("sSwWdDtnrf") | frozenset("\\.-[](){}*+?|^$/,:;!\"#%&'<>=@_`~ ")
_MASK = 0xFFFFFFFF


def tokenizer(source: Source) -> Step:
    source.columns(1)
    spaces = re.compile(r"\s", re.ASCII)
    return lambda value: _split(spaces, as_text(value).lower())


def regex_tokenizer(source: Source) -> Step:
    attributes = source.attributes
    source.columns(1)
    pattern = _compiled(source, attributes.word("regex"))
    gaps, lower = attributes.flag("match_gaps"), attributes.flag("lowercase_text")
    least = attributes.integer("token_min_length")

    def tokenize(value: Any) -> list[str]:
        text = as_text(value)
        text = text.lower() if lower else text
        tokens = _split(pattern, text) if gaps else [match.group() for match in pattern.finditer(text)]
        return [token for token in tokens if _length(token) >= least]

    return tokenize


def _length(text: str) -> int:
    """In Java's characters: two for those beyond the first plane."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _compiled(source: Source, pattern: str) -> re.Pattern[str]:
    """A Java pattern, if Python's means the same. Raises LoadError for one that uses more than both have in common."""
    why = _foreign(pattern)
    if not why:
        try:
            return re.compile(pattern, re.ASCII)
        except (re.error, RecursionError, OverflowError) as error:
            why = str(error)
    raise source.attributes.wrong(
        f"the pattern {pattern[:100]!r} is not supported ({why}): literal characters, classes such as [a-z], \\s, \\w, \\d and "
        "their opposites, groups, alternatives and quantifiers are"
    )


def _foreign(pattern: str) -> str:
    """What a pattern holds that Java reads otherwise, or Python not at all; empty: nothing."""
    inside = False
    at = 0
    while at < len(pattern):
        char, two = pattern[at], pattern[at : at + 2]
        if char == "\\":
            if two[1:] not in _ESCAPES:
                return f"the escape {two}"
            at += 1
        elif inside:
            if char == "[" or two in ("&&", "||", "--", "~~"):
                return f"{two} in a class"
            inside = char != "]"
        elif char == "[":
            inside = True
            if pattern[at + 1 : at + 2] == "]" or pattern[at + 1 : at + 3] == "^]":
                return "a class that begins with ]"
        elif char in ".^$":
            return char
        elif two == "(?" and pattern[at + 2 : at + 3] not in (":", "=", "!"):
            return "a special group"
        elif char in "*+?}" and two[1:] == "+":
            return "a possessive quantifier"
        at += 1
    return ""


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    """As java.lang.String.split: no empty text at the end, none at the begin before an empty match."""
    out: list[str] = []
    last = 0
    matched = False
    for match in pattern.finditer(text):
        if match.end() == 0:
            continue
        matched = True
        out.append(text[last : match.start()])
        last = match.end()
    if not matched:
        return [text]
    out.append(text[last:])
    while out and not out[-1]:
        out.pop()
    return out


def stopwords_remover(source: Source) -> Step:
    source.columns(1)
    words = source.attributes.words("stop_words")
    if source.attributes.flag("case_sensitive"):
        exact = frozenset(words)
        return lambda value: [word for word in as_words(value) if word not in exact]
    lowered = frozenset(word.lower() for word in words)
    return lambda value: [word for word in as_words(value) if word.lower() not in lowered]


def ngram(source: Source) -> Step:
    source.columns(1)
    n = source.attributes.integer("n", 1, 10_000)

    def grams(value: Any) -> list[str]:
        words = as_words(value)
        return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]

    return grams


def count_vectorizer(source: Source) -> Step:
    attributes = source.attributes
    source.columns(1)
    vocabulary = {word: i for i, word in enumerate(attributes.words("vocabulary"))}
    binary, least = attributes.flag("binary"), attributes.number("min_tf")

    def count(value: Any) -> Vector:
        words = as_words(value)
        counts: dict[int, float] = {}
        for word in words:
            place = vocabulary.get(word)
            if place is not None:
                counts[place] = counts.get(place, 0.0) + 1.0
        wanted = least if least >= 1.0 else least * len(words)
        kept = {place: 1.0 if binary else times for place, times in counts.items() if times >= wanted}
        return sparse(len(vocabulary), kept)

    return count


def hashing_term_frequency(source: Source) -> Step:
    attributes = source.attributes
    source.columns(1)
    size = attributes.integer("num_features", 1)
    binary = attributes.has("binary") and attributes.flag("binary")
    version = attributes.integer("hashUnsafeBytesVersion", 1, 2) if attributes.has("hashUnsafeBytesVersion") else 1
    place = _hash_1 if version == 1 else _hash_2

    def count(value: Any) -> Vector:
        counts: dict[int, float] = {}
        for word in as_words(value):
            number = place(word.encode("utf-8", "replace"))
            index = (number - (1 << 32) if number & 0x80000000 else number) % size
            counts[index] = 1.0 if binary else counts.get(index, 0.0) + 1.0
        return sparse(size, counts)

    return count


def _hash_2(data: bytes) -> int:
    """Murmur3, 32 bits, seed 42, as everybody computes it (Spark 3 and newer)."""
    whole = len(data) & ~3
    state = _mixed(data, whole)
    state ^= _scrambled(int.from_bytes(data[whole:], "little"))
    return _finished(state, len(data))


def _hash_1(data: bytes) -> int:
    """As Spark before 3 computed it: each byte of the rest, with its sign, is a word of its own."""
    whole = len(data) & ~3
    state = _mixed(data, whole)
    for byte in data[whole:]:
        state = _stirred(state, _scrambled((byte - 256 if byte > 127 else byte) & _MASK))
    return _finished(state, len(data))


def _mixed(data: bytes, whole: int) -> int:
    state = 42
    for at in range(0, whole, 4):
        state = _stirred(state, _scrambled(int.from_bytes(data[at : at + 4], "little")))
    return state


def _scrambled(word: int) -> int:
    word = word * 0xCC9E2D51 & _MASK
    word = (word << 15 | word >> 17) & _MASK
    return word * 0x1B873593 & _MASK


def _stirred(state: int, word: int) -> int:
    state ^= word
    state = (state << 13 | state >> 19) & _MASK
    return (state * 5 + 0xE6546B64) & _MASK


def _finished(state: int, length: int) -> int:
    state ^= length
    state ^= state >> 16
    state = state * 0x85EBCA6B & _MASK
    state ^= state >> 13
    state = state * 0xC2B2AE35 & _MASK
    return state ^ state >> 16


def idf(source: Source) -> Step:
    source.columns(1)
    weights = source.attributes.numbers("idf")

    def weigh(value: Any) -> Vector:
        vector = as_vector(value, len(weights))
        return vector.mapped([element * weights[index] for index, element in vector.items()])

    return weigh


OPS: dict[str, Callable[[Source], Step]] = {
    "count_vectorizer": count_vectorizer,
    "hashing_term_frequency": hashing_term_frequency,
    "idf": idf,
    "ngram": ngram,
    "regex_tokenizer": regex_tokenizer,
    "stopwords_remover": stopwords_remover,
    "tokenizer": tokenizer,
}
