"""What the process of one model does: load it, say so, and serve the connections that the parent hands over."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import struct
import sys
import time
import traceback
from typing import Any

from . import crew, flavours, frames, memory, models_requirements, serving, slots
from .contract import Place
from .parent import Config
from .service import Answer, Service
from .worker import SEND_SECONDS, FrameConnection, HttpConnection, Limits, Worker

CHANNEL_BYTES = 64 * 1024
_LINGER_SECONDS = 1.0
"""After BYE: until clients have closed their connections."""
_MEASURE_SECONDS = 5.0
"""Between two looks at the process's memory, which may grow while it serves."""
USED, USES, BYTES, WIDTH = 0, 1, 2, 4
"""Cells of a model that the parent reads: when it was last used (monotonic), how often, and its memory."""
_PRIVATE = re.compile(r"^(?:Private_Clean|Private_Dirty|Private_Hugetlb|SwapPss):\s+(\d+) kB", re.MULTILINE)


def private_bytes() -> int:
    """Memory that would be free if this process ended: what it does not share with the one it was forked from."""
    found = _PRIVATE.findall(memory.read("/proc/self/smaps_rollup"))
    if found:
        return sum(map(int, found)) * 1024
    words = memory.read("/proc/self/statm").split()
    return (int(words[1]) - int(words[2])) * resource.getpagesize() if len(words) > 2 else 0


def run_model(
    config: Config,
    url: str,
    name: str,
    channel: socket.socket,
    shared: slots.Slots,
    uses: memoryview[float],
    slot: int,
    model_bytes: int,
) -> int:
    """In the forked process: its exit status."""
    _first_to_go(True)
    bound = _bound(model_bytes)
    shared.enter(slot, slots.LOADING, os.getpid())
    service = _load(config, url, name, channel, model_bytes)
    if service is None:
        return 1
    if bound is not None:
        resource.setrlimit(resource.RLIMIT_DATA, bound)
    counts = slot * WIDTH
    uses[counts + BYTES] = float(private_bytes())
    uses[counts + USED] = time.monotonic()
    _count(service, uses, counts)
    _first_to_go(False)
    limits = serving.limits_of(config)
    worker = ModelWorker(name, channel, service, shared.cells, slot * slots.WIDTH, limits)

    def ready() -> None:
        shared.enter(slot, slots.READY, os.getpid())
        channel.send(json.dumps({"status": 200}).encode())

    worker.run(ready)
    return 0


def _first_to_go(on: bool) -> None:
    """While it loads, a process whose memory nobody knows is what the kernel ends first when the container's is full."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000" if on else "0")
    except OSError:
        return


def _bound(model_bytes: int) -> tuple[int, int] | None:
    """Bound the process's data while it loads, so that one model that is too large fails by itself; the limits before."""
    if not model_bytes:
        return None
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = model_bytes + _data_bytes()
    if before[0] != resource.RLIM_INFINITY:
        most = min(most, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    return before


def _data_bytes() -> int:
    """What this process has at its start, the framework's part."""
    words = memory.read("/proc/self/statm").split()
    return int(words[5]) * resource.getpagesize() if len(words) > 5 else 0


def _load(config: Config, url: str, name: str, channel: socket.socket, model_bytes: int) -> Service | None:
    """The loaded model; None after a failure, which has been told to the parent and to the log.

    A 507 is `alone`: it is the process's own bound that was met, whatever else is loaded.
    """
    os.environ["SM_MODEL_DIR"] = url
    if os.path.basename(url) == "model":
        os.environ["SAGEMAKER_BASE_DIR"] = os.path.dirname(url)
    place = Place(url, config.code_dir, os.environ)
    lacking = "; ".join(models_requirements.unmet(url))
    if lacking:
        crew.log(f"model {name}: its requirements.txt is not installed, and is not met: {lacking}. {models_requirements.MEND}")
    sys.path.append(os.path.join(os.path.dirname(__file__), "shims"))
    try:
        os.chdir(url)
        return flavours.load(config.flavour, place)
    except BaseException as error:  # noqa: BLE001  whatever stops a model from loading is explained, never passed on
        if isinstance(error, MemoryError):
            traceback.clear_frames(error.__traceback__)
        resource.setrlimit(resource.RLIMIT_DATA, (resource.getrlimit(resource.RLIMIT_DATA)[1],) * 2)
        from . import failures  # noqa: PLC0415  what explains failures is not part of a start that succeeds

        report = failures.explain(error, place)
        if "requirements.txt" in report.mend:
            report = report._replace(mend=f"{models_requirements.MEND}; or put the module into code/")
        too_large = report.kind == "out-of-memory"
        if too_large:
            room = f"models of this instance may take {model_bytes >> 20} MiB together: " if model_bytes else ""
            report = report._replace(mend=f"{room}choose an instance type with more memory, or a smaller model")
        failures.tell(report)
        message = f"{_sentence(report.message)} {_sentence(report.mend)}".strip()
        if lacking:
            message += f" The model's requirements.txt is not met: {lacking}."
        told = {"status": 507 if too_large else 500, "message": message[:4000], "alone": too_large}
        channel.send(json.dumps(told).encode())
        return None


def _sentence(text: str) -> str:
    """With a capital letter, unless it begins with a name (`model_fn`), and a full stop."""
    if re.match(r"[a-z]+[ ,]", text):
        text = text[0].upper() + text[1:]
    return text if not text or text[-1] in ".!?:" else f"{text}."


def _count(service: Service, cells: memoryview[float], base: int) -> None:
    """Let the model count its requests, and now and then its memory, where the parent can see it."""
    invoke, clock, used, uses = service.invoke, time.monotonic, base + USED, base + USES
    due = [clock() + 1.0]

    def counted(call: Any, body: bytes) -> Answer:
        try:
            return invoke(call, body)
        finally:
            now = cells[used] = clock()
            cells[uses] += 1.0
            if now >= due[0]:
                due[0] = now + _MEASURE_SECONDS
                cells[base + BYTES] = float(private_bytes())

    service.invoke = counted  # type: ignore[method-assign]


class ModelWorker(Worker):
    """A worker whose connections come from the parent, and which says good-bye before it goes."""

    def __init__(
        self, name: str, channel: socket.socket, service: Service, cells: memoryview[float], base: int, limits: Limits
    ) -> None:
        super().__init__(channel, service, cells, base, limits)
        self.invoke_path = f"/models/{name}/invoke"
        self._open: dict[int, tuple[socket.socket, bool]] = {}
        """Descriptor to connection, and whether it speaks frames."""

    def _accept(self) -> None:
        """One more connection, with what the parent has read of it."""
        try:
            begun, descriptors, _flags, _address = socket.recv_fds(self.listener, CHANNEL_BYTES, 4)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            begun, descriptors = b"", []
        if not begun and not descriptors:
            self.stopping = True  # the parent is gone
            return
        for descriptor in descriptors:
            self._take(socket.socket(fileno=descriptor), begun)

    def _take(self, sock: socket.socket, begun: bytes) -> None:
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))
        framed = begun[:1] == b"\0"
        connection: Any = FrameConnection(self, sock) if framed else HttpConnection(self, sock)
        self._open[sock.fileno()] = (sock, framed)
        self.add(sock, connection.readable)
        connection.begin(begun)

    def remove(self, sock: socket.socket) -> None:
        self._open.pop(sock.fileno(), None)
        super().remove(sock)

    def part(self) -> None:
        """After SIGTERM: what comes on a connection is told to go elsewhere, until the other side has closed it."""
        self.remove(self.listener)
        for sock, framed in list(self._open.values()):
            try:
                if framed:
                    sock.sendall(frames.pack(frames.BYE, 0))
            except OSError:
                self.remove(sock)
        end = time.monotonic() + _LINGER_SECONDS
        while any(framed for _, framed in self._open.values()) and (left := end - time.monotonic()) > 0:
            for descriptor, _event in self._poller.poll(left):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
        for sock, _ in list(self._open.values()):
            self.remove(sock)
