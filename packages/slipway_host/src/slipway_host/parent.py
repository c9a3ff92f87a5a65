"""The parent of a replica's workers: small, without any framework; answers `/ping`, forks, replaces and stops workers.

Who loads the model: with one worker, the worker. With several, the first child loads it and, if that left it with a single
thread, stays and forks all workers, which share its memory and are replaced at once (`sharing`); otherwise it becomes worker 0
and each other worker loads for itself. The listening sockets belong to the parent, so a worker's address outlives the worker.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Callable

from . import crew, frames, guard, memory, pings, sharing, slots, threads, unwanted
from .crew import describe
from .guard import become_child, watch_signals

STOP_SECONDS = 1.5
"""How long a running request may go on after SIGTERM."""
BACKLOG = 1024
MODEL_DIR = "/opt/ml/model"
DEFAULT_REQUEST_BYTES = 2 * 1024**3
DEFAULT_RESPONSE_BYTES = 1024**3
_THREAD_LIMITS = (*threads.LIMITS, "TF_NUM_INTRAOP_THREADS")


class Config:
    """config.json, with what the environment and the machine add."""

    def __init__(self, values: dict[str, Any], environment: MutableMapping[str, str]) -> None:
        self.flavour = str(values.get("flavour", ""))
        self.model_dir = str(values.get("model_dir") or MODEL_DIR)
        self.code_dir: str | None = values.get("code_dir") or None
        self.run_dir = str(values["run_dir"])
        self.cpus = int(values.get("cpus") or 0) or _cpus()
        self.workers = int(values.get("workers") or 0) or _number(environment, "SAGEMAKER_MODEL_SERVER_WORKERS") or self.cpus
        self.uid: int | None = values.get("uid")
        self.gid: int | None = values.get("gid")
        self.invoke_seconds = float(values.get("invoke_seconds") or 60.0)
        self.grace_seconds = float(values.get("grace_seconds") or frames.GRACE)
        self.request_bytes = int(values.get("request_bytes") or DEFAULT_REQUEST_BYTES)
        self.response_bytes = int(values.get("response_bytes") or DEFAULT_RESPONSE_BYTES)
        self.stop_seconds = float(values.get("stop_seconds") or STOP_SECONDS)
        self.die_with_parent = bool(values.get("die_with_parent", True))
        self.sockets: list[int] = list(values.get("sockets") or [])
        """Listening sockets that the keeper opened: the host's, then each worker's. None: we bind our own in `run_dir`."""
        self.report: int | None = values.get("report")
        self.gpu = bool(values.get("gpu"))
        """It has GPUs: each worker loads its model there by itself."""
        self.debugger = int(values.get("debugger") or 0)
        """Port on which a worker waits for a debugger; 0: none."""
        self.profile = bool(values.get("profile"))
        """Tell where the time of each request goes."""


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _number(environment: MutableMapping[str, str], name: str) -> int:
    value = environment.get(name, "").strip()
    return int(value) if value.isdigit() and len(value) < 5 else 0


def prepare_environment(config: Config, environment: MutableMapping[str, str]) -> None:
    """What user code may rely on. Threads of numeric libraries are divided among workers unless the user said otherwise."""
    if config.workers > 1:
        for name in _THREAD_LIMITS:
            environment.setdefault(name, str(max(1, config.cpus // config.workers)))
    environment.setdefault("SM_MODEL_DIR", config.model_dir)
    if config.model_dir != MODEL_DIR and os.path.basename(config.model_dir) == "model":
        environment.setdefault("SAGEMAKER_BASE_DIR", os.path.dirname(config.model_dir))


class Parent:
    """One replica. `run` returns the exit status."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.slots = slots.Slots(config.workers)
        self.unwanted = unwanted.Unwanted(self.slots, config.grace_seconds)
        self.crew = crew.Crew(self._child, self.slots, watch=True)
        self._started = False
        self._stopping = False
        self._pid = os.getpid()
        self._poller = select.poll()
        self._listeners: list[socket.socket] = []
        self._news_receive, self._news_send = socket.socketpair()
        self._oom_kills = 0
        self._pings: pings.Pings | None = None

    def run(self) -> int:
        try:
            self._open()
        except OSError as error:
            return self._cannot_open(error)
        self._oom_kills = memory.kills()
        self.crew.start(0)
        while not self._stopping:
            now = time.monotonic()
            wait = min(self.unwanted.look(now), self.crew.tend(now))
            held = self._pings.settle(now) if self._pings else None
            if held is not None:
                wait = min(wait, held)
            for descriptor, _event in self._poller.poll(max(1, int(wait * 1000))):
                if descriptor == self._news_receive.fileno():
                    self._news_receive.recv(4096)
                elif self._pings:
                    self._pings.handle(descriptor, time.monotonic())
            status = self._look()
            if status is not None:
                return status
        self._close_sockets()
        self.crew.stop(self.config.stop_seconds)
        return 0

    def _cannot_open(self, error: OSError) -> int:
        from . import failures  # noqa: PLC0415  rarely needed, and the parent stays small

        message = f"The host could not bind its sockets in {self.config.run_dir} or give up its rights: {error}."
        report = failures.Report("internal", message, "`slipway doctor` tells what the sandbox needs", [])
        failures.tell(report)
        failures.write(report, self.config.run_dir, self.config.report)
        return 1

    def _open(self) -> None:
        """Raises OSError."""
        config = self.config
        host, *self._listeners = self._given() if config.sockets else self._bound()
        if config.uid is not None and os.geteuid() == 0:
            os.chown(config.run_dir, config.uid, -1 if config.gid is None else config.gid)
        guard.drop(config.uid, config.gid)
        if config.die_with_parent:
            guard.die_with_parent()
        guard.no_new_privileges()
        prepare_environment(config, os.environ)
        if os.path.isdir(config.model_dir):
            os.chdir(config.model_dir)
        self._pings = pings.Pings(host, self._poller, config.workers, self._ready, self.unwanted.add)
        watch_signals(self._news_receive, self._news_send, self._on_stop)
        self._poller.register(self._news_receive.fileno(), select.POLLIN)

    def _given(self) -> list[socket.socket]:
        if self.config.report is not None:
            os.set_inheritable(self.config.report, False)
        sockets = [socket.socket(fileno=descriptor) for descriptor in self.config.sockets]
        for sock in sockets:
            sock.set_inheritable(False)
        return sockets

    def _bound(self) -> list[socket.socket]:
        """Started by hand: a folder of our own, which may hold what is left of another host."""
        failure = os.path.join(self.config.run_dir, "failure.json")
        if os.path.exists(failure):
            os.unlink(failure)
        previous = os.umask(0o077)
        try:
            host = _listen(os.path.join(self.config.run_dir, "host.sock"))
            return [host, *(_listen(self._worker_path(index)) for index in range(self.config.workers))]
        finally:
            os.umask(previous)

    def _worker_path(self, index: int) -> str:
        return os.path.join(self.config.run_dir, f"w{index}.sock")

    def _ready(self) -> bool:
        """All workers at first; later, at least one."""
        ready = self.slots.ready()
        if ready == self.config.workers:
            self._started = True
        return ready > 0 and self._started

    def _on_stop(self, _number: int, _frame: Any) -> None:
        self._stopping = True

    def _look(self) -> int | None:
        """What happened to the children; an exit status when the replica cannot be served."""
        self._ready()
        sharing = self.slots.sharing
        self.crew.watch = sharing != slots.SHARED
        for index, status in self.crew.reap():
            told = self.slots.state(index) == slots.TOLD
            for gone in range(self.config.workers) if sharing == slots.SHARED else [index]:
                self.slots.clear(gone)
            if self._stopping:
                continue
            if not self._started:
                self._give_up(status, told)
                return 1
            crew.log(f"worker {index} ended ({describe(status)}); a new one takes its place")
            if sharing == slots.SHARED:
                self.slots.sharing = slots.UNDECIDED
            self.crew.replace(index, time.monotonic())
        if sharing == slots.SEPARATE:
            for index in range(1, self.config.workers):
                self.crew.ensure(index)
        return None

    def _give_up(self, status: int, told: bool) -> None:
        """The model cannot be loaded: say why, once, and stop."""
        if not told:
            from . import failures  # noqa: PLC0415  rarely needed, and the parent stays small

            report = failures.exited(status, "loading the model", memory.kills() - self._oom_kills)
            failures.tell(report)
            failures.write(report, self.config.run_dir, self.config.report)
        self._close_sockets()
        self.crew.stop(0.2)

    def _close_sockets(self) -> None:
        if self._pings:
            self._pings.close()
        for listener in self._listeners:
            listener.close()
        if self.config.sockets:
            return  # the keeper's
        for path in [os.path.join(self.config.run_dir, "host.sock"), *map(self._worker_path, range(self.config.workers))]:
            try:
                os.unlink(path)
            except OSError:
                continue  # not ours any more

    def _child(self, index: int) -> int:
        """In a forked child: load, then serve or share."""
        become_child(self._pid)
        self._news_receive.close()
        if self._pings:
            for sock in self._pings.descriptors():
                sock.close()
        self.slots.enter(index, slots.LOADING, os.getpid())
        from . import serving  # noqa: PLC0415  after the fork: the parent stays small

        first = index == 0 and self.config.workers > 1 and self.slots.sharing == slots.UNDECIDED
        held = threads.hold_back(os.environ) if first else None
        if first and serving.import_ahead(self.config) and guard.single_threaded():
            self.slots.sharing = slots.SHARED
            return self._share(lambda number: self._load_and_serve(number, held), loaded=False)
        service = serving.load(self.config)
        if service is None:
            self.slots.enter(index, slots.TOLD, os.getpid())
            return 1
        gc.freeze()
        if first:
            if guard.single_threaded() and not self.config.gpu:  # CUDA does not outlive a fork
                self.slots.sharing = slots.SHARED
                return self._share(lambda number: self._serve(number, service, held), loaded=True)
            self.slots.sharing = slots.SEPARATE
            self._news_send.send(b"\0")
        return self._serve(index, service, held)

    def _share(self, serve: Callable[[int], int], *, loaded: bool) -> int:
        return sharing.share(serve, self.slots, self.config.workers, self.config.stop_seconds, loaded=loaded)

    def _load_and_serve(self, index: int, held: dict[str, int] | None) -> int:
        """In a worker that shares the framework's import, not the model."""
        from . import serving  # noqa: PLC0415  see _child

        threads.allow(held or {}, os.environ)
        self.slots.enter(index, slots.LOADING, os.getpid())
        service = serving.load(self.config)
        if service is None:
            self.slots.enter(index, slots.TOLD, os.getpid())
            return 1
        gc.freeze()
        return self._serve(index, service, None)

    def _serve(self, index: int, service: Any, held: dict[str, int] | None) -> int:
        """`held`: threads that libraries were denied while the model was loaded."""
        from . import serving  # noqa: PLC0415  see _child

        if held is not None:
            threads.allow(held, os.environ)
        for other, listener in enumerate(self._listeners):
            if other != index:
                listener.close()

        def ready() -> None:
            self.slots.enter(index, slots.READY, os.getpid())
            self._news_send.send(b"\0")

        serving.serve(self.config, service, self._listeners[index], self.slots, index, ready)
        return 0


def _listen(path: str) -> socket.socket:
    if os.path.exists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(BACKLOG)
    return sock


def main(arguments: list[str]) -> int:
    """`--config FILE`; the exit status: 0 stopped, 1 the model cannot be served (failure.json says why), 2 misuse."""
    if len(arguments) != 2 or arguments[0] != "--config":
        sys.stderr.write("usage: slipway_host --config FILE\n")
        return 2
    with open(arguments[1], encoding="utf-8") as file:
        values = json.load(file)
    config = Config(values, os.environ)
    sys.argv[1:] = []  # not for user code that reads its arguments
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if values.get("multi_model"):
        from . import models  # noqa: PLC0415  a host of one model has no use for it

        return models.ModelParent(config, values, arguments).run()
    return Parent(config).run()
