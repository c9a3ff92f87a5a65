"""One request of a dispatcher on its way through the containers of an instance, of which there is often but one.

Asynchronous requests and those of transform jobs go the same way, by the rules of `data.walks` (containers.md 6.2); input and
last answer may be streams here, and what lies between two containers is held whole. One time limit holds for the whole of it:
it begins when the first container does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from slipway.core.asynchronous import Spent
from slipway.data import invoke
from slipway.data.asynchronous_calls import UNBEGUN, UNSENT, Answer, AsyncCall, Input, Silent
from slipway.data.asynchronous_places import AsyncVariant
from slipway.data.walks import request_head
from slipway.http.body import IncomingBody
from slipway.http.messages import Headers
from slipway.http.render import clean_value

MakeCall = Callable[[bytes, Input, float, Callable[[AsyncCall], None]], AsyncCall]
"""Of head, input, seconds and who is told when it begins: `AsyncCall`, or what stands in for it."""


class Overfull(Exception):
    """A container's answer is larger than what the next one may be sent; `size` is None where nobody knows by how much."""

    def __init__(self, container: str, following: str, status: int, size: int | None, limit: int) -> None:
        super().__init__(container)
        self.container = container
        self.following = following
        self.status = status
        self.size = size
        self.limit = limit


class AsyncWalk:
    """`await walk.run(content type, input)`, once; then read the answer, and `cancel` whatever is left of it."""

    def __init__(
        self,
        stages: Sequence[AsyncVariant],
        given: Headers,
        timeout: float,
        begins: Callable[[AsyncCall], None],
        *,
        between: int,
        make: MakeCall = AsyncCall,
    ) -> None:
        """`given`: the caller's headers but for the content type; `begins` is told when the first container has the request;
        `between`: most bytes between two containers."""
        self.spent: list[Spent] = []
        """What each container took; one that was never begun is not among them."""
        self.stage = stages[0]
        """The present container's."""
        self._stages = stages
        self._given = given
        self._timeout = timeout
        self._begins = begins
        self._between = between
        self._make = make
        self._call: AsyncCall | None = None
        self._deadline = 0.0
        """perf_counter; 0 until the first container has begun."""

    @property
    def seconds(self) -> float | None:
        """In containers; None: none began."""
        return sum(each.seconds for each in self.spent) if self.spent else None

    async def run(self, content_type: str | None, source: Input) -> Answer:
        """The answer of the last container, or of the first that answers outside 2xx. Raises Silent, InputBroke, Overfull."""
        last = len(self._stages) - 1
        for index, stage in enumerate(self._stages):
            self.stage = stage
            answer = await self._at(stage, index == last, content_type, source)
            if index == last or not 200 <= answer.status < 300:
                return answer
            data = await self._held(self._stages[index + 1], answer)
            source, content_type = Input(len(data), data), type_of(answer) or None
        raise AssertionError("a walk has containers")

    def cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def _at(self, stage: AsyncVariant, last: bool, content_type: str | None, source: Input) -> Answer:
        first, since = not self._deadline, perf_counter()
        raw = content_type.encode("latin-1", "replace") if content_type else None
        head = request_head(self._given, raw if raw is None or clean_value(raw) else None, last=last)
        left = self._timeout if first else max(self._deadline - since, 0.001)
        self._call = call = self._make(head, source, left, self._begins if first else _begun)
        status = 0
        stage.submit(call)
        try:
            answer = await call.answer
            status = answer.status
        except Silent as silent:
            # What other containers have done is not undone by this one's not having begun.
            raise Silent(invoke.DIED if silent.why in (UNSENT, UNBEGUN) and not first else silent.why) from None
        finally:
            if call.began is not None:
                seconds = max((call.ended or perf_counter()) - call.began, 0.0)
                self.spent.append(Spent(stage.variant.container, seconds, max(call.began - since, 0.0), status))
                stage.measured(seconds)
        self._deadline = self._deadline or (call.began or since) + self._timeout
        return answer

    async def _held(self, following: AsyncVariant, answer: Answer) -> bytes:
        """The whole of an answer between two containers."""
        body, limit = answer.body, self._between
        data = body if isinstance(body, bytes) else await beginning(body, limit + 1)
        if len(data) > limit:
            size = len(data) if isinstance(body, bytes) else None
            raise Overfull(self.stage.variant.container, following.variant.container, answer.status, size, limit)
        return data


def type_of(answer: Answer) -> str:
    return dict(answer.headers).get(b"content-type", b"").decode("latin-1")


async def beginning(body: IncomingBody, most: int) -> bytes:
    """What comes first of a stream: `most` bytes, perhaps a piece more."""
    found = bytearray()
    while len(found) < most and (piece := await body.piece()):
        found += piece
    return bytes(found)


def _begun(call: AsyncCall) -> None:
    """A later container has it: the request had begun before."""
