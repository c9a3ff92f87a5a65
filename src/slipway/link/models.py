"""Multi-model endpoints over the link: gateways ask control for models, control tells gateways of newer versions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from slipway.core.models import LATE, ModelAnswer, ModelAsk, ModelDone, ModelMoved
from slipway.link.channel import Channel, LinkClosed, LinkError
from slipway.link.client import Link

logger = logging.getLogger(__name__)

HELLO, ASK, DONE, MOVED = "model-hello", "model-ask", "model-done", "model-moved"


class ModelLink:
    """A gateway's end. Connects when the first model is asked for; `moved` is told of newer versions."""

    def __init__(self, path: str, moved: Callable[[ModelMoved], None], *, seconds: float) -> None:
        """`seconds`: longer than any load takes."""
        self._link = Link(path, setup=lambda channel: channel.on(MOVED, moved, ModelMoved), on_connect=self._greet)
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False

    async def ask(self, ask: ModelAsk) -> ModelAnswer:
        """LATE while control is away: who asks asks again."""
        self._start()
        try:
            answer: ModelAnswer = await self._link.request(ASK, ask, ModelAnswer, timeout=self._seconds)
        except (LinkClosed, LinkError, TimeoutError) as error:
            logger.info("model-not-asked", extra={"error": repr(error)})
            return ModelAnswer(LATE, message="control does not answer")
        return answer

    def done(self, replica: str, hash: str) -> None:
        self._start()
        task = asyncio.get_running_loop().create_task(self._tell(ModelDone(replica, hash)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._link.close()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._link.start()

    async def _greet(self, channel: Channel) -> None:
        await channel.request(HELLO, None, timeout=10.0)

    async def _tell(self, done: ModelDone) -> None:
        try:
            channel = await self._link.ready(self._seconds)
            await channel.notify(DONE, done)
        except (LinkClosed, TimeoutError) as error:
            logger.info("model-not-dismissed", extra={"error": repr(error)})


class ModelLinkServer:
    """Control's end. `attach` each channel of the link server."""

    def __init__(self, ask: Callable[[ModelAsk], Awaitable[ModelAnswer]], done: Callable[[ModelDone], None]) -> None:
        self._ask = ask
        self._done = done
        self._gateways: set[Channel] = set()

    def attach(self, channel: Channel) -> None:
        """Register the handlers on a new channel, before it reads."""
        channel.on(HELLO, lambda _: self._greeted(channel))
        channel.on(ASK, self._ask, ModelAsk)
        channel.on(DONE, self._done, ModelDone)

    async def tell(self, moved: ModelMoved) -> None:
        """Every gateway that knows of models."""
        for channel in list(self._gateways):
            try:
                await channel.notify(MOVED, moved)
            except LinkClosed:
                self._gateways.discard(channel)

    def _greeted(self, channel: Channel) -> None:
        self._gateways.add(channel)
        channel.on_close(lambda: self._gateways.discard(channel))
