"""docs/coverage.md, generated: every operation and member of the hosting surface, from botocore's model and our tables.

A member is done, refused by name, or accepted without effect. `coverage.toml` beside this file lists what is done and the test
that shows it; `services.sagemaker.refusals` has the other two for SageMaker, `refused` and `no_effect` of an operation's entry
for other services. A member that none of them lists fails the check, so that a new
botocore cannot add a field that slipway silently ignores.

    python -m slipway.cli.coverage --check docs/coverage.md
    python -m slipway.cli.coverage --write docs/coverage.md
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.session
from botocore.model import OperationModel, Shape

from slipway.services.sagemaker.refusals import NO_EFFECT, REFUSED, REFUSED_BY_RULE

TABLE = Path(__file__).with_name("coverage.toml")
ROOT = Path(__file__).parents[3]
MAX_DEPTH = 8


def load_model(service: str) -> Any:
    """botocore's newest model of `service`."""
    return botocore.session.Session().get_service_model(service)


def members(shape: Shape | None, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Paths of all members below `shape`: names joined by dots, `[]` after a list; recursion stops at MAX_DEPTH."""
    if shape is None or depth > MAX_DEPTH:
        return
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            path = f"{prefix}.{name}" if prefix else name
            if member.type_name == "list":
                path += "[]"
                yield path
                yield from members(member.member, path, depth + 1)
            else:
                yield path
                yield from members(member, path, depth + 1)
    elif shape.type_name == "list":
        yield from members(shape.member, f"{prefix}[]", depth + 1)


def covers(listed: str, path: str) -> bool:
    """Whether a refusal (or "no effect") stands for `path`: itself, or anything below it."""
    return path == listed or path.startswith((f"{listed}.", f"{listed}[]"))


def member_status(
    operation: str, path: str, done: list[str], refused: Mapping[str, str] | None = None, kept: Mapping[str, str] | None = None
) -> tuple[str, str] | None:
    """(`done` | `refused` | `no effect`, a word on it), the most specific entry deciding; None when nothing lists it.

    `refused` and `kept` (without effect): paths and words from `coverage.toml`, beside the tables of SageMaker.
    """
    found: list[tuple[int, str, str]] = []
    for state, entries in (("refused", refused or {}), ("no effect", kept or {})):
        found += [(len(listed) * 2 + 1, state, word) for listed, word in entries.items() if covers(listed, path)]
    for refusal in REFUSED:
        if refusal.operation == operation and covers(refusal.path, path):
            only = f" when {' or '.join(map(str, refusal.values))}" if refusal.values else ""
            found.append((len(refusal.path) * 2 + 1, "refused" if not only else "done", f"refused{only}" if only else ""))
    for entry in NO_EFFECT:
        if entry.operation == operation and covers(entry.path, path):
            found.append((len(entry.path) * 2, "no effect", entry.why))
    for listed in done:
        if covers(listed, path):
            found.append(
                (len(listed) * 2, "done", f"refused: {rule}" if (rule := REFUSED_BY_RULE.get((operation, path))) else "")
            )
    if not found:
        return None
    _, status, word = max(found)
    return status, word


class Report:
    """The page's lines, and what is wrong with the tables."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = table
        self.lines: list[str] = []
        self.problems: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines += lines

    def service(self, name: str) -> None:
        entry = self.table[name]
        model = load_model(name)
        self.add("", f"## {name}", "", entry["about"], "", "| operation | state | shown by |", "| --- | --- | --- |")
        built: Mapping[str, Any] = entry["done"]
        later: Mapping[str, str] = entry.get("later", {})
        for operation in sorted({*built, *later}):
            if operation not in model.operation_names:
                self.problems.append(f"{name}: botocore has no operation {operation}")
            elif operation in built:
                test = built[operation]["test"]
                self.check_test(test)
                self.add(f"| {operation} | done | `{test}` |")
            else:
                self.add(f"| {operation} | not built: {later[operation]} | |")
        rest = len(set(model.operation_names) - {*built, *later})
        if rest:
            self.add("", f"The other {rest} operations of this service: {entry['rest']}.")
        for operation in sorted(built):
            if "members" in built[operation] and operation in model.operation_names:
                self.operation(name, model.operation_model(operation), built[operation])

    def operation(self, service: str, model: OperationModel, entry: Mapping[str, Any]) -> None:
        self.add("", f"### {model.name}", "", "| member | state | |", "| --- | --- | --- |")
        for path in members(model.input_shape):
            told = member_status(model.name, path, entry["members"], entry.get("refused"), entry.get("no_effect"))
            if told is None:
                self.problems.append(f"{service} {model.name}: no table lists the member {path}")
                continue
            self.add(f"| {path} | {told[0]} | {told[1]} |")

    def check_test(self, test: str) -> None:
        """The named test must exist."""
        path, _, function = test.partition("::")
        file = ROOT / path
        if not file.exists() or not re.search(rf"def {re.escape(function)}\(", file.read_text()):
            self.problems.append(f"coverage.toml names a test that is not there: {test}")


def build() -> Report:
    report = Report(tomllib.loads(TABLE.read_text()))
    report.add(
        "# Coverage",
        "",
        "Generated by `make coverage` from botocore's models; `make check` fails when it is old or a member is not listed.",
        "A member that is refused gets a ValidationException that names it; *no effect* says why a member changes nothing.",
    )
    for name in report.table:
        report.service(name)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m slipway.cli.coverage", description="docs/coverage.md")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", type=Path, metavar="FILE", help="fail when FILE is not what would be written")
    choice.add_argument("--write", type=Path, metavar="FILE", help="write FILE")
    arguments = parser.parse_args()
    report = build()
    text = "\n".join(report.lines) + "\n"
    for problem in report.problems:
        print(f"coverage: {problem}", file=sys.stderr)
    if arguments.write:
        arguments.write.write_text(text)
    elif not arguments.check.exists() or arguments.check.read_text() != text:
        print("coverage: docs/coverage.md is old: run `make coverage` and commit it", file=sys.stderr)
        return 1
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
