"""One request on its way through a pipeline: the containers of one instance, one after the other (containers.md 6.2).

Each container's answer is the next one's request, its content type included; Accept goes to the last one alone, TargetModel to
the multi-model one alone. A walk that fails names the container: `call.slots` is that stage when `call` is told.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from slipway.data.invoke import DIED, GONE, Call, Oversize, Ticket
from slipway.http.render import clean_value
from slipway_host.frames import pack_head, unpack_head

if TYPE_CHECKING:
    from slipway.data.pipelines import Instance, SerialSlots, StageSlots

_CONTENT_TYPE = b"content-type"
_ACCEPT = b"accept"
_CACHED, _CACHED_BYTES = 256, 512
"""Heads that a container was told, kept: most requests of an endpoint are alike."""
TARGET_MODEL = b"x-amzn-sagemaker-target-model"


class Step(Call):
    """A walk's request to one container."""

    __slots__ = ("walk",)

    def __init__(self, walk: Walk, head: bytes, body: bytes) -> None:
        super().__init__(head, body)
        self.walk = walk
        self.sent = 0.0

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        self.untimed()
        self.walk.answered(self, status, head, body, now)

    def failed(self, why: str) -> None:
        self.walk.silent(self, why)


class Walk:
    """From the first container to the last. `call` is the caller's: told once, in `replied` or `failed`."""

    __slots__ = ("_head_given", "_held", "_since", "_slots", "_spent", "call", "deadline", "index", "instance", "step")

    def __init__(self, slots: SerialSlots, call: Call, instance: Instance, deadline: float) -> None:
        self._slots = slots
        self.call = call
        self.instance = instance
        self.deadline = deadline
        """perf_counter at which the whole walk has to be over."""
        self.index = 0
        self.step: Step | None = None
        self._spent = 0.0
        """Seconds in containers so far."""
        self._since = perf_counter()
        """When the present container was to have the request."""
        self._held = 0
        """Bytes of an answer that waits for the next container."""
        self._head_given = call.head

    @property
    def stage(self) -> StageSlots:
        return self.instance.stages[self.index]

    def left_ms(self) -> int:
        return max(1, int((self.deadline - perf_counter()) * 1000))

    def begin(self) -> None:
        self._go(self._head_given, self.call.body)

    def _go(self, before: bytes, body: bytes) -> None:
        """To the present container; `before` is the head that tells the body's type."""
        stage = self.stage
        heads, key = stage.heads, (self._head_given, before)
        head = heads.get(key)
        if head is None:
            head = _head(stage, *key)
            if len(heads) >= _CACHED:
                heads.clear()
            if len(self._head_given) + len(before) <= _CACHED_BYTES:
                heads[key] = head
        call = self.call
        if stage.last and isinstance(call, Ticket):  # the caller reads this answer itself
            self._slots.ended(self)
            call.head, call.body = head, body
            stage.submit(call)
            return
        self.step = step = Step(self, head, body)
        stage.submit(step)

    # ---- what containers answer

    def answered(self, step: Step, status: int, head: bytes, body: bytes, now: float) -> None:
        stage, call = self.stage, self.call
        self.step = None
        step.body = b""
        taken = now - step.sent
        self._spent += taken
        stage.count(status, taken, step.sent - self._since)
        self._let_go()
        call.sent = now - self._spent
        good = 200 <= status < 300
        if stage.last or not good:
            self._slots.ended(self)
            if call.settle():
                call.slots = self._slots if good else stage
                call.replied(status, head, body, now)
            return
        following = self.instance.stages[self.index + 1]
        limit = stage.limits.between_bytes
        if len(body) > limit:
            self._fail(Oversize(stage.name_of_container, following.name_of_container, len(body), limit))
            return
        call.body = b""
        self._held = len(body)
        self._slots.pipes.between += len(body)
        self.index += 1
        self._since = now
        self._go(head, b"" if status == 204 else body)

    def silent(self, step: Step, why: str) -> None:
        self.step = None
        step.body = b""
        if why == GONE and self.index == 0:
            # Nothing has been done yet: another instance may have it.
            self._slots.ended(self)
            if not self.call.done:
                self.call.untimed()
                self._slots.submit(self.call)
            return
        self.stage.count_silent()
        self._fail(DIED if why == GONE else why)

    def _fail(self, why: str) -> None:
        self._let_go()
        self._slots.ended(self)
        call = self.call
        if call.settle():
            call.slots = self.stage
            call.failed(why)

    def abort(self) -> None:
        """Nobody wants the answer any more, or it is too late for one."""
        step, self.step = self.step, None
        self.call.slots = self.stage
        if step is not None:
            if perf_counter() >= self.deadline:
                self.stage.count_silent()
            step.cancel()
        self._let_go()
        self._slots.ended(self)

    def _let_go(self) -> None:
        held, self._held = self._held, 0
        if held:
            self._slots.pipes.release(held)


def _head(stage: StageSlots, given: bytes, before: bytes) -> bytes:
    """What a container is told: the type of what it gets, and of the caller's headers those that are for it."""
    kept = [
        (name, value)
        for name, value in unpack_head(given)
        if name.lower() != _CONTENT_TYPE
        and (stage.last or name.lower() != _ACCEPT)
        and (stage.multi_model or name.lower() != TARGET_MODEL)
    ]
    content_type = _content_type(before)
    return pack_head(kept if content_type is None else [(_CONTENT_TYPE, content_type), *kept])


def _content_type(head: bytes) -> bytes | None:
    """One that would break the next request's head counts as none."""
    return next((value for name, value in unpack_head(head) if name.lower() == _CONTENT_TYPE and clean_value(value)), None)
