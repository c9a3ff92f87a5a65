"""The same archives and requests through AWS's toolkit and through our host, and what differs between the answers."""

from __future__ import annotations

import base64
import fnmatch
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slipway_host import frames
from tests.e2e.environments import client_packages

DRIVER = Path(__file__).with_name("driver.py")
HOST = str(Path(frames.__file__).parents[1])


@dataclass(frozen=True)
class Request:
    name: str
    body: bytes
    content_type: str = ""
    accept: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def wire(self) -> dict[str, Any]:
        pairs = [(name, value) for name, value in (("Content-Type", self.content_type), ("Accept", self.accept)) if value]
        return {"headers": [*pairs, *self.headers], "body": base64.b64encode(self.body).decode()}


@dataclass(frozen=True)
class Scenario:
    """An archive, its environment, and what is asked of it."""

    name: str
    files: Mapping[str, bytes | str]
    requests: Sequence[Request]
    environment: Mapping[str, str] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        files = {
            name: base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
            for name, content in self.files.items()
        }
        return {"files": files, "environment": dict(self.environment), "requests": [each.wire() for each in self.requests]}


@dataclass(frozen=True)
class Choice:
    """A difference that is wanted: where (patterns of `scenario/request`), both statuses, and why."""

    where: str
    theirs: int
    ours: int
    why: str
    type_alone: bool = False
    """Only the content type differs."""

    def covers(self, where: str, theirs: Answer, ours: Answer) -> bool:
        if (theirs.status, ours.status) != (self.theirs, self.ours):
            return False
        if self.type_alone and replace(theirs, content_type="") != replace(ours, content_type=""):
            return False
        return any(fnmatch.fnmatch(where, each) for each in self.where.split())


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    own: tuple[tuple[str, str], ...]
    """Headers that the script set."""
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {self.content_type or '-'} {dict(self.own) or ''} {self.body[:300]!r}"


def run(side: str, kind: str, python: str, packages: str, scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    """What the driver answers. `packages`: what it imports, as PYTHONPATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGEMAKER_", "PYTHON", "HF_", "SM_"))}
    environment = {**kept, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1"}
    text = json.dumps([each.wire() for each in scenarios])
    command = [python, "-W", "ignore", str(DRIVER), side, kind]
    told = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
    assert told.returncode == 0, told.stderr[-3000:]
    results: list[dict[str, Any]] = json.loads(told.stdout)
    return results


def answer(raw: Mapping[str, Any]) -> Answer:
    body = base64.b64decode(raw["body"])
    headers = dict(raw["headers"])
    content_type = headers.pop("content-type", "")
    own = tuple(sorted((name, value) for name, value in headers.items() if name.startswith("x-own")))
    if raw["status"] >= 400:
        body = message(body)
    return Answer(raw["status"], content_type, own, body)


def message(body: bytes) -> bytes:
    """What an error says: tracebacks, stack traces and pages are each side's own."""
    text = re.sub("0x[0-9a-f]+", "0x…", body.decode("utf-8", "replace"))
    if text.startswith("{"):
        told = json.loads(text)
        text = str(told.get("message") or told.get("error-message") or text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].encode() if lines else b""


def differences(
    scenarios: Sequence[Scenario],
    theirs: Sequence[Mapping[str, Any]],
    ours: Sequence[Mapping[str, Any]],
    choices: Sequence[Choice],
) -> list[str]:
    """What differs and is not chosen, and choices that nothing differs by."""
    found = []
    used: set[Choice] = set()
    for scenario, their, our in zip(scenarios, theirs, ours, strict=True):
        for index, request in enumerate(scenario.requests):
            where = f"{scenario.name}/{request.name}"
            one = None if their["load"] else answer(their["answers"][index])
            two = None if our["load"] else answer(our["answers"][index])
            if two is None and (one is None or one.status >= 400):
                continue  # a model that cannot be loaded: its endpoint fails here, where some images answer with errors
            if one == two:
                continue
            chosen = [each for each in choices if one and two and each.covers(where, one, two)]
            used.update(chosen)
            if not chosen:
                found.append(f"{where}\n   AWS  {one or their['load']}\n   here {two or our['load']}")
    return found + [f"nothing differs by the choice {each.where}: {each.why}" for each in choices if each not in used]


def ask_aws(kind: str, python: str, toolkit: Sequence[str], scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    """What AWS's toolkit answers."""
    return run("toolkit", kind, python, client_packages(python, *toolkit), scenarios)


def compare(
    kind: str,
    python: str,
    scenarios: Sequence[Scenario],
    theirs: Sequence[Mapping[str, Any]],
    choices: Sequence[Choice] = (),
    *,
    installed: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Fails with all differences to `theirs` that are not chosen, and with choices that nothing needs.

    `installed`: packages of the toolkit that our host finds too. `environment`: for our side alone.
    """
    packages = [HOST, client_packages(python, *installed)] if installed else [HOST]
    given = [replace(each, environment={**each.environment, **(environment or {})}) for each in scenarios]
    ours = run("host", kind, python, ":".join(packages), given)
    assert any(each["answers"] for each in theirs)
    found = differences(scenarios, theirs, ours, choices)
    assert not found, f"{len(found)} differences\n" + "\n".join(found)
