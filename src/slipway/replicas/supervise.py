"""The life of one replica: prepare, start, ping, watch, stop. One task each; every way it ends leaves nothing behind.

Phases as in core/replicas.py. The keeper reports and carries out; whether a replica that no longer answers is replaced is
control's decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from slipway.backing.log_writer import LogWriter
from slipway.core.models import WHY_UNLOADED, ModelEvent
from slipway.core.replicas import Failure, ReplicaSpec, ReplicaState
from slipway.replicas.artifacts import Holding
from slipway.replicas.cgroups import Cgroup
from slipway.replicas.doors import Doors
from slipway.replicas.failures import CannotRun, cannot
from slipway.replicas.launch import Tools, effective_memory, house, launch, models_folder, prepare, remove_start, workers
from slipway.replicas.model_container import ModelContainer
from slipway.replicas.ping import ping
from slipway.replicas.process import Exit, Process
from slipway.replicas.residency import Residency
from slipway.replicas.usage import Measured

logger = logging.getLogger(__name__)

FIRST_PINGS = (0.01, 0.1)
"""Seconds between pings while starting: the first and, growing, the last."""
PING_EVERY = 5.0
EXPLAINED = 5.0
"""Seconds that a foreign container's companion has, after the time to start, to say what is wrong with the server."""
MISSES = 3
"""Pings in a row without a good answer until a replica counts as unready."""
_BUILDS = ("building ", "built ", "waiting ")
"""Progress that takes minutes: told in the endpoint's log as well."""
T = TypeVar("T")


class Replica:
    """One replica. `report` is called on each change of its state, from the event loop; `told` on what happens to models."""

    def __init__(
        self,
        spec: ReplicaSpec,
        tools: Tools,
        report: Callable[[ReplicaState], None],
        *,
        ping_every: float = PING_EVERY,
        told: Callable[[ModelEvent], None] = lambda event: None,
        pinned: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        """`pinned`: targets that a multi-model replica is to keep, once they are loaded."""
        self.spec = spec
        self.residency: Residency | None = None
        """Of a multi-model container, while it serves."""
        self._told = told
        self._pinned = pinned
        self.state = ReplicaState(spec.id, spec.owner, "preparing")
        self._tools = tools
        self._report = report
        self._ping_every = ping_every
        self._stopping = asyncio.Event()
        self._grace = 0.0
        self._holdings: list[Holding] = []
        self._process: Process | None = None
        self._doors: Doors | None = None
        self._cgroup: Cgroup | None = None
        self._foreign = False
        """A server that is not ours: what stands beside it explains why it does not answer."""
        self._oom_kills = 0
        self._log: LogWriter | None = None
        self._task = asyncio.get_running_loop().create_task(self._live())

    def stop(self, grace: float) -> None:
        """Begin to stop: what is being prepared is cancelled, a process gets SIGTERM and after `grace` seconds SIGKILL."""
        if self.state.phase == "exited":
            return
        self._grace = grace if not self._stopping.is_set() else min(grace, self._grace)
        self._stopping.set()

    def kill(self) -> None:
        """At once."""
        self.stop(0.0)
        if self._process is not None:
            self._process.kill()

    async def ended(self) -> None:
        await asyncio.wait([self._task])

    def measured(self) -> Measured | None:
        """What its use of the machine is read from; None when it does not run."""
        if self._process is None or self.state.phase in ("exited", "preparing"):
            return None
        loaded = self.residency.loaded if self.residency is not None else None
        return Measured(self.spec, self._process.pid, self._cgroup, self._run_dir, loaded)

    def _change(self, **fields: Any) -> None:
        self.state = replace(self.state, **fields)
        self._report(self.state)

    def _progress(self, text: str) -> None:
        if text != self.state.progress and not self._stopping.is_set():
            self._change(progress=text)
            if text.startswith(_BUILDS):
                self._say(text)

    def _note(self, text: str) -> None:
        if text not in self.state.notes:
            self._change(notes=(*self.state.notes, text))
            self._say(text)

    def _say(self, text: str) -> None:
        """A line of ours in the endpoint's own log."""
        if self._log is not None:
            self._log.write([f"[slipway] {text}"])

    async def _live(self) -> None:
        failure: Failure | None = None
        self._report(self.state)
        try:
            failure = await self._run()
        except CannotRun as error:
            failure = error.failure
        except Exception as error:
            logger.exception("replica-broke", extra={"replica": self.spec.id})
            failure = Failure(
                "internal", f"slipway itself failed ({type(error).__name__}: {error})", mend="see the keeper's log"
            )
        finally:
            await self._clean()
        if failure is not None:
            failure = replace(failure, log_tail=failure.log_tail or (self._log.tail if self._log else ()))
            if not any(failure.message in line for line in failure.log_tail):  # the host has not said it itself
                self._say(failure.message)
                if failure.mend:
                    self._say(f"mend: {failure.mend}")
        if self._log is not None:
            self._log.close()
        logger.info("replica-exited", extra={"replica": self.spec.id, "failure": failure.kind if failure else ""})
        self._change(phase="exited", pid=None, workers=(), progress="", failure=failure)

    async def _run(self) -> Failure | None:
        """From nothing to the end; the failure, None when it ended because it was told to."""
        self._log = await asyncio.to_thread(self._tools.open_log, self.spec)
        prepared = await self._until_stopped(prepare(self.spec, self._tools, self._holdings, self._progress))
        if prepared is None:
            return None
        for note in prepared.notes:
            self._note(note)
        self._cgroup = prepared.cgroup
        self._change(phase="starting", progress="starting", image=prepared.environment.title)
        try:
            self._foreign = prepared.environment.directory is not None
            doors = self._doors = Doors(prepared.run_dir, 1 if self._foreign else workers(self.spec, prepared.environment))
        except OSError as error:
            raise cannot("internal", f"the container's sockets could not be opened: {error.strerror}") from error
        self._process = await launch(self.spec, self._tools, prepared, self._log, doors)
        self._change(pid=self._process.pid)
        try:
            failure = await self._serve(self._process, doors)
        finally:
            self._process.kill()
            await asyncio.wait([self._process.ended], timeout=5.0)
            await self._process.drained()
        return failure

    async def _serve(self, process: Process, doors: Doors) -> Failure | None:
        started = asyncio.create_task(self._first_ping())
        patience = self.spec.start_timeout + (EXPLAINED if self._foreign else 0.0)
        await self._first_of(started, process, timeout=patience)
        if self._stopping.is_set():
            started.cancel()
            await self._stop(process)
            return None
        if process.ended.done():
            started.cancel()
            return await self._why_ended(process, "while it started")
        if not started.done():
            started.cancel()
            return self._no_ping()
        await asyncio.to_thread(remove_start, self._run_dir)
        if self.spec.models and (failure := await self._open_models(doors)) is not None:
            return failure
        self._change(phase="ready", progress="", protocol="http" if self._foreign else "frames", workers=doors.addresses)
        watching = asyncio.create_task(self._watch())
        try:
            await self._first_of(watching, process)
        finally:
            watching.cancel()
        if self._stopping.is_set():
            await self._stop(process)
            return None
        if not process.ended.done():
            watching.result()
        return await self._why_ended(process, "while it served")

    async def _open_models(self, doors: Doors) -> Failure | None:
        """From here on models can be loaded; unless the container does not keep to the contract."""
        foreign = self._foreign
        address = doors.addresses[0] if foreign else f"unix:{self._run_dir}/host.sock"
        where = house(self.spec, self._tools, doors, foreign=foreign)
        container = ModelContainer(address, ours=not foreign)
        self.residency = Residency(where, container, self._tools.artifacts, self._model_event, pinned=self._pinned)
        if await self.residency.answers():
            return None
        message = "The container answers GET /ping, but not GET /models with a list of models: it is no multi-model container."
        mend = (
            "implement the multi-model contract (GET, POST and DELETE /models, POST /models/<name>/invoke), or leave Mode out"
        )
        return Failure("no-ping", message, self._log.tail if self._log else (), mend=mend)

    def _model_event(self, event: ModelEvent) -> None:
        """In the log as well: a container knows its models by their hashes alone, which is what tracebacks show."""
        if event.kind == "downloaded":
            self._say(f"model {event.target}: loading it as {event.hash}")
        elif event.kind == "unloaded":
            self._say(f"model {event.target} ({event.hash}): unloaded, {WHY_UNLOADED.get(event.why, event.why)}")
        self._told(event)

    @property
    def _run_dir(self) -> str:
        return self._tools.run_dir(self.spec)

    async def _first_ping(self) -> None:
        pause, most = FIRST_PINGS
        while not await ping(self._run_dir, wait=1.0):
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, most)

    async def _watch(self) -> None:
        """Ping for ever; also tell the log when the kernel killed a part of the replica."""
        misses = 0
        while True:
            await asyncio.sleep(self._ping_every if misses == 0 else min(1.0, self._ping_every))
            good = await ping(self._run_dir)
            misses = 0 if good else misses + 1
            if good and self.state.phase == "unready":
                self._change(phase="ready", missed_pings=0)
            elif misses != self.state.missed_pings:
                self._change(missed_pings=misses, phase="unready" if misses >= MISSES else self.state.phase)
            self._count_oom()

    def _count_oom(self) -> None:
        if self._cgroup is None:
            return
        events = self._cgroup.memory_events()
        if events.kills > self._oom_kills:
            self._oom_kills = events.kills
            self._say(f"a process of this container was killed: more than {_mib(events.limit)} MiB of memory in use")

    async def _first_of(self, task: asyncio.Task[None], process: Process, timeout: float | None = None) -> None:
        """Until `task` is done, the process has ended or a stop is asked for."""
        stopping = asyncio.create_task(self._stopping.wait())
        waiting: set[asyncio.Future[Any]] = {task, process.ended, stopping}
        try:
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _until_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`; None, and `work` is cancelled, when a stop comes first."""
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            return None
        finally:
            stopping.cancel()
            task.cancel()
            await asyncio.wait([task])

    async def _stop(self, process: Process) -> None:
        self._change(phase="stopping", progress="stopping")
        process.terminate()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not process.ended.done() and loop.time() - began < self._grace:
            left = self._grace - (loop.time() - began)
            await asyncio.wait([process.ended], timeout=max(0.0, min(left, 0.1)))

    async def _why_ended(self, process: Process, when: str) -> Failure:
        ended = process.ended.result()
        process.kill()
        await process.drained()
        told = self._doors.failure() if self._doors is not None else None
        tail = self._log.tail if self._log else ()
        if (oom := self._out_of_memory(when, told)) is not None:
            return replace(oom, log_tail=tail, exit_code=ended.code, signal=ended.signal)
        if told is not None:
            return replace(told, log_tail=told.log_tail or tail, exit_code=ended.code, signal=ended.signal)
        return Failure(
            "exited", _exit_message(ended, when), tail, ended.code, ended.signal, "look at its last lines in the endpoint's log"
        )

    def _out_of_memory(self, when: str, told: Failure | None) -> Failure | None:
        events = self._cgroup.memory_events() if self._cgroup is not None else None
        limit = effective_memory(self.spec, self._tools)
        mend = "choose an instance type with more memory, or load less"
        if events is not None and events.kills:
            used = f"limit {_mib(events.limit)} MiB, peak {_mib(events.peak)} MiB"
            return Failure("out-of-memory", f"The container ran out of memory {when} ({used}).", mend=mend)
        if told is not None and told.kind == "out-of-memory" and limit:
            return replace(told, message=f"{told.message.rstrip('.')} (limit {_mib(limit)} MiB).", mend=told.mend or mend)
        return None

    def _no_ping(self) -> Failure:
        seconds = self.spec.start_timeout
        message = f"The container did not answer GET /ping with 200 within {seconds:g} seconds; its process is running."
        mend = "load the model faster, or raise ContainerStartupHealthCheckTimeoutInSeconds (at most 3600)"
        return Failure("no-ping", message, self._log.tail if self._log else (), mend=mend)

    async def _clean(self) -> None:
        """Processes, cgroup, run folder, artifacts: all go, whatever happened before."""
        if self.residency is not None:
            await self.residency.close()
        elif self.spec.models:
            await asyncio.to_thread(shutil.rmtree, models_folder(self.spec, self._tools), True)
        for holding in self._holdings:
            holding.release()
        if self._doors is not None:
            self._doors.close()
        if self._cgroup is not None:
            for _ in range(200):
                if self._cgroup.remove():
                    break
                await asyncio.sleep(0.01)
            else:
                logger.warning("cgroup-remains", extra={"replica": self.spec.id})
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, self._run_dir, True)


def _exit_message(ended: Exit, when: str) -> str:
    if ended.signal is not None:
        return f"The container was ended by {ended} {when}."
    return f"The container exited {when} with {ended}."


def _mib(count: int) -> int:
    return round(count / (1024 * 1024))
