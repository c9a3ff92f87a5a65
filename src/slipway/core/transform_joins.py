"""DataProcessing of batch transform: each record filtered, joined with its result, filtered again (containers.md 7.5).

A csv record is the row of its fields, kept as they were written (quotes too); a json record is its value. Input filter →
request; the unfiltered input and the result joined; output filter → what is written. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipway.core.transform_captures import Marks
from slipway.core.transform_paths import BadPath, NotThere, Path, fields, find, parse

Kind = Literal["csv", "json"]
CSV: Kind = "csv"
JSON: Kind = "json"
OUTPUT = "SageMakerOutput"
INPUT = "SageMakerInput"
_WHOLE = Path("$", ())
_OPERATORS = "['$', '[', ']', '*', '.', ' ', ',', ':', '-', ''']"


class BadRecord(ValueError):
    """A record, or its result, that cannot be processed; the text says why."""


def kind_of(content_type: str | None) -> Kind | None:
    """How records of a content type are seen; None: they cannot be looked into."""
    name = (content_type or "").partition(";")[0].strip().lower()
    if name == "text/csv":
        return CSV
    if name in ("application/json", "application/jsonlines", "application/x-jsonlines", "application/jsonl"):
        return JSON
    return None


def checked_path(member: str, text: str | None, content_type: str) -> Path:
    """The filter, or ValueError with AWS's sentence."""
    try:
        path = parse(text or "$")
    except BadPath as bad:
        where = f'Unexpected "{bad.sign}" in JsonPath' if bad.sign else f"Invalid JsonPath: {bad}"
        raise ValueError(
            f'Invalid {member}: "{text}". {where}. Supported operators for "{content_type}" are {_OPERATORS}'
        ) from bad
    if kind_of(content_type) == CSV and not path.for_csv:
        raise ValueError(
            f'Invalid {member}: "{text}". Fields of "{content_type}" have no names: only indexes and ranges such as $[0,2:5] '
            "are supported."
        )
    return path


@dataclass(frozen=True, slots=True)
class Processing:
    """What is done to each record. `kind` is the input's, `answer_kind` the result's."""

    kind: Kind
    answer_kind: Kind
    input_filter: Path = _WHOLE
    output_filter: Path = _WHOLE
    join: bool = False
    marks: Marks | None = None

    @property
    def per_record(self) -> bool:
        """Results have to be held against their records one by one."""
        return self.join or self.marks is not None or not self.output_filter.whole

    def request(self, record: bytes) -> bytes:
        """What the model gets of a record (no newline at its end). BadRecord."""
        if self.input_filter.whole:
            return record
        try:
            if self.kind == CSV:
                return b",".join(fields(self.input_filter, split_row(record)))
            return _written(find(self.input_filter, _read(record)))
        except NotThere as error:
            raise BadRecord(f"InputFilter {self.input_filter.text} finds nothing: {error}") from error

    def result(self, record: bytes, answer: bytes, number: int = 0) -> bytes:
        """What is written for a record and the model's result for it. `number`: of the record in its object. BadRecord."""
        found = self._result(record, answer)
        if self.marks is None:
            return found
        if self.answer_kind == JSON:
            return _written(self.marks.value(_read(found), number))
        if b"\n" not in found:
            return self.marks.row(found, number)
        # A whole object was one request: its rows are numbered.
        rows = b"\n".join(self.marks.row(row, at) for at, row in enumerate(results(found)))
        return rows + b"\n" if found.endswith(b"\n") else rows

    def _result(self, record: bytes, answer: bytes) -> bytes:
        try:
            if self.join:
                return self._joined(record, answer)
            if self.output_filter.whole:
                return answer
            if self.answer_kind == CSV:
                return b",".join(fields(self.output_filter, split_row(answer)))
            return _written(find(self.output_filter, _read(answer)))
        except NotThere as error:
            raise BadRecord(f"OutputFilter {self.output_filter.text} finds nothing: {error}") from error

    def _joined(self, record: bytes, answer: bytes) -> bytes:
        if self.kind == CSV:
            if self.output_filter.whole:
                split_row(answer)
                return b"%b,%b" % (record, answer)
            return b",".join(fields(self.output_filter, [*split_row(record), *split_row(answer)]))
        value, result = _read(record), _read(answer)
        joined: Any = {**value, OUTPUT: result} if isinstance(value, dict) else {INPUT: value, OUTPUT: result}
        return _written(find(self.output_filter, joined))


def split_row(line: bytes) -> Sequence[bytes]:
    """The fields of a csv line, quotes and all (RFC 4180). BadRecord for quotes in the wrong place."""
    if b'"' not in line:
        return line.split(b",")
    found: list[bytes] = []
    at = 0
    while True:
        if line[at : at + 1] == b'"':
            end = _quoted_end(line, at)
        else:
            end = line.find(b",", at)
            end = len(line) if end < 0 else end
            if b'"' in line[at:end]:
                near = line[at:end][:40].decode("utf-8", "replace")
                raise BadRecord(f'bare " in non quoted field found near {near}')
        found.append(line[at:end])
        if end >= len(line):
            return found
        at = end + 1


def _quoted_end(line: bytes, at: int) -> int:
    """Where the quoted field that begins at `at` ends."""
    look = at + 1
    while (quote := line.find(b'"', look)) >= 0:
        if line[quote + 1 : quote + 2] == b'"':
            look = quote + 2
            continue
        if line[quote + 1 : quote + 2] not in (b",", b""):
            break
        return quote + 1
    raise BadRecord(f'extraneous or missing " in quoted field found near {line[at : at + 40].decode("utf-8", "replace")}')


def results(answer: bytes) -> list[bytes]:
    """The results of a batch: its lines."""
    lines = answer.split(b"\n")
    if lines and lines[-1] == b"":
        lines.pop()
    return [line[:-1] if line.endswith(b"\r") else line for line in lines]


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        shown = text[:40].decode("utf-8", "replace")
        raise BadRecord(f"it is not valid JSON ({error}): {shown}") from error


def _written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
