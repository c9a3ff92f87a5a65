"""Request bodies as TensorFlow Serving's REST dialect: what json, json lines and csv become (containers.md 3.8)."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

JSON_TYPES = ("application/json", "application/jsonlines", "application/jsons")
CSV = "text/csv"
_WHOLE = re.compile(r'"(?:instances|inputs|examples)"\s*:')
_LINES = re.compile(r"[}\]]\s*[{\[]")
_NUMBER = re.compile(r"[\"'0-9.Ee+-]")


class UnknownType(Exception):
    """415. `args[0]`: the type."""


def to_request(body: bytes, content_type: str) -> Any:
    """The request as TensorFlow Serving would parse it. Raises UnknownType, ValueError for what is no JSON."""
    if content_type in JSON_TYPES:
        return json.loads(_wrapped(body.decode("utf-8-sig")))
    if content_type == CSV:
        return {"instances": _rows(body.decode("utf-8-sig"))}
    raise UnknownType(content_type or "Unknown")


def _wrapped(text: str) -> str:
    if _WHOLE.search(text):
        return text
    if _LINES.search(text):
        lines = [line for line in text.splitlines() if line.strip()]
        joined = ",".join(lines)
        return f'{{"instances":{joined if len(lines) == 1 else f"[{joined}]"}}}'
    stripped = text.strip()
    return f'{{"instances":{stripped if stripped.startswith("[[") else f"[{stripped}]"}}}'


def _rows(text: str) -> list[Any]:
    """Rows of numbers; rows of text where the first field is none. A line without a comma is a value alone."""
    lines = [line for line in text.splitlines() if line.strip()]
    numbers = bool(lines) and _NUMBER.match(lines[0].strip()) is not None
    rows: list[Any] = []
    for cells in csv.reader(io.StringIO("\n".join(lines)), skipinitialspace=True):
        row = [_value(cell) if numbers else cell for cell in cells]
        rows.append(row if len(row) > 1 else row[0])
    return rows


def _value(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        pass
    try:
        return float(cell)
    except ValueError:
        return cell
