"""The parent of many models: a process for each, forked from here, where the framework is imported already.

So a model's memory is its process's own and is free when that ends, a crash or a hang is its own too, and a load can be given
up. Requests do not come through here: a connection says at its head which model it is for (`models_door`), and is handed to
that model's process. Which models are loaded is the platform's decision (containers.md 5.2).
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import select
import signal
import socket
import sys
import time
from typing import Any, Callable, NamedTuple

from . import crew, guard, memory, models_process, slots, unwanted
from .models_door import Door
from .models_process import CHANNEL_BYTES, run_model
from .parent import Config, prepare_environment

MODELS_DIR = "/opt/ml/models"
MOST = 4000
"""Models at a time; a container may have 4,096 processes."""
UNLOAD_SECONDS = 3.0
"""How long an idle model's process may take to end. A request that runs may go on until its own time is over."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FRAMEWORKS: dict[str, tuple[str, ...]] = {
    "sklearn": ("numpy", "joblib", "sklearn", "sklearn.linear_model", "sklearn.ensemble", "sklearn.pipeline", "sklearn.svm"),
    "xgboost": ("numpy", "scipy.sparse", "xgboost"),
    "pytorch": ("numpy", "torch"),
    "huggingface": ("numpy", "torch", "transformers"),
}
"""What is imported before the first model, beside the flavour's own module."""
_NEVER_SHARED = ("tensorflow",)
"""Their threads do not survive a fork."""
_APART = "SLIPWAY_IMPORT_APART"

LOADING, LOADED, LEAVING = "loading", "loaded", "leaving"


class Outcome(NamedTuple):
    """What became of a request to load or unload: an HTTP status and a JSON body."""

    status: int
    body: dict[str, Any]


Told = Callable[[Outcome], None]


class Model:
    """One model and its process."""

    def __init__(self, name: str, url: str, slot: int) -> None:
        self.name = name
        self.url = url
        self.slot = slot
        self.pid = 0
        self.channel: socket.socket | None = None
        """Connections go over it to the model's process, and its word on the load comes back."""
        self.state = LOADING
        self.loading: list[Told] = []
        self.leaving: list[Told] = []
        self.kill_at = 0.0


def failed(status: int, message: str) -> Outcome:
    """As MMS says it."""
    kinds = {400: "BadRequestException", 404: "ModelNotFoundException", 409: "ConflictStatusException"}
    kinds[507] = "OutOfMemory"
    return Outcome(status, {"code": status, "type": kinds.get(status, "InternalServerException"), "message": message})


class ModelParent:
    """One replica of a multi-model container. `run` returns the exit status."""

    def __init__(self, config: Config, values: dict[str, Any], arguments: list[str]) -> None:
        """`values`: config.json; beside `Config`'s: `models_dir`, `model_bytes` (most that one model may take; 0: unbounded).
        `arguments`: of the command line."""
        self.config = config
        self._arguments = arguments
        self.models_dir = os.path.realpath(str(values.get("models_dir") or MODELS_DIR))
        self.model_bytes = int(values.get("model_bytes") or 0)
        self.models: dict[str, Model] = {}
        self.slots = slots.Slots(MOST)
        self.uses = memoryview(mmap.mmap(-1, MOST * models_process.WIDTH * 8)).cast("d")
        """What models count, as `models_process` says."""
        self.unwanted = unwanted.Unwanted(self.slots, config.grace_seconds)
        self._free = list(range(MOST - 1, -1, -1))
        self._pids: dict[int, Model] = {}
        self._poller = select.poll()
        self._channels: dict[int, Model] = {}
        self._news_receive, self._news_send = socket.socketpair()
        self._stopping = False
        self._oom_kills = 0
        self._pid = os.getpid()
        self.door = Door(self, self._poller)

    def run(self) -> int:
        config = self.config
        sockets = [socket.socket(fileno=descriptor) for descriptor in config.sockets]
        if config.report is not None:
            os.set_inheritable(config.report, False)
        for sock in sockets:
            sock.set_inheritable(False)
        guard.drop(config.uid, config.gid)
        if config.die_with_parent:
            guard.die_with_parent()
        guard.no_new_privileges()
        for name in _ONE_THREAD:
            os.environ.setdefault(name, "1")
        prepare_environment(config, os.environ)
        self._import()
        guard.watch_signals(self._news_receive, self._news_send, self._stop)
        self._poller.register(self._news_receive.fileno(), select.POLLIN)
        self._oom_kills = memory.kills()
        for sock in sockets:
            self.door.listen(sock)
        self._loop()
        self._end()
        return 0

    def _import(self) -> None:
        """The framework, once for all models. One that starts threads cannot be shared by forking: then each imports it."""
        flavour = self.config.flavour
        if os.environ.get(_APART) or flavour in _NEVER_SHARED:
            return
        for name in ("slipway_host.serving", *_FRAMEWORKS.get(flavour, ()), f"slipway_host.flavours.{flavour}"):
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001  a model that needs it will say so; others may not
                crew.log(f"{name} could not be imported beforehand: {type(error).__name__}: {error}")
        if not guard.single_threaded():
            self._begin_apart()
        gc.collect()
        gc.freeze()

    def _begin_apart(self) -> None:
        """Become this program anew, and import nothing. Does not return."""
        crew.log("the framework starts threads of its own: each model's process imports it for itself")
        for descriptor in (*self.config.sockets, self.config.report):
            if descriptor is not None:
                os.set_inheritable(descriptor, True)
        os.environ[_APART] = "1"
        entry = os.path.join(os.path.dirname(__file__), "__main__.py")
        os.execv(sys.executable, [sys.executable, entry, *self._arguments])  # noqa: S606  ourselves

    def _loop(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            wait = min(self.unwanted.look(now), self._tend(now))
            for descriptor, _event in self._poller.poll(max(1, int(wait * 1000))):
                if descriptor == self._news_receive.fileno():
                    self._news_receive.recv(4096)
                elif descriptor in self._channels:
                    self._hear(self._channels[descriptor])
                else:
                    self.door.handle(descriptor)
            self._reap()

    def _stop(self, _number: int, _frame: Any) -> None:
        self._stopping = True

    def _end(self) -> None:
        """SIGTERM to all; SIGKILL to those that are left after the time to stop."""
        self.door.close()
        self._signal(signal.SIGTERM)
        end = time.monotonic() + self.config.stop_seconds
        while self._pids and time.monotonic() < end:
            self._reap()
            time.sleep(0.005)
        self._signal(signal.SIGKILL)
        while self._pids:
            self._reap()
            time.sleep(0.002)

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            os.kill(pid, number)

    # ---- what the platform asks

    def load(self, name: str, url: str, told: Told) -> None:
        """Begin to load it; `told` hears the end. 409: it is there already."""
        known = self.models.get(name)
        if known is not None and known.state == LOADED:
            told(failed(409, f"Model {name} is already loaded."))
            return
        if known is not None and known.state == LOADING:
            known.loading.append(told)
            return
        if known is not None:
            known.leaving.append(lambda _outcome: self.load(name, url, told))
            return
        real = os.path.realpath(url)
        if not real.startswith(self.models_dir + "/") or not os.path.isdir(real):
            told(failed(400, f"There is no model folder {url}."))
        elif not self._free:
            told(failed(507, f"{MOST} models are loaded."))
        else:
            model = Model(name, real, self._free.pop())
            model.loading.append(told)
            self.models[name] = model
            self._fork(model)

    def unload(self, name: str, told: Told) -> None:
        """`told` when its memory is free. 404: it is not loaded."""
        model = self.models.get(name)
        if model is None:
            told(failed(404, f"Model {name} is not loaded."))
            return
        model.leaving.append(told)
        if model.state != LEAVING:
            was, model.state = model.state, LEAVING
            model.kill_at = time.monotonic() + (UNLOAD_SECONDS if was == LOADED else 0.0)
            os.kill(model.pid, signal.SIGTERM if was == LOADED else signal.SIGKILL)

    def seen(self, model: Model) -> dict[str, Any]:
        """A row of GET /models; beside the contract's members what the platform decides by."""
        base = model.slot * models_process.WIDTH
        cells = self.uses
        return {
            "modelName": model.name,
            "modelUrl": model.url,
            "bytes": int(cells[base + models_process.BYTES]),
            "uses": int(cells[base + models_process.USES]),
            "used": cells[base + models_process.USED],
            "busy": self.slots.deadline(model.slot) != 0.0,
        }

    def pass_on(self, name: str, sock: socket.socket, begun: bytes) -> bool:
        """Hand a connection, of which `begun` has been read, to the model's process. False: it is not loaded."""
        model = self.models.get(name)
        if model is None or model.state != LOADED or model.channel is None:
            return False
        try:
            socket.send_fds(model.channel, [begun or b"\0"], [sock.fileno()])
        except OSError:  # it ends at this moment, or has not taken any for long
            return False
        return True

    def abandon(self, name: str, request: int) -> None:
        model = self.models.get(name)
        if model is not None:
            self.unwanted.add(model.slot, request)

    # ---- processes

    def _fork(self, model: Model) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.slots.clear(model.slot)
        base = model.slot * slots.WIDTH
        for cell in range(slots.WIDTH):
            self.slots.cells[base + cell] = 0.0
        for cell in range(models_process.WIDTH):
            self.uses[model.slot * models_process.WIDTH + cell] = 0.0
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(model, here, there)
        there.close()
        here.setblocking(False)
        model.pid, model.channel = pid, here
        self._pids[pid] = model
        self._channels[here.fileno()] = model
        self._poller.register(here.fileno(), select.POLLIN)

    def _become(self, model: Model, here: socket.socket, there: socket.socket) -> None:
        """In the child: never returns."""
        status = 1
        try:
            guard.become_child(self._pid)
            here.close()
            self._news_receive.close()
            self._news_send.close()
            self.door.forget()
            for other in self.models.values():
                if other.channel is not None:
                    other.channel.close()
            status = run_model(self.config, model.url, model.name, there, self.slots, self.uses, model.slot, self.model_bytes)
        except BaseException:  # noqa: BLE001  whatever it is, the child must not go on as its parent
            sys.excepthook(*sys.exc_info())
        crew.leave(status)

    def _hear(self, model: Model) -> None:
        """The process's word: the model is loaded, or why not."""
        channel = model.channel
        if channel is None:
            return
        try:
            data = channel.recv(CHANNEL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._deaf(model)
            return
        try:
            told = json.loads(data)
            status, message = int(told["status"]), str(told.get("message", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # it is not our code that speaks there
        if status == 200:
            if model.state == LOADING:
                model.state = LOADED
            self._tell(model, Outcome(200, {"status": f"Model {model.name} is loaded.", **self.seen(model)}))
        elif model.state == LOADING:
            model.state, model.kill_at = LEAVING, time.monotonic() + UNLOAD_SECONDS
            outcome = failed(status, message)
            if told.get("alone"):
                outcome.body["alone"] = True
            self._tell(model, outcome)

    def _tell(self, model: Model, outcome: Outcome) -> None:
        waiting, model.loading = model.loading, []
        for told in waiting:
            told(outcome)

    def _deaf(self, model: Model) -> None:
        if model.channel is not None:
            descriptor = model.channel.fileno()
            self._poller.unregister(descriptor)
            self._channels.pop(descriptor, None)
            model.channel.close()
            model.channel = None

    def _reap(self) -> None:
        while self._pids or self._pid == 1:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            model = self._pids.pop(pid, None)
            if model is not None:
                self._gone(model, status)

    def _gone(self, model: Model, status: int) -> None:
        if model.channel is not None and model.state == LOADING:
            self._hear(model)  # its last word, if there was one
        self._deaf(model)
        self.slots.clear(model.slot)
        self._free.append(model.slot)
        self.models.pop(model.name, None)
        if model.state == LEAVING:
            self._tell(model, failed(500, f"Model {model.name} was unloaded while it was loading."))
        elif model.state == LOADED and not self._stopping:
            crew.log(f"the process of model {model.name} ended ({crew.describe(status)})")
        if model.loading:
            kills = memory.kills()
            oom, self._oom_kills = kills > self._oom_kills, kills
            if oom:
                self._tell(model, failed(507, "The model does not fit into the container's memory: the kernel ended its load."))
            else:
                self._tell(model, failed(500, f"The process that loaded the model ended ({crew.describe(status)})."))
        waiting, model.leaving = model.leaving, []
        for told in waiting:
            told(Outcome(200, {"status": f"Model {model.name} is unloaded."}))

    def _tend(self, now: float) -> float:
        """Kill what hangs; seconds until this is worth calling again."""
        wake = now + crew.LOOK
        for model in self.models.values():
            deadline = self.slots.deadline(model.slot)
            late = bool(deadline) and deadline <= now
            if model.state == LEAVING and not deadline:
                if model.kill_at <= now:
                    os.kill(model.pid, signal.SIGKILL)
                else:
                    wake = min(wake, model.kill_at)
            elif late or self.slots.condemned(model.slot):
                why = "did not end its request in time" if late else "went on with a request that nobody waits for"
                crew.log(f"model {model.name} (process {model.pid}) {why}: killed")
                os.kill(model.pid, signal.SIGKILL)
            elif deadline:
                wake = min(wake, deadline)
        return max(0.0, wake - now)
