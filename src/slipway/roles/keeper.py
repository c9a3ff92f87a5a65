"""The keeper process, `slipway up`: binds the public port, is parent of the roles and of every replica, and takes all along.

Built here in order, and nowhere else. No SQL, nothing long in its own loop. Its death ends roles and replicas (parent-death
signal, bubblewrap's); the next keeper kills what a dead one recorded and starts clean.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import os
import shlex
import signal
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from logging.handlers import RotatingFileHandler
from typing import Any

from slipway.backing.logs import Logs
from slipway.core.replicas import ReplicaState
from slipway.link.keeper import KeeperServer, KeeperStatus
from slipway.link.start import encode_start
from slipway.replicas.artifacts import Artifacts
from slipway.replicas.cgroups import Cgroups
from slipway.replicas.devices import Devices, find_devices
from slipway.replicas.environments import Environments
from slipway.replicas.keeper import Keeper
from slipway.replicas.launch import Tools
from slipway.replicas.sandbox import Sandbox, warning
from slipway.replicas.unpack import Bounds
from slipway.roles import place
from slipway.roles.events import Events
from slipway.roles.place import CannotStart
from slipway.roles.role_process import Role, RoleLog
from slipway.settings import Settings

__all__ = ["CannotStart", "run"]

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
"""Until both roles answer. A control waits for the lease of one that was killed, some seconds."""
_GATEWAY_STOP, _DISPATCHER_STOP, _CONTROL_STOP = 1.5, 1.5, 1.2
"""Seconds that a stopping role has; with the replicas' 2 s all is over within 5."""
MAX_TOLD = 1000
"""Different notes on the terminal: what more there are is in the logs of their endpoints."""

Announce = Callable[[str], None]


async def run(settings: Settings, *, announce: Announce) -> int:
    """Run until SIGINT or SIGTERM; the exit code. CannotStart before anything was started, or when a role will not run."""
    os.umask(0o022)
    locked = place.lock(settings.data_dir)
    try:
        place.make_run_dir(settings.run_dir)
        sock, settings = place.bind(settings)
        with sock:
            handlers = _log_to_file(settings)
            try:
                return await _Node(settings, sock).run(announce)
            finally:
                for handler in handlers:
                    logging.getLogger().removeHandler(handler)
                    handler.close()
                place.remove_run_dir(settings.run_dir)
    finally:
        os.close(locked)


class _Node:
    """Everything of one keeper, wired."""

    def __init__(self, settings: Settings, sock: socket.socket) -> None:
        self._settings = settings
        self._sock = sock
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._interrupts = 0
        self._answers = False
        self._announce: Announce = _silent
        self._builds: set[str] = set()
        self._told: set[str] = set()
        start = encode_start(settings, os.getpid())
        start_with_socket = encode_start(settings, os.getpid(), sock.fileno())
        self._control = self._role("control", "slipway.roles.control", lambda: start, ())
        self._gateways = [
            self._role(f"gateway-{n}" if n else "gateway", "slipway.roles.gateway", lambda: start_with_socket, (sock.fileno(),))
            for n in range(settings.gateways)
        ]
        self._dispatchers = [
            self._role(f"dispatcher-{n}" if n else "dispatcher", "slipway.roles.dispatcher", lambda: start, ())
            for n in range(settings.dispatchers)
        ]
        self._tools: Tools | None = None
        self._keeper: Keeper | None = None
        self._server: KeeperServer | None = None
        self._pids: dict[str, int] = {}

    def _role(self, name: str, module: str, start: Callable[[], bytes], fds: tuple[int, ...]) -> Role:
        log = RoleLog(name, f"{self._settings.logs_dir}/roles/{name}.log", self._to_terminal)
        return Role(name, module, start, fds, log, self._settings.run_dir)

    async def run(self, announce: Announce) -> int:
        self._announce = announce
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted)
        try:
            for role in (self._control, *self._gateways):
                role.start()
            await asyncio.sleep(0)  # they are under way before the sandbox is tried out
            tools = self._tools = _make_tools(self._settings)
            for note in _notes(tools):
                logger.info("less-than-there-could-be", extra={"note": note})
                announce(f"note: {note}")
            self._keeper = Keeper(tools)
            self._keeper.subscribe(self._remember)
            self._server = KeeperServer(self._settings.keeper_socket, self._keeper, self._status, self._keeper)
            await self._server.start()
            if await self._until_ready():
                self._answers = True
                for dispatcher in self._dispatchers:  # nobody waits for it: the first answer is not to be held up
                    dispatcher.start()
                    dispatcher.ready = True
                place.write_up_file(self._settings)
                announce(f"data in {self._settings.data_dir}")
                announce(
                    f"slipway answers at {self._settings.endpoint_url}; next, in another terminal: {_next(self._settings)}"
                )
                logger.info("ready", extra={"seconds": round(time.monotonic() - self._began, 3)})
                await self._stop.wait()
                announce("stopping (Ctrl-C again to kill)")
            return 0
        finally:
            await self._end()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _to_terminal(self, line: str) -> None:
        """Not while it starts: a role that cannot is tried several times, and its last words are told once."""
        if self._answers:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def _roles(self) -> list[Role]:
        return [self._control, *self._gateways, *self._dispatchers]

    def _interrupted(self) -> None:
        self._interrupts += 1
        self._stop.set()
        if self._interrupts > 1:
            self._kill()

    def _kill(self) -> None:
        for role in self._roles():
            role.kill()
        if self._keeper is not None:
            self._keeper.kill()

    async def _until_ready(self) -> bool:
        """True when both roles answer; False when a stop came first. CannotStart with a role's last words."""
        stopping = asyncio.create_task(self._stop.wait())
        answering = asyncio.create_task(self._both_answer())
        try:
            events: set[asyncio.Future[Any]] = {stopping, answering, *(role.died_early for role in self._roles())}
            await asyncio.wait(events, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                return False
            if answering.done():
                answering.result()
                return True
            for role in self._roles():
                if role.died_early.done():
                    said = role.log.tail[-1] if role.log.tail else "it said nothing"
                    log = f"{self._settings.logs_dir}/roles/{role.name}.log"
                    raise CannotStart(f"the {role.name} process ends at once: {said} (all of it in {log})")
            raise CannotStart(f"no answer within {START_SECONDS:.0f} s: see the logs in {self._settings.logs_dir}/roles")
        finally:
            stopping.cancel()
            answering.cancel()

    async def _both_answer(self) -> None:
        """Control by its own socket, and the gateway, which hands the same question on, by the public one.

        The gateway's is asked at the same time: it waits in the listening socket until a gateway takes it.
        """
        await asyncio.gather(self._control_answers(), self._gateway_answers())

    async def _control_answers(self) -> None:
        await _until_healthy(lambda: asyncio.open_unix_connection(self._settings.control_socket))
        self._control.ready = True

    async def _gateway_answers(self) -> None:
        host, port = self._sock.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound
        context = _any_certificate() if self._settings.tls_cert else None
        await _until_healthy(lambda: asyncio.open_connection(host, port, ssl=context))
        for gateway in self._gateways:
            gateway.ready = True

    def _remember(self, state: ReplicaState) -> None:
        """Keep each replica's pid on record while it runs."""
        if state.pid is not None and self._pids.get(state.id) != state.pid:
            self._pids[state.id] = state.pid
            place.record(self._settings.run_dir, state.pid)
        elif state.phase == "exited" and (pid := self._pids.pop(state.id, None)) is not None:
            place.forget(self._settings.run_dir, pid)
        self._tell_build(state.progress)
        self._tell_notes(state)

    def _tell_build(self, progress: str) -> None:
        """On the terminal, at its begin and its end: a build is what makes the first start of an image take so long."""
        line, _, step = progress.partition(": ")
        began = line.replace("built ", "building ", 1)
        if line.startswith("building ") and not step and line not in self._builds:
            self._builds.add(line)
            self._announce(f"{line} (once; `slipway status` shows its steps)")
        elif line.startswith("built ") and began in self._builds:
            self._builds.discard(began)
            self._announce(line)

    def _tell_notes(self, state: ReplicaState) -> None:
        """On the terminal too, once each: what runs is not quite what the image asks for."""
        for note in state.notes:
            if note not in self._told and len(self._told) < MAX_TOLD:
                self._told.add(note)
                self._announce(f"{state.owner.rsplit('/', 1)[-1]}: {note}")

    def _status(self) -> KeeperStatus:
        assert self._keeper is not None
        assert self._tools is not None
        return KeeperStatus(
            pid=os.getpid(),
            url=self._settings.endpoint_url,
            data_dir=self._settings.data_dir,
            uptime=time.monotonic() - self._began,
            roles=tuple(role.status() for role in self._roles()),
            replicas=tuple(self._keeper.list()),
            sandbox=self._tools.sandbox.name,
            notes=_notes(self._tools),
        )

    async def _end(self) -> None:
        """Gateways and dispatchers first (what is in flight may finish), then control, then replicas; each bounded."""
        if self._interrupts > 1:
            self._kill()
        await asyncio.gather(
            *(gateway.stop(_GATEWAY_STOP) for gateway in self._gateways),
            *(dispatcher.stop(_DISPATCHER_STOP) for dispatcher in self._dispatchers),
        )
        await self._control.stop(_CONTROL_STOP)
        if self._keeper is not None:
            await self._keeper.close(self._settings.stop_grace_seconds)
        if self._server is not None:
            await self._server.close()
        if self._tools is not None:
            self._tools.cgroups.close()
        place.remove_up_file(self._settings)


def _silent(line: str) -> None:
    """Nobody listens yet."""


def _next(settings: Settings) -> str:
    """What to type to reach this slipway from a shell."""
    default = os.path.join(os.path.expanduser("~"), ".slipway")
    where = "" if settings.data_dir == default else f" --data-dir {shlex.quote(settings.data_dir)}"
    return f'eval "$(slipway env{where})"'


def _make_tools(settings: Settings) -> Tools:
    """What replicas are made with; tries out sandbox and cgroups. CannotStart when a sandbox is required and there is none."""
    sandbox = Sandbox(None, False, reason="it is switched off", mend="start slipway without --sandbox off")
    if settings.sandbox != "off":
        sandbox = Sandbox.probe(f"{settings.run_dir}/etc")
    if settings.sandbox == "required" and sandbox.bwrap is None:
        raise CannotStart(f"a sandbox is required and cannot be had: {sandbox.reason}; {sandbox.mend}")
    name = f"slipway-{hashlib.sha256(settings.data_dir.encode()).hexdigest()[:10]}"
    Cgroups.probe(name).close()  # ends what a dead keeper of this data directory left running
    artifacts = Artifacts(
        f"{settings.data_dir}/artifacts",
        f"unix:{settings.control_socket}",
        settings.local_url.partition("://")[2],
        Bounds(settings.limits.archive_bytes, settings.limits.archive_entries, settings.limits.archive_ratio),
    )
    artifacts.open()
    place.clear_models(settings.data_dir)
    logs = Logs(settings.logs_dir)
    found = find_devices()
    return Tools(
        replicas_dir=f"{settings.run_dir}/r",
        host_package=_host_package(),
        sandbox=sandbox,
        cgroups=Cgroups.probe(name),
        artifacts=artifacts,
        environments=Environments(settings.cache_dir, gpu=bool(found)),
        devices=Devices(found, settings.gpu_sharing),
        open_log=lambda spec: logs.writer(spec.account, spec.region, spec.log_group, spec.log_stream),
        memory_bytes=settings.replica_memory_bytes,
        invoke_seconds=settings.limits.invoke_seconds,
        request_bytes=settings.limits.body_bytes,
        response_bytes=settings.limits.response_bytes,
        async_body_bytes=settings.limits.async_body_bytes,
        models_dir=f"{settings.data_dir}/models",
        model_share=settings.limits.model_memory_share,
        model_load_seconds=settings.limits.model_load_seconds,
    )


def _notes(tools: Tools) -> tuple[str, ...]:
    notes = []
    if tools.sandbox.bwrap is None:
        notes.append(warning(tools.sandbox))
    if not tools.cgroups.version:
        notes.append("no cgroups: a model's memory is limited for each of its processes alone (`slipway doctor` tells why)")
    return tuple(notes)


def _host_package() -> str:
    """The folder of slipway_host, which is started by path and never imported here."""
    spec = importlib.util.find_spec("slipway_host")
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart("the package slipway-host is not installed: install slipway again")
    return os.path.realpath(next(iter(spec.submodule_search_locations)))


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _until_healthy(connect: Callable[[], Awaitable[Connection]]) -> None:
    while not await _healthy(connect):  # noqa: ASYNC110  another process's readiness can only be asked for
        await asyncio.sleep(0.01)


async def _healthy(connect: Callable[[], Awaitable[Connection]]) -> bool:
    """One `GET /_slipway/health`; True for 200."""
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await connect()
            try:
                writer.write(b"GET /_slipway/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return line.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


def _any_certificate() -> ssl.SSLContext:
    """We only ask whether our own gateway answers; whose name is on the certificate does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _log_to_file(settings: Settings) -> list[logging.Handler]:
    """The keeper's own log beside its roles', warnings on the terminal too."""
    os.makedirs(f"{settings.logs_dir}/roles", mode=0o700, exist_ok=True)
    file = RotatingFileHandler(f"{settings.logs_dir}/roles/keeper.log", maxBytes=10 * 1024 * 1024, backupCount=1)
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [file, terminal]
    for handler in handlers:
        handler.setFormatter(Events("keeper"))
        logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(settings.log_level.upper())
    return handlers
