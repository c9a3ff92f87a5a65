"""CloudWatch Logs filter patterns over plain text: terms, "phrases", `?either ?or`, `-without`. Case matters, as on AWS."""

from __future__ import annotations

import re
from collections.abc import Callable

_TERM = re.compile(r'\s*([-?]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')


class BadPattern(ValueError):
    """A pattern that cannot be read, or of a kind that is not served; the message says which."""


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a message matches. An empty pattern matches all. Raises BadPattern."""
    pattern = pattern.strip()
    for opening, closing, kind in (("{", "}", "JSON"), ("[", "]", "space-delimited"), ("%", "%", "regular expression")):
        if pattern.startswith(opening) and pattern.endswith(closing) and len(pattern) > 1:
            raise BadPattern(f"Invalid filter pattern: {kind} patterns are not supported here, only terms and phrases")
    terms: dict[str, list[str]] = {"": [], "?": [], "-": []}
    at = 0
    while at < len(pattern):
        match = _TERM.match(pattern, at)
        if match is None:
            raise BadPattern("Invalid filter pattern")
        phrase = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        terms[match[1]].append(phrase)
        at = match.end()
    every, without = terms[""], terms["-"]
    either = [] if every or without else terms["?"]  # AWS ignores them beside others

    def matches(message: str) -> bool:
        return (
            all(term in message for term in every)
            and not any(term in message for term in without)
            and (not either or any(term in message for term in either))
        )

    return matches
