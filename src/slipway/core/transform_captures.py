"""Data capture of batch transform (containers.md 9): manifests of the objects that went in and came out, and inference ids.

Everything follows from the job alone, so that whoever writes it again after a death writes the same.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

MOST_ENTRIES = 5000
"""Objects of one manifest: at most some 5 MB of keys."""
ID = "SageMakerInferenceId"
TIME = "SageMakerInferenceTime"
RESULT = "SageMakerOutput"


class Carried(NamedTuple):
    """An object that was transformed, and where its output is."""

    bucket: str
    key: str
    output: str


@dataclass(frozen=True, slots=True)
class Capture:
    """Where manifests go. `moment`: when the job came to its end."""

    job: str
    bucket: str
    path: str
    output_bucket: str
    moment: float

    def files(self, number: int, page: Sequence[Carried]) -> Iterator[tuple[str, bytes]]:
        """Keys and manifests of the page of this number: for each bucket of inputs one of these, and one of their outputs,
        in the same order and under the same name."""
        for part, (bucket, found) in enumerate(itertools.groupby(page, key=lambda each: each.bucket)):
            group = list(found)
            name = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.job}#{number}.{part}")
            yield self._key("input", name), manifest(bucket, [each.key for each in group])
            yield self._key("output", name), manifest(self.output_bucket, [each.output for each in group])

    def _key(self, side: str, name: uuid.UUID) -> str:
        hour = datetime.fromtimestamp(self.moment, UTC).strftime("%Y/%m/%d/%H")
        base = self.path.strip("/")
        return f"{base}{'/' if base else ''}{side}/{hour}/{name}.json"


def manifest(bucket: str, keys: Sequence[str]) -> bytes:
    """As S3DataType ManifestFile reads it: `[{"prefix": "s3://bucket/folder/"}, "relative/key", …]`."""
    low, high = min(keys), max(keys)
    same = next((at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    # A key may be a folder's own: something has to be left of each.
    folder = low[: low.rfind("/", 0, min(same, len(low) - 1)) + 1]
    entries = [{"prefix": f"s3://{bucket}/{folder}"}, *(key[len(folder) :] for key in keys)]
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class Marks:
    """GenerateInferenceId for the results of one object. The id of a record follows from job, object and number."""

    def __init__(self, job: str, bucket: str, key: str, time: str) -> None:
        self._space = uuid.uuid5(uuid.NAMESPACE_URL, f"{job} {bucket}/{key}")
        self._time = time

    def id(self, number: int) -> str:
        return str(uuid.uuid5(self._space, str(number)))

    def row(self, row: bytes, number: int) -> bytes:
        """A csv row (no newline at its end) with two columns more."""
        return b"%b,%b,%b" % (row, self.id(number).encode(), self._time.encode())

    def value(self, value: Any, number: int) -> dict[str, Any]:
        """A JSON object with two members more; what is no object becomes the SageMakerOutput of one, as in a join."""
        found = value if isinstance(value, dict) else {RESULT: value}
        return {**found, ID: self.id(number), TIME: self._time}


def stamp(moment: float) -> str:
    """`2022-08-30T00:49:15Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
