"""Virtual time: processes, each with an event loop of its own, over one agenda; a killed process never runs again.

Every loop hands its callbacks to the agenda, which runs them one by one and moves the clock when nothing is left to do now.
Killing is leaving out: what a dead process had scheduled is skipped, as if the kernel had taken it away between two steps.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

_CLOSES = 20
"""How often a coroutine of a dead process is told to go, should it await something on its way out."""


class Agenda:
    """What is to happen, in order. `now` is an epoch; `time()` of every loop is the same."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.steps = 0
        self.problems: list[str] = []
        """What nobody caught."""
        self._ready: deque[asyncio.Handle] = deque()
        self._later: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0

    def soon(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)

    def later(self, handle: asyncio.TimerHandle) -> None:
        self._count += 1
        heapq.heappush(self._later, (handle.when(), self._count, handle))

    def run(self, until: float, done: Callable[[], bool]) -> None:
        """Until the moment, or until `done` when the clock is about to move."""
        ready, later = self._ready, self._later
        while True:
            while ready:
                self._perform(ready.popleft())
            while later and (later[0][2].cancelled() or later[0][2]._loop.process.dead):  # type: ignore[attr-defined]
                heapq.heappop(later)
            if done():
                return
            if not later or later[0][0] > until:
                self.now = max(self.now, until)
                return
            when = later[0][0]
            self.now = max(self.now, when)
            while later and later[0][0] <= when:
                ready.append(heapq.heappop(later)[2])

    def _perform(self, handle: asyncio.Handle) -> None:
        loop: ProcessLoop = handle._loop  # type: ignore[attr-defined]
        if handle.cancelled() or loop.process.dead:
            return
        self.steps += 1
        asyncio._set_running_loop(loop)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)


class Victim(Protocol):
    """What can be killed: a process, or a model's worker."""

    dead: bool

    @property
    def role(self) -> str: ...


class Process:
    """A control, dispatcher, client, or the world itself."""

    def __init__(self, agenda: Agenda, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.dead = False
        self.loop = ProcessLoop(agenda, self)  # type: ignore[abstract]

    @property
    def role(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{self.name}/{self.pid}"

    def kill(self) -> None:
        """At once, from outside: none of its own code may be on the stack."""
        self.dead = True
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            self.loop.discard()
        finally:
            asyncio._set_running_loop(outer)


class ProcessLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as the code needs."""

    def __init__(self, agenda: Agenda, process: Process) -> None:
        self.agenda = agenda
        self.process = process
        self.connect: Callable[[Callable[[], asyncio.Protocol], str], asyncio.Protocol] | None = None
        """Makes a connection to an address, at once; OSError."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 256

    def time(self) -> float:
        return self.agenda.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        if not self.process.dead:
            self.agenda.soon(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.process.dead:
            self.agenda.later(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_at(self.agenda.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is left out when its time has come."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._prune_at = 256 + 2 * len(self._tasks)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """There are no threads: done when it returns."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the caller's
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.process.dead:
            error = context.get("exception")
            self.agenda.problems.append(f"{self.process}: {context.get('message')}: {error!r}")

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        assert self.connect is not None
        await asyncio.sleep(0)
        return None, self.connect(protocol_factory, path)

    def discard(self) -> None:
        """Take down what its tasks were at; nothing they try on their way out happens."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
        if self._tasks:
            self.discard()


def _close(coro: Any) -> None:
    for _ in range(_CLOSES):
        try:
            coro.close()
        except RuntimeError:  # it awaits on its way out
            continue
        except Exception:  # noqa: BLE001 - its world is gone
            return
        return
