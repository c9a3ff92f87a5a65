"""The parent of a server that is not ours (a directory image): starts it, leads requests to its port, and says why it failed.

Beside the server, in the same sandbox and network namespace: `<python> __main__.py --container --config FILE`. SIGTERM goes to
the server itself; its end is ours, with the same status. Contract: containers.md 1.1 to 1.4 and 1.7.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from typing import Any

from . import guard
from .connector import Connector
from .entry import Obstacle, obstacle
from .failures import Report, tell, write
from .listeners import Listener, listeners

PING_SECONDS = 2.0
HINT_SECONDS = 5.0
"""After so long without a good ping the log says once where the server listens instead."""
MAX_HEAD = 16 * 1024
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NOT_OK = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores for itself, and that a child of it would go on ignoring."""


class Config:
    """config.json."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.command: list[str] = list(values["command"])
        self.folder = str(values["folder"])
        """The server's working directory."""
        self.port = int(values["port"])
        self.own_network = bool(values["own_network"])
        self.start_seconds = float(values["start_seconds"])
        self.sockets: list[int] = list(values["sockets"])
        """Listening: the one for pings, and the one for requests."""
        self.report = int(values["report"])
        self.run_dir = str(values.get("run_dir", ""))
        self.sandboxed = bool(values.get("sandboxed", True))


class Server:
    """What pings found out of the server."""

    def __init__(self, config: Config, pid: int) -> None:
        self.config = config
        self.pid = pid
        self.good = threading.Event()
        """It has answered a ping with 200."""
        self.trouble = "refused"
        """What became of the last ping: refused, loopback, silent, garbage, or a status."""

    def ping(self) -> bool:
        """GET /ping, within PING_SECONDS."""
        try:
            with socket.create_connection(("127.0.0.1", self.config.port), PING_SECONDS) as sock:
                self.trouble = _ping(sock, self.config.port)
        except ConnectionRefusedError:
            self.trouble = "refused"
        except OSError:
            self.trouble = "silent"
        if not self.good.is_set() and self._only_loopback():  # after the ping: one that was answered has its listener open
            self.trouble = "loopback"
        if self.trouble == "200":
            self.good.set()
        return self.trouble == "200"

    def _only_loopback(self) -> bool:
        """On AWS requests come from outside the container: a server that listens on its loopback alone never gets one."""
        if not self.config.own_network:
            return False
        here = [each for each in self._listeners() if each.port == self.config.port]
        return bool(here) and all(each.loopback for each in here)

    def _listeners(self) -> list[Listener]:
        return listeners(self.pid, everyone=self.config.own_network)

    def explain(self) -> Obstacle:
        """Why there is no good ping, and what to do."""
        port = self.config.port
        if self.trouble == "refused":
            return self._explain_refused()
        if self.trouble == "loopback":
            return Obstacle(
                f"Its server listens on 127.0.0.1:{port} alone; on AWS it would never get a request.",
                f"listen on 0.0.0.0:{port}",
            )
        if self.trouble == "silent":
            message = f"Its server takes connections on port {port}, but does not answer GET /ping within {PING_SECONDS:g} s."
            return Obstacle(message, "answer /ping at once, also while the model loads or other requests run")
        if self.trouble == "garbage":
            message = f"What listens on port {port} does not answer GET /ping in HTTP/1.1."
            return Obstacle(message, "serve plain HTTP/1.1 there")
        return Obstacle(
            f"Its server answers GET /ping with status {self.trouble}.", "answer /ping with 200 once the model is loaded"
        )

    def _explain_refused(self) -> Obstacle:
        port = self.config.port
        found = self._listeners()
        if any(each.port == port for each in found):
            where = ", ".join(str(each) for each in found)
            return Obstacle(f"Its server listens on {where}, not on IPv4.", f"listen on 0.0.0.0:{port}")
        if not found:
            message = f"Its process runs, but listens on no TCP port (GET /ping goes to port {port})."
            return Obstacle(message, f"let `serve` start an HTTP server on 0.0.0.0:{port}")
        where = ", ".join(str(each) for each in found)
        if self.config.own_network:
            return Obstacle(f"Its server listens on {where}, not on port {port}.", f"listen on 0.0.0.0:{port}")
        mend = "listen on the port in SAGEMAKER_BIND_TO_PORT"
        if not self.config.sandboxed:
            mend += ", or install bubblewrap: in a sandbox every container has a port 8080 of its own"
        message = f"Its server listens on {where}, not on port {port}, which SAGEMAKER_BIND_TO_PORT names."
        return Obstacle(message, mend)


def _ping(sock: socket.socket, port: int) -> str:
    """The status, `silent` or `garbage`."""
    deadline = time.monotonic() + PING_SECONDS
    sock.sendall(f"GET /ping HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
    head = b""
    while b"\n" not in head and len(head) < 256:
        left = deadline - time.monotonic()
        if left <= 0:
            return "silent"
        sock.settimeout(left)
        data = sock.recv(4096)
        if not data:
            return "garbage"
        head += data
    words = head.split(b"\n", 1)[0].split()
    good = len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1].isdigit() and len(words[1]) == 3
    return words[1].decode() if good else "garbage"


def answer_pings(listener: socket.socket, server: Server) -> None:
    """For ever, one at a time: only the keeper asks."""
    listener.settimeout(None)
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            peer.settimeout(PING_SECONDS)
            try:
                head = b""
                while b"\r\n\r\n" not in head and len(head) < MAX_HEAD and (data := peer.recv(4096)):
                    head += data
                peer.sendall(_OK if server.ping() else _NOT_OK)
            except OSError:
                continue


class Container:
    """One server, from its start to its end. `run` returns our exit status."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._selector = selectors.DefaultSelector()
        self._pings, self._requests = (socket.socket(fileno=fd) for fd in config.sockets)
        self._stopping = False
        self._pid = 0

    def run(self) -> int:
        """Start it, serve until it ends."""
        config = self.config
        if found := obstacle(config.command[0], os.environ.get("PATH", os.defpath), config.folder):
            return self._give_up("no-serve", found)
        receive, send = socket.socketpair()
        receive.setblocking(False)
        send.setblocking(False)
        signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        try:
            self._pid = start(config)
        except OSError as error:
            return self._give_up(
                "no-serve", Obstacle(f"{config.command[0]} cannot be started: {error.strerror}.", "correct it")
            )
        if self._stopping:
            os.kill(self._pid, signal.SIGTERM)
        server = Server(config, self._pid)
        threading.Thread(target=answer_pings, args=(self._pings, server), daemon=True).start()
        self._selector.register(receive, selectors.EVENT_READ, lambda _events: _drain(receive))
        connector = Connector(self._selector, self._requests, config.port)
        status = self._serve(server)
        connector.close()
        return self._end(server, status)

    def _serve(self, server: Server) -> int | None:
        """Until the server ends (its wait status), or its time to start is over (None)."""
        began = time.monotonic()
        hinted = False
        while True:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                return status
            wait = None
            if not server.good.is_set():
                waited = time.monotonic() - began
                if waited >= self.config.start_seconds and not self._stopping:
                    return None
                if waited >= HINT_SECONDS and not hinted:
                    hinted = True
                    _say(f"no good answer to GET /ping yet: {server.explain().message}")
                wait = max(0.01, min(HINT_SECONDS - waited if not hinted else 1.0, self.config.start_seconds - waited))
            for key, events in self._selector.select(wait):
                key.data(events)

    def _end(self, server: Server, status: int | None) -> int:
        if status is None:
            found = server.explain()
            limit = f"The container did not answer GET /ping with 200 within {self.config.start_seconds:g} seconds. "
            self._kill_rest()
            return self._give_up("no-ping", Obstacle(limit + found.message, found.mend))
        self._kill_rest()
        if self._stopping:
            return 0
        code = os.waitstatus_to_exitcode(status)
        when = "while it served" if server.good.is_set() else "while it started"
        if code == 0:
            message = f"The container's command ended {when}, with exit code 0."
            return self._give_up(
                "exited", Obstacle(message, "let `serve` stay in the foreground until it gets SIGTERM"), code or 1
            )
        if code == 127 and not server.good.is_set():
            message = "The container exited while it started with exit code 127: a program that it starts was not found."
            mend = (
                "its last lines name the program; the image sees its folder, its Python environment (--requirements) and /usr"
            )
            return self._give_up("exited", Obstacle(message, mend), code)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
            os.kill(os.getpid(), -code)
            return 128 - code
        return code

    def _give_up(self, kind: str, found: Obstacle, code: int = 1) -> int:
        report = Report(kind, found.message, found.mend, [])
        tell(report)
        write(report, self.config.run_dir, self.config.report)
        return code

    def _stop(self, _number: int, _frame: Any) -> None:
        """SIGTERM to the server alone: what it started is its own affair (containers.md 1.7)."""
        self._stopping = True
        if self._pid:
            try:
                os.kill(self._pid, signal.SIGTERM)
            except ProcessLookupError:
                return

    def _kill_rest(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def start(config: Config) -> int:
    """The server's pid: in a process group of its own, with none of our descriptors. OSError when it cannot be executed."""
    told_read, told_write = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        _become(config, told_write)
    os.close(told_write)
    try:
        data = os.read(told_read, 16)
    finally:
        os.close(told_read)
    if data:
        os.waitpid(pid, 0)
        raise OSError(int(data), os.strerror(int(data)))
    return pid


def _become(config: Config, told: int) -> None:
    """In the child: never returns."""
    code = 0
    try:
        os.setpgid(0, 0)
        guard.die_with_parent()
        guard.no_new_privileges()
        for number in (*_IGNORED, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.closerange(3, told)
        os.closerange(told + 1, 4096)
        os.chdir(config.folder)
        os.execvp(config.command[0], config.command)  # noqa: S606  that is what it is for
    except OSError as error:
        code = error.errno or 1
    os.write(told, str(code).encode())
    os._exit(1)


def _drain(receive: socket.socket) -> None:
    try:
        receive.recv(4096)
    except BlockingIOError:
        return


def _say(text: str) -> None:
    sys.stderr.write(f"[slipway] {text}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """`--config FILE`; the exit status is the server's."""
    if len(arguments) != 2 or arguments[0] != "--config":
        sys.stderr.write("usage: slipway_host --container --config FILE\n")
        return 2
    with open(arguments[1], encoding="utf-8") as file:
        config = Config(json.load(file))
    guard.die_with_parent()
    return Container(config).run()
