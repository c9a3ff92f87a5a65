"""The same archives and requests through AWS's toolkit and through our host, and what differs between the answers."""

from __future__ import annotations

import base64
import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """A difference that is wanted: where (`scenario/request`, a pattern), what ours is (a status), and why."""

    where: str
    ours: int
    why: str


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
    text = body.decode("utf-8", "replace")
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
            chosen = [each for each in choices if fnmatch.fnmatch(where, each.where) and two and two.status == each.ours]
            used.update(chosen)
            if not chosen:
                found.append(f"{where}\n   AWS  {one or their['load']}\n   here {two or our['load']}")
    return found + [f"nothing differs by the choice {each.where}: {each.why}" for each in choices if each not in used]


def compare(
    kind: str,
    python: str,
    toolkit: Sequence[str],
    scenarios: Sequence[Scenario],
    choices: Sequence[Choice] = (),
    *,
    installed: bool = False,
) -> None:
    """Fails with all differences that are not chosen. `installed`: our host finds the toolkit's packages too."""
    packages = client_packages(python, *toolkit)
    theirs = run("toolkit", kind, python, packages, scenarios)
    ours = run("host", kind, python, f"{HOST}:{packages}" if installed else HOST, scenarios)
    assert all(
        len(each["answers"]) == len(scenario.requests)
        for each, scenario in zip(theirs, scenarios, strict=True)
        if not each["load"]
    )
    found = differences(scenarios, theirs, ours, choices)
    assert not found, f"{len(found)} differences\n" + "\n".join(found)
    assert sum(len(each.requests) for each in scenarios) > 0
    sys.stderr.write(f"{kind}: {sum(len(each['answers']) for each in theirs)} answers compared\n")
