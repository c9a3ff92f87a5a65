"""One claimed object: streamed, split, sent in batches with order kept, assembled into a staged output (containers.md 7.3).

From time to time what is written becomes durable and control is told (a durable point): whoever takes the object up after a
death goes on from there.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from slipway.backing.objects import Reading
from slipway.backing.objects_errors import ObjectsError
from slipway.backing.objects_staging import Staging
from slipway.core.transform_batches import Bad, Batch, Batcher
from slipway.core.transform_captures import Marks
from slipway.core.transform_joins import Processing, kind_of
from slipway.core.transform_paths import parse
from slipway.core.transform_records import Broken, Split, framing
from slipway.core.transforms import ERRORS, OUT, ClaimedObject, Effective, ObjectOutcome, Point, TransformOptions, counted
from slipway.data.asynchronous_calls import InputBroke
from slipway.data.transforms_batches import Done, ObjectFailed, Work, error_line, place_of
from slipway.data.transforms_budget import Budget
from slipway.data.transforms_calls import Caller, Gone, Refused
from slipway.data.transforms_output import Output
from slipway.data.transforms_source import BadInput, pieces

logger = logging.getLogger(__name__)

POINT_SECONDS = 5.0
"""Between two durable points at least; and a fiftieth of the time that the object has taken."""
POINT_BYTES = 64 * 1024 * 1024
UNLIMITED = 100 << 20
"""Bytes of a request where MaxPayloadInMB is 0 and records have to be told apart all the same."""


@dataclass(frozen=True, slots=True)
class Place:
    """What an object's run works with."""

    staging: Staging
    options: TransformOptions
    effective: Effective
    budget: Budget
    caller: Caller
    instance: str
    now: Callable[[], float]
    point: Callable[[int, int, Point], Awaitable[bool | None]]
    """Tell control of a durable point."""


class LeaseLost(Exception):
    """Control does not know this claim any more."""


class ObjectRun:
    """`await run()` once."""

    def __init__(self, claimed: ClaimedObject, place: Place) -> None:
        self.claimed = claimed
        self.records = 0
        """Done, good and bad."""
        self.bytes_in = 0
        self._place = place
        self._started = place.now()
        self._pending: deque[tuple[int, asyncio.Task[Done] | Done]] = deque()
        self._output: Output | None = None
        self._errors: Output | None = None
        self._bad = 0
        self._has_turn = False
        self._pointed = self._started
        self.shared = claimed.point is not None
        """Its output has pieces that control knows: they are not this run's to remove."""

    async def run(self) -> ObjectOutcome:
        """Never raises for the object's sake; cancelled, it lets go of everything. LeaseLost."""
        try:
            await self._through()
            return await self._finished()
        except ObjectFailed as failed:
            return self._outcome("failed", failed.cause, client=failed.client, detail=failed.detail)
        except Gone:
            return self._outcome("lost" if self._place.caller.requests else "released", "The instance that processed it ended.")
        except BadInput as error:
            return self._outcome("failed", f"{error} (after record {max(self.records - 1, 0)})")
        except Broken as error:
            return self._outcome("failed", f"{error}, after {counted(self.records, 'record')}")
        except (ObjectsError, OSError) as error:
            what = f"{error.code}: {error.message}" if isinstance(error, ObjectsError) else str(error)
            return self._outcome("failed", what)
        finally:
            await asyncio.shield(self._let_go())

    # ---- reading and sending

    async def _through(self) -> None:
        place, claimed = self._place, self.claimed
        try:
            reading = await place.staging.open(claimed.bucket, claimed.key, claimed.account)
        except (ObjectsError, OSError) as error:
            what = f"{error.code}: {error.message}" if isinstance(error, ObjectsError) else str(error)
            raise ObjectFailed(f"The object could not be read. {what}") from error
        try:
            point = claimed.point
            if point is not None and (point.etag != reading.info.etag or not place.staging.resumable):
                point = None
            self._begin(reading, point)
            if self._streams:
                await self._stream(reading)
            else:
                await self._batches(reading, point)
        finally:
            reading.close()

    def _begin(self, reading: Reading, point: Point | None) -> None:
        claimed, options, staging = self.claimed, self._place.options, self._place.staging
        self._etag = reading.info.etag
        bucket, account = options.bucket, claimed.account
        self._output = Output(staging, bucket, claimed.output, account, point.pieces if point else ())
        errors = claimed.output.removesuffix(OUT) + ERRORS
        self._errors = Output(staging, bucket, errors, account, point.errors if point else ())
        self._errors.content_type = "application/jsonlines"
        if point is not None:
            self.records, self.bytes_in, self._bad = point.records, point.offset, point.bad
            self._output.content_type = point.content_type

    @property
    def _streams(self) -> bool:
        """The whole object is one request of any size."""
        effective, options = self._place.effective, self._place.options
        if effective.payload_mb or self._processing() is not None or options.quarantine:
            return False
        return options.split == "None" or effective.strategy != "SingleRecord"

    def _processing(self) -> Processing | None:
        options, claimed = self._place.options, self.claimed
        if options.input_filter == options.output_filter == "$" and not options.join and not options.inference_time:
            return None
        kind = kind_of(options.content_type) or "json"
        answers = kind_of(options.accept) or kind
        filters = parse(options.input_filter), parse(options.output_filter)
        marks = Marks(options.job, claimed.bucket, claimed.key, options.inference_time) if options.inference_time else None
        return Processing(kind, answers, *filters, options.join, marks)

    async def _batches(self, reading: Reading, point: Point | None) -> None:
        options, effective = self._place.options, self._place.effective
        processing = self._processing()
        split: Split = options.split
        single = split != "None" and effective.strategy == "SingleRecord"
        work = Work(options, processing, framing(split), single)
        filtering = processing is not None and not processing.input_filter.whole
        batcher = Batcher(
            work.framing,
            effective.payload_mb << 20 or UNLIMITED,
            single=single,
            request=processing.request if processing is not None and filtering else None,
            keep=processing is not None,
            start=point.offset if point else 0,
            first=point.records if point else 0,
        )
        async with aclosing(pieces(reading, options.gzip, point.offset if point else 0)) as found:
            async for piece in found:
                await self._turn()
                batcher.feed(piece)
                for item in batcher.ready():
                    await self._push(work, item)
        for item in batcher.finish():
            await self._push(work, item)
        self._pass_on()
        while self._pending:
            await self._write_first()

    async def _turn(self) -> None:
        """Before something is put together that may become large: one object at a time does that, when there is room."""
        budget = self._place.budget
        if budget.turn is None or self._has_turn:
            return
        while self._pending and (budget.crowded() or budget.turn.locked()):
            await self._write_first()
        await budget.turn.acquire()
        self._has_turn = True

    def _pass_on(self) -> None:
        if self._has_turn and self._place.budget.turn is not None:
            self._has_turn = False
            self._place.budget.turn.release()

    async def _push(self, work: Work, item: Batch | Bad) -> None:
        budget = self._place.budget
        if isinstance(item, Bad):
            if not self._place.options.quarantine:
                raise ObjectFailed(f"{place_of(item)}: {item.cause}")
            self._pending.append((-1, Done(item.end, item.first + 1, bad=[item])))
        else:
            size = len(item.payload)
            while not budget.take_now(size):
                if self._pending:
                    await self._write_first()
                else:
                    await budget.take(size)
                    break
            task = asyncio.get_running_loop().create_task(work.carry(self._place.caller, item))
            self._pending.append((size, task))
        self._pass_on()
        while self._pending and _ready(self._pending[0][1]):
            await self._write_first()

    # ---- writing

    async def _write_first(self) -> None:
        size, item = self._pending[0]
        try:
            done = item if isinstance(item, Done) else await item
            self._pending.popleft()
            await self._write(done)
        finally:
            if size >= 0 and not (self._pending and self._pending[0][1] is item):
                self._place.budget.give_back(size)

    async def _write(self, done: Done) -> None:
        output, errors = self._output, self._errors
        assert output is not None
        assert errors is not None
        output.content_type = output.content_type or done.content_type
        for piece in done.written:
            await output.write(piece)
        for bad in done.bad:
            await errors.write(error_line(bad))
        self._bad += len(done.bad)
        self.records = done.following
        self.bytes_in = done.end
        await self._point_if_due(done)

    async def _point_if_due(self, done: Done) -> None:
        place = self._place
        now = place.now()
        output, errors = self._output, self._errors
        if not place.staging.resumable or output is None or errors is None:
            return
        pause = max(POINT_SECONDS, (now - self._started) / 50)
        if now - self._pointed < pause and output.size < POINT_BYTES:
            return
        self._pointed = now
        written, told = await output.point(), await errors.point()
        claimed = self.claimed
        self.shared = True
        reached = Point(self._etag, done.end, done.following, written, told, self._bad, output.content_type)
        answer = await place.point(claimed.id, claimed.lease, reached)
        if answer is False:
            raise LeaseLost
        output.named()
        errors.named()

    # ---- a request without a limit

    async def _stream(self, reading: Reading) -> None:
        place, output = self._place, self._output
        assert output is not None
        gzip = place.options.gzip
        size = None if gzip else reading.info.size
        for again in range(place.options.retries + 1):
            began = output.size
            try:
                await place.caller.stream(size, functools.partial(self._opened, reading, gzip), self._streamed)
            except Refused as refused:
                if refused.client or again >= place.options.retries or output.size > began:
                    raise ObjectFailed(refused.cause, refused.client, refused.detail) from refused
                reading = await place.staging.open(self.claimed.bucket, self.claimed.key, self.claimed.account)
            except InputBroke as broke:
                if isinstance(broke.__cause__, BadInput):
                    raise broke.__cause__ from broke
                raise ObjectFailed(f"The object could not be read. {broke}") from broke
            else:
                break
        if place.options.lines and not self._ended:
            await output.write(b"\n")
        self.records, self.bytes_in = 1, reading.info.size

    _ended = True

    async def _streamed(self, piece: bytes, content_type: str) -> None:
        assert self._output is not None
        self._output.content_type = content_type
        await self._output.write(piece)
        if piece:
            self._ended = piece.endswith(b"\n")

    async def _opened(self, reading: Reading, gzip: bool) -> AsyncIterator[bytes]:
        async with aclosing(pieces(reading, gzip, 0)) as found:
            async for piece in found:
                self.bytes_in += len(piece)
                yield piece

    # ---- the end

    async def _finished(self) -> ObjectOutcome:
        output, errors = self._output, self._errors
        assert output is not None
        assert errors is not None
        staged = [await output.finish()]
        if self._bad or await self._told_before():
            staged.append(await errors.finish())
        outcome = self._outcome("done", staged=tuple(staged), out=sum(each.size for each in staged[:1]))
        self._output = self._errors = None
        return outcome

    async def _told_before(self) -> bool:
        """An earlier job told of bad records beside this output: an empty file in its place says that there are none now."""
        place, errors = self._place, self._errors
        assert errors is not None
        if not place.options.quarantine:
            return False
        try:
            reading = await place.staging.open(place.options.bucket, errors.key, self.claimed.account)
        except ObjectsError as error:
            if (error.status or 500) >= 500:
                raise
            return False
        reading.close()
        return reading.info.size > 0

    def _outcome(
        self,
        kind: str,
        cause: str = "",
        *,
        client: bool = True,
        detail: str = "",
        staged: tuple[object, ...] = (),
        out: int = 0,
    ) -> ObjectOutcome:
        claimed = self.claimed
        return ObjectOutcome(
            claimed.id,
            claimed.lease,
            kind,  # type: ignore[arg-type]
            cause,
            client,
            detail,
            self.records,
            self._bad,
            self._place.caller.requests,
            self.bytes_in,
            out,
            self._place.instance,
            self._started,
            self._place.now(),
            staged,  # type: ignore[arg-type]
        )

    async def _let_go(self) -> None:
        self._pass_on()
        tasks = [item for _, item in self._pending if isinstance(item, asyncio.Task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for size, _ in self._pending:
            if size >= 0:
                self._place.budget.give_back(size)
        self._pending.clear()
        for output in (self._output, self._errors):
            if output is not None:
                await output.drop()


def _ready(item: asyncio.Task[Done] | Done) -> bool:
    return isinstance(item, Done) or item.done()
