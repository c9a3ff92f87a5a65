"""What becomes of one batch: the container's answer as what is written, or, in quarantine mode, its bad records found."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from slipway.core.transform_batches import SAMPLE, Bad, Batch, assembled, parted, stripped
from slipway.core.transform_joins import BadRecord, Processing, results
from slipway.core.transform_records import Framing, Whole
from slipway.core.transforms import TransformOptions, counted
from slipway.data.transforms_calls import Caller, Refused, Result

LEAF_RETRIES = 1
"""How often a record that is alone in its request is tried again, once its batch has failed with all its retries."""


class ObjectFailed(Exception):
    """The object cannot be completed. `client`: the data is at fault, else the algorithm."""

    def __init__(self, cause: str, client: bool = True, detail: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.client = client
        self.detail = detail


@dataclass(slots=True)
class Done:
    """A batch, or a record that could not be sent, with its results."""

    end: int
    """In the input: all before it is done."""
    following: int
    """Number of the record after it."""
    written: list[bytes] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    good: int = 0
    content_type: str = ""


class Work:
    """Carries out batches of one job at one instance."""

    def __init__(self, options: TransformOptions, processing: Processing | None, framing: Framing, single: bool) -> None:
        self.options = options
        self.processing = processing
        self.framing = framing
        self.single = single
        self._lines = processing is not None and not isinstance(framing, Whole)
        """Results are lines that have to be as many as the records."""

    async def carry(self, caller: Caller, batch: Batch) -> Done:
        """Raises ObjectFailed, and Gone of the caller."""
        done = Done(batch.end, batch.first + batch.count)
        try:
            await self._attempt(caller, batch, done, self.options.retries)
        except (Refused, BadRecord) as error:
            if not self.options.quarantine:
                raise _failed(batch, error) from error
            await self._isolate(caller, batch, done, error)
        return done

    async def _attempt(self, caller: Caller, batch: Batch, done: Done, retries: int) -> None:
        result = await caller.ask(batch.payload, retries)
        written = self._results(batch, result)
        done.written += written
        done.good += batch.count
        done.content_type = done.content_type or result.content_type

    async def _isolate(self, caller: Caller, batch: Batch, done: Done, error: Exception) -> None:
        """Halve it until the bad records are alone."""
        if batch.count == 1:
            sample = bytes((batch.records[0] if batch.records else batch.payload)[:SAMPLE])
            done.bad.append(Bad(batch.first, batch.start, batch.end, _said(error), sample))
            return
        for half in self._halves(batch):
            try:
                await self._attempt(caller, half, done, LEAF_RETRIES if half.count == 1 else 0)
            except (Refused, BadRecord) as again:
                await self._isolate(caller, half, done, again)

    def _halves(self, batch: Batch) -> Sequence[Batch]:
        records = list(batch.records) or parted(self.framing, batch.payload)
        middle = len(records) // 2
        cut = batch.start + sum(map(len, records[:middle]))
        return (
            self._part(records[:middle], batch.first, batch.start, cut),
            self._part(records[middle:], batch.first + middle, cut, batch.end),
        )

    def _part(self, records: Sequence[bytes], first: int, start: int, end: int) -> Batch:
        if self.processing is not None and not self.processing.input_filter.whole:
            payload = b"".join(self.processing.request(stripped(record)) + b"\n" for record in records)
        else:
            payload = b"".join(records)
        return Batch(payload, len(records), first, start, end, tuple(records))

    def _results(self, batch: Batch, result: Result) -> list[bytes]:
        processing = self.processing
        if processing is None or not processing.per_record:
            return list(assembled([result.body], self.options.lines))
        if not self._lines:
            return list(assembled([processing.result(batch.records[0], result.body, batch.first)], self.options.lines))
        answers = results(result.body)
        if len(answers) != batch.count:
            told, asked = counted(len(answers), "result"), counted(batch.count, "record")
            raise BadRecord(
                f"the algorithm returned {told} for {asked}: they cannot be held against each other. It must answer with one "
                "line for each record, in their order"
            )
        rows = []
        for number, (record, answer) in enumerate(zip(batch.records, answers, strict=True)):
            try:
                rows.append(processing.result(stripped(record), answer, batch.first + number))
            except BadRecord as error:
                raise BadRecord(f"record {batch.first + number}: {error}" if batch.count > 1 else str(error)) from error
        return list(assembled(rows, self.options.lines))


def place_of(batch: Batch | Bad) -> str:
    """Where in the object, for people; records count from 0, as do bytes."""
    if isinstance(batch, Bad) or batch.count == 1:
        return f"record {batch.first} (byte {batch.start})"
    return f"records {batch.first} to {batch.first + batch.count - 1} (from byte {batch.start})"


def _failed(batch: Batch, error: Refused | BadRecord) -> ObjectFailed:
    if isinstance(error, Refused):
        return ObjectFailed(f"{error.cause}, at {place_of(batch)}", error.client, error.detail)
    return ObjectFailed(f"{place_of(batch)}: {error}", True)


def _said(error: Exception) -> str:
    if isinstance(error, Refused) and error.detail:
        return f"{error.cause}: {error.detail[:SAMPLE]}"
    return str(error)


def error_line(bad: Bad) -> bytes:
    """A line of the file of bad records."""
    about: dict[str, object] = {"record": bad.first, "byte": bad.start, "cause": bad.cause}
    try:
        about["input"] = stripped(bad.sample).decode()
    except UnicodeDecodeError:
        about["inputBase64"] = base64.b64encode(bad.sample).decode()
    if len(bad.sample) < bad.end - bad.start and len(bad.sample) >= SAMPLE:
        about["truncated"] = True
    return json.dumps(about, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
