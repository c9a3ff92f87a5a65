"""What a directory image takes from a Dockerfile: LABEL, ENV, ENTRYPOINT and WORKDIR. Nothing of it is ever executed.

Syntax: Docker's reference, as far as these four instructions go: comments, continued lines, quotes, both forms of ENV and
LABEL, exec and shell form of ENTRYPOINT, `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}`. Of several build stages the
last one counts, as in an image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

BIND_TO_PORT = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
"""The label by which an image says that it listens on $SAGEMAKER_BIND_TO_PORT (containers.md 1.2)."""
_VARIABLE = re.compile(r"\\(\$)|\$\{([A-Za-z_]\w*)(?::([-+])([^}]*))?\}|\$([A-Za-z_]\w*)")
_WORD = re.compile(r"""(?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|[^\s"'\\])+""", re.DOTALL)
_PIECE = re.compile(r"""\\(.)|"((?:\\.|[^"\\])*)"|'([^']*)'|([^"'\\]+)""", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class DockerfileError(ValueError):
    """A line that cannot be read; the message names it."""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    environment: tuple[tuple[str, str], ...] = ()
    """In order; values as written: `expand` fills in variables when the PATH of the container is known."""
    labels: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()
    """Empty: none given."""
    shell: bool = False
    """The entry point is in shell form: Docker passes it no argument, and no signal."""
    working_dir: str = ""


def parse_dockerfile(text: str) -> Dockerfile:
    """DockerfileError for a line of the four instructions that cannot be read; all others are passed over."""
    environment: list[tuple[str, str]] = []
    labels: list[tuple[str, str]] = []
    entrypoint: tuple[str, ...] = ()
    shell = False
    working_dir = ""
    for line in _lines(text):
        word, _, rest = line.partition(" ")
        name, rest = word.upper(), rest.strip()
        if name == "FROM":
            environment, labels, entrypoint, shell, working_dir = [], [], (), False, ""
        elif name == "ENV":
            environment += _pairs(line, rest, raw=True)
            if wrong := [key for key, _ in environment if not _NAME.fullmatch(key)]:
                raise DockerfileError(f"{wrong[0]!r} cannot be an environment variable, in: {line}")
        elif name == "LABEL":
            labels += _pairs(line, rest, raw=False)
        elif name == "WORKDIR":
            folder = _unquote(rest)
            working_dir = folder if folder.startswith("/") else f"{working_dir}/{folder}"
        elif name == "ENTRYPOINT":
            entrypoint, shell = _command(line, rest)
    return Dockerfile(tuple(environment), tuple(labels), entrypoint, shell, working_dir)


def expand(environment: tuple[tuple[str, str], ...], known: Mapping[str, str]) -> dict[str, str]:
    """The variables of ENV with `$NAME` filled in from `known` and from those before; unknown ones are empty, as in Docker."""
    out: dict[str, str] = {}
    for name, raw in environment:
        scope = {**known, **out}
        out[name] = "".join(_filled(piece, scope, literal) for piece, literal in _pieces(raw))
    return out


def _lines(text: str) -> list[str]:
    """Instructions, each on one line: comments and empty lines between continued ones are dropped, as Docker does."""
    out: list[str] = []
    open_line = ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        goes_on = stripped.endswith("\\")
        open_line += stripped[:-1] + " " if goes_on else stripped
        if not goes_on:
            out.append(re.sub(r"^(\S+)\s+", r"\1 ", open_line.strip()))
            open_line = ""
    return [*out, open_line.strip()] if open_line.strip() else out


def _pairs(line: str, rest: str, *, raw: bool) -> list[tuple[str, str]]:
    """`NAME=value NAME="v w"` or the old `NAME the rest`. `raw` leaves quotes in the values, for `expand`."""
    words: list[str] = _WORD.findall(rest)
    if words and "=" not in words[0]:
        name, _, value = rest.partition(" ")
        return [(name, value.strip() if raw else _unquote(value.strip()))]
    if not words or any("=" not in word for word in words):
        raise DockerfileError(f"NAME=value was expected: {line}")
    pairs = [word.partition("=") for word in words]
    return [(_unquote(name), value if raw else _unquote(value)) for name, _, value in pairs]


def _command(line: str, rest: str) -> tuple[tuple[str, ...], bool]:
    if not rest.startswith("["):
        return ("/bin/sh", "-c", rest), True
    try:
        words = json.loads(rest)
    except ValueError:
        raise DockerfileError(f"the exec form is JSON, with double quotes: {line}") from None
    if not isinstance(words, list) or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise DockerfileError(f"the exec form is a list of strings: {line}")
    return tuple(words), False


def _pieces(raw: str) -> list[tuple[str, bool]]:
    """Parts of a value; True: in single quotes or escaped, taken as it stands."""
    out = []
    for match in _PIECE.finditer(raw):
        escaped, double, single, plain = match.groups()
        if escaped is not None:
            out.append((escaped, True))
        elif single is not None:
            out.append((single, True))
        else:
            out.append((re.sub(r'\\(["\\])', r"\1", double) if double is not None else plain, False))
    return out


def _unquote(raw: str) -> str:
    return "".join(piece for piece, _ in _pieces(raw))


def _filled(piece: str, scope: Mapping[str, str], literal: bool) -> str:
    if literal:
        return piece

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        found = scope.get(match[2] or match[5], "")
        if match[3] == "-":
            return found or match[4]
        if match[3] == "+":
            return match[4] if found else ""
        return found

    return _VARIABLE.sub(value, piece)
