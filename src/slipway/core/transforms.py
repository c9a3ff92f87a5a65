"""Batch transform as values: what a job asks of dispatchers, its objects and what became of each, and a job's states.

An object is queued, claimed under a lease, perhaps set back with a durable point from which the next goes on, and ends once:
done or failed. Only control writes states; dispatchers claim and settle over the link (design.md 2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipway.core.asynchronous import Staged
from slipway.core.transform_records import Split

IN_PROGRESS = "InProgress"
COMPLETED = "Completed"
FAILED = "Failed"
STOPPING = "Stopping"
STOPPED = "Stopped"
TERMINAL = frozenset({COMPLETED, FAILED, STOPPED})

QUEUED = "queued"
RUNNING = "running"
DONE = "done"
BROKEN = "failed"
CUT = "stopped"
"""States of an object; `stopped`: the job ended before it was done."""

PAYLOAD_MB = 6
MOST_PAYLOAD_MB = 100
TIMEOUT_SECONDS = 600
RETRIES = 3
LOG_GROUP = "/aws/sagemaker/TransformJobs"
QUARANTINE_TAG = "slipway.quarantine"
OUT = ".out"
ERRORS = ".errors.jsonl"
"""Beside the output of an object with bad records, where the job has the tag."""
ATTEMPTS = 5
"""Instances that may die under one object before it fails."""
CLAIMS = 30
"""Dispatchers that may: most objects that a dead one held had only been claimed ahead."""


@dataclass(frozen=True, slots=True)
class TransformOptions:
    """What a dispatcher has to know of a job; travels with the route to the job's instances."""

    job: str
    """ARN."""
    bucket: str
    """Of the output."""
    content_type: str | None = None
    accept: str | None = None
    gzip: bool = False
    split: Split = "None"
    strategy: str = ""
    """`MultiRecord`, `SingleRecord`; empty: not said."""
    concurrent: int = 0
    """0: not said."""
    payload_mb: int | None = None
    timeout: int = TIMEOUT_SECONDS
    retries: int = RETRIES
    lines: bool = False
    """AssembleWith Line."""
    input_filter: str = "$"
    output_filter: str = "$"
    join: bool = False
    quarantine: bool = False
    inference_time: str = ""
    """Of the job's start, beside each result's inference id; empty: results have none."""


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for a job: the request's word, else the container's /execution-parameters, else AWS's defaults."""

    concurrent: int
    payload_mb: int
    """0: no limit."""
    strategy: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an object's output that is durable."""

    blob: str
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Point:
    """A durable point of an object: all before it is done, and its output lies in `pieces`."""

    etag: str
    """Of the input: another one's output is another's."""
    offset: int
    """In the (unpacked) input."""
    records: int
    pieces: tuple[Piece, ...] = ()
    errors: tuple[Piece, ...] = ()
    bad: int = 0
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedObject:
    id: int
    lease: int
    account: str
    bucket: str
    key: str
    size: int
    output: str
    """Key of the output."""
    attempt: int
    point: Point | None = None
    publish: tuple[Staged, ...] = ()
    """It was done, and only has to be published (external store)."""


ObjectKind = Literal["done", "failed", "lost", "released", "published"]
"""`lost`: its instance died, another attempt may succeed; `released`: nothing was sent, or somebody goes on from its point.

With an external store `done` wins the decision, and whoever published says `published` (as of `core.asynchronous`).
"""


@dataclass(frozen=True, slots=True)
class ObjectOutcome:
    """A dispatcher's word on a claimed object, void unless its lease is the newest."""

    id: int
    lease: int
    kind: ObjectKind
    cause: str = ""
    client: bool = True
    """Who is at fault in a failure: the data (or its owner), or the algorithm."""
    detail: str = ""
    """What the model said, for the log."""
    records: int = 0
    bad: int = 0
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    instance: str = ""
    started: float = 0.0
    finished: float = 0.0
    staged: tuple[Staged, ...] = ()
    """The output, and the file of bad records if there are any."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a job's objects."""

    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    stopped: int = 0
    records: int = 0
    bad: int = 0

    @property
    def total(self) -> int:
        return self.queued + self.running + self.done + self.failed + self.stopped

    @property
    def open(self) -> int:
        return self.queued + self.running


def effective(options: TransformOptions, told: Mapping[str, Any], workers: int) -> Effective:
    """`told`: what /execution-parameters answered; `workers`: of an instance of ours (1 for a foreign container)."""
    payload = options.payload_mb
    if payload is None:
        payload = _number(told.get("MaxPayloadInMB"), PAYLOAD_MB)
    concurrent = options.concurrent or _number(told.get("MaxConcurrentTransforms"), 0)
    if not concurrent:
        concurrent = max(1, min(workers, MOST_PAYLOAD_MB // payload if payload else 1))
    strategy = options.strategy or {"SINGLE_RECORD": "SingleRecord"}.get(str(told.get("BatchStrategy")), "MultiRecord")
    return Effective(concurrent, payload, strategy)


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def counted(number: int, what: str) -> str:
    """`1 record`, `2,000 records`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def parameters_line(found: Effective) -> str:
    """As AWS logs it (containers.md 7.4)."""
    strategy = "SINGLE_RECORD" if found.strategy == "SingleRecord" else "MULTI_RECORD"
    return f"MaxConcurrentTransforms={found.concurrent}, MaxPayloadInMB={found.payload_mb}, BatchStrategy={strategy}"


def folder_of(prefix: str) -> str:
    """What keys are relative to: the prefix's directory (`in/part-` → `in/`)."""
    return prefix[: prefix.rfind("/") + 1]


def output_key(path: str, key: str, folder: str) -> str:
    """The key of an object's output below the key `path` of S3OutputPath; `folder` as of `folder_of`."""
    relative = key[len(folder) :] if key.startswith(folder) else key
    base = path.strip("/")
    return f"{base}/{relative}{OUT}" if base else f"{relative}{OUT}"


class BadManifest(ValueError):
    """The manifest cannot be used; the text says why."""


def manifest_uris(text: bytes) -> tuple[str, list[str]]:
    """The prefix and the addresses of a manifest: `[{"prefix": "s3://bucket/folder/"}, "relative/key", …]`. BadManifest."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"it is not valid JSON ({error})") from error
    if (
        not isinstance(found, list)
        or not found
        or not isinstance(found[0], dict)
        or not isinstance(found[0].get("prefix"), str)
    ):
        raise BadManifest('it must be a list that begins with {"prefix": "s3://…"}')
    prefix = found[0]["prefix"]
    if wrong := next((number for number, each in enumerate(found[1:], 2) if not isinstance(each, str) or not each), None):
        raise BadManifest(f"its element {wrong} is not a key")
    return prefix, [prefix + each for each in found[1:]] if len(found) > 1 else []


def failure_reason(counts: Counts, first: tuple[str, str, bool] | None) -> str:
    """Of a job with failed objects. `first`: address and cause of the first of them, and whether the data is at fault."""
    side = "ClientError" if first is None or first[2] else "AlgorithmError"
    text = f"{side}: See job logs for more information."
    if first is not None:
        text += f" {counts.failed} of {counts.total} objects failed; {first[0]}: {first[1]}"
    return text[:1024]


def idle_instances(instances: int, objects: int) -> str | None:
    """What the log says where there are more instances than objects."""
    if instances <= objects:
        return None
    idle = instances - objects
    return (
        f"{instances} instances were asked for, and there {'is' if objects == 1 else 'are'} {counted(objects, 'object')}: "
        f"{counted(idle, 'instance')} {'is' if idle == 1 else 'are'} not started"
    )


def composite_etag(md5s: Sequence[bytes], digest: Any) -> str:
    """The ETag of an object of several parts, as S3 makes it; `digest`: hashlib's md5."""
    return f"{digest(b''.join(md5s)).hexdigest()}-{len(md5s)}"
