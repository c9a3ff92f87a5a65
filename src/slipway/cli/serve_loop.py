"""What `slipway serve` does while it runs: a host, an HTTP front on loopback, and an eye on the model's files."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.cli.options import UsageError
from slipway.http.client import ConnectFailed, NoAnswer, Pool
from slipway.http.messages import BodyTooLarge, ClientGone, Request, Response
from slipway.http.server import Server
from slipway.replicas.environments import Environment, Environments
from slipway.replicas.failures import CannotRun
from slipway.replicas.ping import ping
from slipway.replicas.requirements import Wanted, find_requirements, read_requirements
from slipway.replicas.sandbox import SYSTEM_PATH
from slipway.replicas.spark import needs_spark

LOOK_SECONDS = 0.3
"""Between looks at the files."""
READY_SECONDS = 600.0
BODY_BYTES = 1024**3
STOP_SECONDS = 3.0
DEBUGGED_SECONDS = 86400.0
"""For one request while somebody may step through it."""
_HOP = frozenset((b"connection", b"content-length", b"expect", b"host", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"))


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be served, and how."""

    source: Path
    image: str
    environment: Mapping[str, str]
    cache_dir: str
    scratch: Path
    port: int
    debugger: int
    profile: bool
    unpack: Callable[[Path, Path], None]


class Loop:
    """`run` returns when it is cancelled (Ctrl-C)."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._environments = Environments(order.cache_dir)
        self._host: asyncio.subprocess.Process | None = None
        self._pool: Pool | None = None
        self._settled = asyncio.Event()
        """The host answers, or has given up."""

    async def run(self) -> None:
        """CannotRun or UsageError when it cannot even begin."""
        sock = self._bind()
        server = Server(self._answer)
        await server.start(sock=sock)
        try:
            for turn in itertools.count():
                before = await asyncio.to_thread(self._stamp)
                try:
                    await self._start(self._order.scratch / f"{turn}")
                except (CannotRun, UsageError) as error:
                    if turn == 0:
                        raise
                    _say(f"not loaded: {error}")
                    self._settled.set()
                changed = await self._until_changed(before)
                _say(f"{changed} changed: loading the model again")
                self._settled.clear()
                await self._stop()
        finally:
            await self._stop()
            await server.stop(0.5)

    def _bind(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", self._order.port))
        except OSError as error:
            sock.close()
            raise UsageError(f"port {self._order.port} cannot be had ({error.strerror}): name another with --port") from None
        _say(f"http://127.0.0.1:{sock.getsockname()[1]}/invocations (Ctrl-C ends it)")
        return sock

    # ---- the host

    async def _start(self, turn: Path) -> None:
        """Files, environment, process; returns once it answers or has ended. `turn`: a folder to be made for it."""
        await asyncio.to_thread(turn.mkdir)
        model = self._order.source
        if await asyncio.to_thread(model.is_file):
            model = turn / "model"
            await asyncio.to_thread(self._order.unpack, self._order.source, model)
        code = await asyncio.to_thread(_code_of, model)
        environment = await self._environment(code, model)
        run_dir = turn / "r"
        await asyncio.to_thread(self._write_config, run_dir, model, code, environment.flavour)
        debugged = ["-X", "frozen_modules=off"] if self._order.debugger else []
        host = [environment.python, *debugged, _host_main(), "--config", str(run_dir / "config.json")]
        variables = self._variables(environment, code)
        self._host = await asyncio.create_subprocess_exec(*host, env=variables, stdin=asyncio.subprocess.DEVNULL)
        self._pool = Pool(f"unix:{run_dir}/w0.sock")
        await self._until_ready(str(run_dir))
        self._settled.set()

    async def _environment(self, code: Path | None, model: Path) -> Environment:
        wanted = Wanted()
        file = await asyncio.to_thread(find_requirements, str(code) if code else None, str(model))
        if file is not None:
            wanted = await asyncio.to_thread(read_requirements, file, self._order.environment)
        if self._order.debugger:
            wanted.lines.append("debugpy")
        runtime = await self._environments.runtime(self._order.image)
        engine = await asyncio.to_thread(needs_spark, runtime.flavour, str(model))
        environment = await self._environments.ensure(self._order.image, _say, wanted=wanted, engine=engine)
        if environment.directory is not None:
            message = f"{self._order.image} is a directory image, whose server is its own: start that, or deploy it"
            raise UsageError(message)
        for note in environment.notes:
            _say(note)
        _say(f"{environment.title} loads the model")
        return environment

    def _write_config(self, run_dir: Path, model: Path, code: Path | None, flavour: str) -> None:
        run_dir.mkdir()
        config = {
            "flavour": flavour,
            "model_dir": str(model),
            "code_dir": str(code) if code else None,
            "run_dir": str(run_dir),
            "workers": 1,
            "invoke_seconds": DEBUGGED_SECONDS if self._order.debugger else 60.0,
            "debugger": self._order.debugger,
            "profile": self._order.profile,
        }
        (run_dir / "config.json").write_text(json.dumps(config))

    def _variables(self, environment: Environment, code: Path | None) -> dict[str, str]:
        """As in a container, with this user's home and locale."""
        script = {"SAGEMAKER_PROGRAM": "inference.py"} if code and (code / "inference.py").is_file() else {}
        return {
            "PATH": f"{environment.path}/bin:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "HOME": str(Path.home()),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment.variables,
            **script,
            **self._order.environment,
        }

    async def _until_ready(self, run_dir: str) -> None:
        host = self._host
        assert host is not None
        async with asyncio.timeout(READY_SECONDS):
            while host.returncode is None:
                if await ping(run_dir, wait=1.0):
                    _say("ready")
                    return
                await asyncio.sleep(0.05)
        _say("the model could not be loaded: correct its files, and it is loaded again")

    async def _stop(self) -> None:
        host, self._host = self._host, None
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if host is None or host.returncode is not None:
            return
        host.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await host.wait()
        except TimeoutError:
            host.kill()
            await host.wait()

    # ---- files

    async def _until_changed(self, before: Mapping[str, float]) -> str:
        """The name of a file that is not as it was."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = await asyncio.to_thread(self._stamp)
            for name in sorted(now.keys() | before.keys()):
                if now.get(name) != before.get(name):
                    return os.path.basename(name)

    def _stamp(self) -> dict[str, float]:
        """When the archive, or each script and requirements.txt of the folder, was last changed."""
        source = self._order.source
        paths = [source] if source.is_file() else [*source.rglob("*.py"), *source.rglob("requirements.txt")]
        found = {}
        for path in paths:
            with contextlib.suppress(OSError):
                found[str(path)] = path.stat().st_mtime
        return found

    # ---- requests

    async def _answer(self, request: Request) -> Response:
        """/ping, /invocations and /execution-parameters, passed on; a request waits while the model loads."""
        path = request.target.partition(b"?")[0]
        if path not in (b"/ping", b"/invocations", b"/execution-parameters"):
            return Response(404, [], b"slipway serve answers /ping, /invocations and /execution-parameters\n")
        await self._settled.wait()
        host, pool = self._host, self._pool
        if host is None or pool is None or host.returncode is not None:
            return Response(503, [], b"the model is not loaded: its log says why\n")
        if path == b"/ping":
            return Response(200)
        headers = [(name, value) for name, value in request.headers if name not in _HOP]
        try:
            body = await request.body.read(BODY_BYTES)
            answer = await pool.request(request.method, request.target, headers, body)
        except (ConnectFailed, NoAnswer):
            return Response(500, [], b"the model's worker died: its log says more\n")
        except BodyTooLarge:
            return Response(413)
        except ClientGone:
            return Response(400)
        kept = [(name, value) for name, value in answer.headers if name not in _HOP]
        return Response(answer.status, kept, aiter(answer), answer.length)


def _code_of(model: Path) -> Path | None:
    """The folder of the script: `code/`, or the model's own where inference.py lies at its top."""
    if (model / "code").is_dir():
        return model / "code"
    return model if (model / "inference.py").is_file() else None


def _host_main() -> str:
    package = next(iter(__import__("slipway_host").__path__))
    return f"{os.path.realpath(package)}/__main__.py"


def _say(text: str) -> None:
    print(f"[slipway] {text}", file=sys.stderr, flush=True)
