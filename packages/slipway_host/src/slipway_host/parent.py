"""The parent of a replica's workers: small, without any framework; answers `/ping`, forks, replaces and stops workers.

Who loads the model: with one worker, the worker. With several, the first child loads it and, if that left it with a single
thread, stays and forks all workers, which share its memory and are replaced at once; otherwise it becomes worker 0 and each
other worker loads for itself. The listening sockets belong to the parent, so a worker's address outlives the worker.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Callable

from . import crew, frames, guard, memory, pings, slots, unwanted

STOP_SECONDS = 1.5
"""How long a running request may go on after SIGTERM."""
BACKLOG = 1024
MODEL_DIR = "/opt/ml/model"
DEFAULT_REQUEST_BYTES = 2 * 1024**3
DEFAULT_RESPONSE_BYTES = 1024**3
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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

        service = serving.load(self.config)
        if service is None:
            self.slots.enter(index, slots.TOLD, os.getpid())
            return 1
        gc.freeze()
        if index == 0 and self.config.workers > 1:
            if guard.single_threaded():
                self.slots.sharing = slots.SHARED
                return self._share(lambda number: self._serve(number, service))
            self.slots.sharing = slots.SEPARATE
            self._news_send.send(b"\0")
        return self._serve(index, service)

    def _share(self, serve: Callable[[int], int]) -> int:
        """Keep the loaded model, and fork workers from it until SIGTERM."""
        receive, send = socket.socketpair()
        stopped: list[bool] = []
        owner = os.getpid()

        def work(index: int) -> int:
            become_child(owner)
            receive.close()
            return serve(index)

        workers = crew.Crew(work, self.slots, watch=True)
        watch_signals(receive, send, lambda _number, _frame: stopped.append(True))
        for index in range(self.config.workers):
            self.slots.clear(index)
            workers.start(index)
        poller = select.poll()
        poller.register(receive.fileno(), select.POLLIN)
        while not stopped:
            wait = workers.tend(time.monotonic())
            if poller.poll(max(1, int(wait * 1000))):
                receive.recv(4096)
            for index, status in workers.reap():
                self.slots.clear(index)
                if not stopped:
                    crew.log(f"worker {index} ended ({describe(status)}); a new one takes its place")
                    workers.replace(index, time.monotonic())
        workers.stop(self.config.stop_seconds)
        return 0

    def _serve(self, index: int, service: Any) -> int:
        from . import serving  # noqa: PLC0415  see _child

        for other, listener in enumerate(self._listeners):
            if other != index:
                listener.close()

        def ready() -> None:
            self.slots.enter(index, slots.READY, os.getpid())
            self._news_send.send(b"\0")

        serving.serve(self.config, service, self._listeners[index], self.slots.cells, index * slots.WIDTH, ready)
        return 0


def become_child(parent: int) -> None:
    """First lines of a forked child: dies with its parent, and takes signals like a plain process again."""
    guard.die_with_parent(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, _ignore)  # the parent decides; a handler, unlike SIG_IGN, is not passed on to programs


def _ignore(_number: int, _frame: Any) -> None:
    """Nothing: the signal only wakes what waits."""


def watch_signals(receive: socket.socket, send: socket.socket, on_stop: Callable[[int, Any], None]) -> None:
    """SIGTERM and SIGINT call `on_stop`; these and SIGCHLD make `receive` readable."""
    receive.setblocking(False)
    send.setblocking(False)
    signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)


def describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"status {os.WEXITSTATUS(status)}"


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
        config = Config(json.load(file), os.environ)
    sys.argv[1:] = []  # not for user code that reads its arguments
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return Parent(config).run()
