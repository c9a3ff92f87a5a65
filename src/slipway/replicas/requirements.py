"""A model's requirements.txt, read as hostile text: what it asks for, or why it cannot be had.

Installing must not run the user's code (it happens outside the sandbox, and the result is shared), so wheels only; and a
line must not name files outside the model's code, nor see the keeper's environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway.replicas.failures import CannotRun, cannot

MAX_BYTES = 256 * 1024
MAX_FILES = 20
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_INDEX_OPTIONS = ("--index-url", "-i", "--extra-index-url")
_MEND = "change that line; packages by name and version, indexes, and wheels beside the file are installed"
_IGNORED_OPTIONS = ("--prefer-binary", "--trusted-host", "--use-feature", "--only-binary", "--require-hashes")


@dataclass(slots=True)
class Wanted:
    """Requirements, cleaned: absolute paths, variables filled in from the container's own environment."""

    lines: list[str] = field(default_factory=list)
    """Requirements and constraints as uv takes them."""
    constraints: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    """Options of the command: indexes and folders of wheels."""
    vendored: list[str] = field(default_factory=list)
    """Files inside the code whose content matters: they are part of the environment's key."""


def find_requirements(code_dir: str | None, model_dir: str | None) -> str | None:
    """The file that AWS's toolkits would install from (containers.md 2.3), or None."""
    for folder in (code_dir, f"{model_dir}/code" if model_dir else None):
        if folder and os.path.isfile(f"{folder}/requirements.txt"):
            return f"{folder}/requirements.txt"
    return None


def read_requirements(file: str, environment: Mapping[str, str]) -> Wanted:
    """CannotRun, kind requirements, names the line that cannot be had."""
    wanted = Wanted()
    _Reader(os.path.realpath(os.path.dirname(file)), environment, wanted).read(file, wanted.lines)
    return wanted


class _Reader:
    def __init__(self, root: str, environment: Mapping[str, str], wanted: Wanted) -> None:
        self._root = root
        self._environment = environment
        self._wanted = wanted
        self._files = 0

    def read(self, file: str, into: list[str]) -> None:
        self._files += 1
        if self._files > MAX_FILES:
            raise _refuse(file, f"more than {MAX_FILES} files include each other")
        with open(file, "rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _refuse(file, f"the file has more than {MAX_BYTES} bytes")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise _refuse(file, "the file is not UTF-8 text") from None
        for line in text.replace("\\\r\n", "").replace("\\\n", "").splitlines():
            line = re.sub(r"(^|\s)#.*$", "", line).strip()
            if line:
                self._take(_VARIABLE.sub(lambda m: self._environment.get(m[1], m[0]), line), line, os.path.dirname(file), into)

    def _take(self, line: str, shown: str, folder: str, into: list[str]) -> None:
        if "\0" in line or "${" in line:
            raise _refuse(shown, "it uses a variable that the container's Environment does not have")
        if line.startswith("-"):
            self._option(line, shown, folder, into)
            return
        line = re.sub(r"\s--(hash|config-settings|global-option|install-option)[ =].*$", "", line)
        if line.startswith((".", "/", "file:")) or (line.endswith((".whl", ".tar.gz", ".zip")) and "://" not in line):
            path = self._inside(line.removeprefix("file://").removeprefix("file:").partition(";")[0].strip(), shown, folder)
            if not path.endswith(".whl"):
                raise _refuse(shown, "only wheels (.whl) are installed, not source: it would run code while it installs")
            self._wanted.vendored.append(path)
            into.append(path)
            return
        match = _NAME.fullmatch(line)
        if match is None or re.match(r"[a-z+]+://", line):
            raise _refuse(shown, "it is not the name of a package")
        rest = match[3].partition(";")[0].strip()
        if rest.startswith("@") and not rest[1:].strip().startswith("https://"):
            raise _refuse(shown, "a package's address must begin with https://")
        into.append(line)

    def _option(self, line: str, shown: str, folder: str, into: list[str]) -> None:
        name, _, value = re.sub(r"^(--?[A-Za-z-]+)[\s=]+", r"\1 ", line).partition(" ")
        if (short := re.match(r"(-[ircef])(\S.*)", name)) and not name.startswith("--"):
            name, value = short[1], short[2]
        value = value.strip()
        if name in ("-r", "--requirement"):
            self.read(self._inside(value, shown, folder), into)
        elif name in ("-c", "--constraint"):
            self.read(self._inside(value, shown, folder), self._wanted.constraints)
        elif name in _INDEX_OPTIONS:
            if not re.match(r"https?://", value):
                raise _refuse(shown, "an index's address must begin with https:// or http://")
            self._wanted.options += [name if name != "-i" else "--index-url", value]
        elif name in ("-f", "--find-links"):
            if re.match(r"https?://", value):
                self._wanted.options += ["--find-links", value]
                return
            place = self._inside(value.removeprefix("file://"), shown, folder)
            self._wanted.options += ["--find-links", place]
            if os.path.isdir(place):
                self._wanted.vendored += sorted(f"{place}/{name}" for name in os.listdir(place))
        elif name == "--no-index":
            self._wanted.options.append("--no-index")
        elif name == "--pre":
            self._wanted.options += ["--prerelease", "allow"]
        elif name not in _IGNORED_OPTIONS:
            raise _refuse(shown, f"the option {name} is not supported: packages are installed from wheels only")

    def _inside(self, path: str, shown: str, folder: str) -> str:
        """An existing path below the code's folder. Archives hold no links here, but another source may."""
        full = os.path.realpath(os.path.join(folder, path))
        if full != self._root and not full.startswith(f"{self._root}/"):
            raise _refuse(shown, "it points out of the model's code")
        if not os.path.exists(full):
            raise _refuse(shown, "there is no such file beside it")
        return full


def _refuse(what: str, why: str) -> CannotRun:
    shown = what if len(what) < 120 else f"{what[:120]}…"
    if not re.search(r"://[^/]*@", shown):  # an address with a password stays out of messages
        return cannot(
            "requirements", f"requirements.txt: {os.path.basename(shown) if shown.startswith('/') else shown!r}: {why}.", _MEND
        )
    return cannot("requirements", f"requirements.txt: {why}.", _MEND)
