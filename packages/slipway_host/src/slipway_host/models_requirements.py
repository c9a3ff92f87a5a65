"""What a model of a multi-model container asks for in its requirements.txt, and its environment does not have.

Models share one interpreter environment, so nothing is installed for one of them: nor do AWS's images (containers.md 2.3). They
say nothing; here each requirement that is not met is named in the log, and in the answer when the load fails. Which versions
satisfy is judged by release numbers alone; what cannot be judged so is not held against the model.
"""

from __future__ import annotations

import os
import re
from importlib import metadata

MEND = (
    "models of a multi-model endpoint share one environment: install it for all of them, by a requirements.txt beside the "
    "script in the archive that SAGEMAKER_SUBMIT_DIRECTORY=s3://… names, or by an image of your own; or give this model "
    "an endpoint of its own"
)
MAX_BYTES = 256 * 1024
MAX_NAMED = 10
MAX_PHRASE = 120
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?\s*([^;()]*)\)?\s*(;.*)?")
_DIRECT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@")
_CLAUSE = re.compile(r"(===|==|!=|<=|>=|~=|<|>)\s*v?(\d+(?:\.\d+)*)(\.\*)?(?:\+[A-Za-z0-9.]+)?")
_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)")


def unmet(model_dir: str) -> list[str]:
    """A phrase for each requirement of `code/requirements.txt` that does not hold here; MAX_NAMED at most."""
    try:
        with open(os.path.join(model_dir, "code", "requirements.txt"), "rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return []
    found = []
    for raw in text.replace("\\\r\n", "").replace("\\\n", "").splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        phrase = _judge(re.sub(r"\s--[a-z].*$", "", line)) if line else ""
        if phrase:
            found.append("".join(char if char.isprintable() else "?" for char in phrase[:MAX_PHRASE]))
    return found[:MAX_NAMED]


def _judge(line: str) -> str:
    """Empty: it holds, or asks for nothing, or is only for other machines."""
    if line.startswith(
        ("-i", "--index-url", "--extra-index-url", "--trusted-host", "--no-index", "-f", "--find-links", "--pre")
    ):
        return ""
    match = _LINE.fullmatch(line)
    if match is None or (match[2] and "@" in match[2]):
        direct = _DIRECT.match(line)
        if direct is not None:
            return "" if _installed(direct[1]) else f"{direct[1]} (not installed)"
        return f"{line[:80]} (not looked at)"
    name, wanted, marker = match[1], match[2].strip(), match[3]
    installed = _installed(name)
    if installed is None:
        return "" if marker else f"{name}{wanted[:40]} (not installed)"
    return "" if _satisfies(installed, wanted) else f"{name}{wanted[:40]} (installed: {installed})"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _satisfies(installed: str, wanted: str) -> bool:
    """Whether a version's release number is among those wanted; True for what is written in another way."""
    have = _RELEASE.match(installed)
    if have is None:
        return True
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        match = _CLAUSE.fullmatch(clause)
        if match is not None and not _holds(_numbers(have[1]), match[1], _numbers(match[2]), bool(match[3])):
            return False
    return True


def _holds(have: list[int], relation: str, wanted: list[int], prefix: bool) -> bool:
    if relation == "~=":
        return _compare(have, wanted) >= 0 and have[: len(wanted) - 1] == wanted[:-1]
    if prefix:
        starts = (have + [0] * len(wanted))[: len(wanted)] == wanted
        return starts if relation == "==" else not starts
    order = _compare(have, wanted)
    holds = {"==": order == 0, "===": order == 0, "!=": order != 0, "<=": order <= 0, ">=": order >= 0}
    return {**holds, "<": order < 0, ">": order > 0}[relation]


def _compare(left: list[int], right: list[int]) -> int:
    size = max(len(left), len(right))
    a, b = (each + [0] * (size - len(each)) for each in (left, right))
    return (a > b) - (a < b)


def _numbers(text: str) -> list[int]:
    return [int(part[:18]) for part in text.split(".")]
