"""One request on its way through a pipeline: the containers of one instance, one after the other (containers.md 6.2).

Each container's answer is the next one's request, its content type included; Accept goes to the last one alone, TargetModel to
the multi-model one alone. A walk that fails names the container: `call.slots` is that stage when `call` is told.

A caller with small models waits for little else than what happens here between two containers: the next one gets its request,
and the caller the answer, before anything is counted.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from slipway.data.invoke import DIED, GONE, Call, Oversize
from slipway.http.messages import Headers
from slipway.http.render import clean_value
from slipway_host.frames import pack_head, unpack_head

if TYPE_CHECKING:
    from slipway.data.pipelines import SerialInstance, SerialSlots, StageSlots

CONTENT_TYPE = b"content-type"
_ACCEPT = b"accept"
TARGET_MODEL = b"x-amzn-sagemaker-target-model"


class Walk(Call):
    """From the first container to the last: the call of each in its turn. `call` is the caller's: told once, in `replied` or
    `failed`."""

    step = True

    __slots__ = ("_given", "_held", "_since", "_slots", "_spent", "call", "deadline", "instance", "stage")

    def __init__(self, slots: SerialSlots, call: Call, instance: SerialInstance, seconds: float) -> None:
        """`seconds`: how long the whole of it may take."""
        # Call's own part is repeated here: made for every request, it is to cost no second call
        self.framed = True
        self.done = self.retried = False
        self.bucket = self.slots = self.task = None
        self._slots = slots
        self._given = call.head
        self._spent = 0.0
        """Seconds in containers so far."""
        self._held = 0
        """Bytes of an answer that waits for the next container."""
        self._since = now = perf_counter()
        """When the present container was to have the request."""
        self.call = call
        self.instance = instance
        self.stage: StageSlots = instance.stages[0]
        self.deadline = now + seconds
        """perf_counter at which it has to be over."""

    def left_ms(self, most: int) -> int:
        return max(1, min(most, int((self.deadline - perf_counter()) * 1000)))

    def begin(self) -> None:
        self._go(self.stage, self._given, self.call.body, self._since)

    def _go(self, stage: StageSlots, head: bytes, body: bytes, now: float) -> None:
        """On to this container; `head` tells the body's type."""
        self.stage = stage
        self._since = now
        given = self._given
        told = stage.heads.get((given, head))
        head = stage.head_for(given, head) if told is None else told
        if stage.last and self.call.reads:
            self._hand_over(head, body)
            return
        self.head = head
        self.body = body
        self.done = self.retried = False
        self.task = None
        stage.submit(self)

    def _hand_over(self, head: bytes, body: bytes) -> None:
        """The caller reads the last answer himself."""
        call = self.call
        self._slots.ended(self)
        self._let_go()
        call.head, call.body = head, body
        self.stage.submit(call)

    # ---- what containers answer

    def replied(self, status: int, head: bytes, body: bytes, now: float) -> None:
        stage, held = self.stage, self._held
        sent = self.sent
        waited = sent - self._since
        self._spent += now - sent
        following = stage.following
        if following is None or not 200 <= status < 300:
            self._answer(status, head, body, now)
        elif len(body) > stage.limits.between_bytes:
            self._held = 0
            self._fail(Oversize(stage.name_of_container, following.name_of_container, len(body), stage.limits.between_bytes))
        else:
            self.call.body = b""
            self._held = size = len(body)
            stage.pipes.between += size
            self._go(following, head, b"" if status == 204 else body, now)
        if held:
            stage.pipes.release(held)
        stage.count(status, now - sent, waited)

    def _answer(self, status: int, head: bytes, body: bytes, now: float) -> None:
        """The caller's."""
        self._held = 0
        self.body = b""
        call, slots = self.call, self._slots
        slots.ended(self)
        if call.settle():
            call.sent = now - self._spent
            call.slots = slots if 200 <= status < 300 else self.stage
            call.replied(status, head, body, now)

    def failed(self, why: str) -> None:
        self.body = b""
        if why == GONE and self.stage.index == 0:
            # Nothing has been done yet: another instance may have it.
            self._slots.ended(self)
            if not self.call.done:
                self.call.untimed()
                self._slots.submit(self.call)
            return
        self.stage.count_silent()
        self._let_go()
        self._fail(DIED if why == GONE else why)

    def _fail(self, why: str) -> None:
        self._slots.ended(self)
        call = self.call
        if call.settle():
            call.slots = self.stage
            call.failed(why)

    def abort(self) -> None:
        """Nobody wants the answer any more, or it is too late for one."""
        self.call.slots = self.stage
        if not self.done and perf_counter() >= self.deadline:
            self.stage.count_silent()
        self.cancel()
        self._let_go()
        self._slots.ended(self)

    def _let_go(self) -> None:
        held, self._held = self._held, 0
        if held:
            self.stage.pipes.release(held)


def request_head(given: Headers, content_type: bytes | None, *, last: bool, multi_model: bool = False) -> bytes:
    """What a container is told: the type of what it gets, and of the caller's headers those that are for it."""
    kept = [
        (name, value)
        for name, value in given
        if (lower := name.lower()) != CONTENT_TYPE and (last or lower != _ACCEPT) and (multi_model or lower != TARGET_MODEL)
    ]
    return pack_head(kept if content_type is None else [(CONTENT_TYPE, content_type), *kept])


def clean_type(head: bytes) -> bytes | None:
    """The content type that a packed head tells. One that would break the next request's head counts as none."""
    return next((value for name, value in unpack_head(head) if name.lower() == CONTENT_TYPE and clean_value(value)), None)
