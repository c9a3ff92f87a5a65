"""The life of a replica, with real processes: in bubblewrap and cgroups where this machine has them, and without."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.backing.logs import Logs
from slipway.core.replicas import ReplicaState
from slipway.replicas.cgroups import Cgroups
from slipway.replicas.keeper import Keeper
from slipway.replicas.launch import Tools
from slipway.replicas.sandbox import Sandbox
from tests.deadlines import PATIENCE, Watch
from tests.unit.replicas.fakes import FakeEnvironments, ObjectService, archive, make_spec, make_tools

NO_SANDBOX = Sandbox(None, False, reason="it is switched off", mend="switch it on")


class Node:
    def __init__(self, folder: Path, service: ObjectService, tools: Tools) -> None:
        self.folder = folder
        self.service = service
        self.tools = tools
        self.keeper = Keeper(tools, ping_every=0.05)
        self.seen: list[ReplicaState] = []
        self._changed = asyncio.Event()
        self.keeper.subscribe(self._note)

    def _note(self, state: ReplicaState) -> None:
        self.seen.append(state)
        self._changed.set()

    async def until(self, phase: str, id: str = "i-1", *, after: int = 0) -> ReplicaState:
        """The first state in `phase` from the `after`-th report on."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for state in self.seen[after:]:
                    if state.id == id and state.phase == phase:
                        return state
                self._changed.clear()
                await self._changed.wait()

    def log(self, id: str = "i-1") -> list[str]:
        page = Logs(str(self.folder / "logs")).get("1", "r", "/g", f"v/{id}", limit=1000, from_head=True)
        return [event.message for event in page.events]


@pytest.fixture(params=["sandbox", "plain"])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    sandbox = NO_SANDBOX
    if request.param == "sandbox":
        sandbox = Sandbox.probe(str(tmp_path / "etc"))
        if sandbox.bwrap is None:
            pytest.skip(sandbox.reason)
    async with make_node(tmp_path, sandbox) as made:
        yield made


@pytest.fixture
async def boxed(tmp_path: Path) -> AsyncIterator[Node]:
    sandbox = Sandbox.probe(str(tmp_path / "etc"))
    if sandbox.bwrap is None:
        pytest.skip(sandbox.reason)
    async with make_node(tmp_path, sandbox) as made:
        yield made


@contextlib.asynccontextmanager
async def make_node(folder: Path, sandbox: Sandbox) -> AsyncIterator[Node]:
    service = ObjectService(folder / "o.sock")
    await service.start()
    cgroups = Cgroups.probe(f"slipway-test-{os.getpid()}")
    made = Node(folder, service, make_tools(folder, service, sandbox=sandbox, cgroups=cgroups))
    try:
        yield made
    finally:
        await made.keeper.close(0.0)
        cgroups.close()
        await service.stop()


async def test_from_nothing_to_ready_to_gone(node: Node) -> None:
    model = node.service.put("m.tar.gz", archive({"model.txt": b"weights"}))
    script = "open(os.path.join(config['model_dir'], 'model.txt')).read(); print('I am', os.environ['NAME'], os.getcwd())"
    spec = make_spec("i-1", model, environment={"HOW": "script", "SCRIPT": script, "NAME": 'it\'s "me" $HOME'})
    await node.keeper.start(spec)
    await node.keeper.start(spec)
    ready = await node.until("ready")
    assert ready.protocol == "frames"
    assert ready.workers == (f"unix:{node.tools.replicas_dir}/i-1/w0.sock",)
    assert ready.image == "fake 1.0"
    assert [s.phase for s in node.seen if s.phase == "ready"] == ["ready"]
    await node.keeper.stop("i-1", 5.0)
    exited = await node.until("exited")
    assert exited.failure is None
    assert not os.listdir(node.tools.replicas_dir)
    assert any(line.startswith('I am it\'s "me" $HOME') for line in node.log())
    assert [state.phase for state in node.keeper.list()] == ["exited"]
    await node.keeper.start(spec)
    assert len(node.keeper.list()) == 1
    assert node.keeper.list()[0].phase == "exited"
    await node.keeper.stop("i-1", 5.0)
    assert node.keeper.list() == []
    await node.keeper.stop("i-unknown", 5.0)


@pytest.mark.parametrize(
    ("how", "kind", "code", "number", "words"),
    [
        ("exit", "exited", 7, None, "exit code 7"),
        ("signal", "exited", None, 11, "SIGSEGV"),
        ("failure", "import-error", 1, None, "No module named 'x'"),
        ("babble", "exited", 1, None, "exit code 1"),
    ],
)
async def test_a_host_that_ends_says_why(
    node: Node, how: str, kind: str, code: int | None, number: int | None, words: str
) -> None:
    await node.keeper.start(make_spec(environment={"HOW": how}))
    failure = (await node.until("exited")).failure
    assert failure is not None
    assert (failure.kind, failure.exit_code, failure.signal) == (kind, code, number)
    assert words in failure.message
    if how == "exit":
        assert failure.log_tail[-2:] == ("host up exit", "last words")
        assert "last words" in node.log()
    if how == "failure":
        assert (failure.mend, failure.log_tail) == ("add it", ("line 1",))


async def test_no_ping_within_the_limit(node: Node) -> None:
    for number, limit in enumerate((0.5, 5.0, 50.0)):  # a slow machine needs more until the host's first line
        await node.keeper.start(make_spec(f"i-{number}", environment={"HOW": "silent"}, start_timeout=limit))
        failure = (await node.until("exited", f"i-{number}")).failure
        assert failure is not None
        assert failure.kind == "no-ping"
        assert f"{limit:g} seconds" in failure.message
        if failure.log_tail:
            break
    assert failure is not None
    assert failure.log_tail[-1] == "host up silent"


async def test_a_replica_that_misses_pings_becomes_unready_and_ready_again(node: Node) -> None:
    await node.keeper.start(make_spec())
    await node.until("ready")
    sulk = Path(node.tools.replicas_dir) / "i-1" / "sulk"
    sulk.touch()
    unready = await node.until("unready")
    assert unready.missed_pings == 3
    mark = len(node.seen)
    sulk.unlink()
    assert (await node.until("ready", after=mark)).missed_pings == 0


async def test_exit_while_serving_is_known_at_once(node: Node) -> None:
    await node.keeper.start(make_spec())
    ready = await node.until("ready")
    assert ready.pid is not None
    os.kill(ready.pid, 9)
    exited = await node.until("exited")
    assert exited.failure is not None
    assert exited.failure.kind == "exited"
    assert exited.failure.signal == 9


async def test_a_deaf_host_is_killed_after_its_grace_and_takes_its_children_along(node: Node) -> None:
    await node.keeper.start(make_spec(environment={"HOW": "deaf"}))
    ready = await node.until("ready")
    began = Watch()
    await node.keeper.stop("i-1", 0.3)
    exited = await node.until("exited")
    assert began.seconds > 0.25
    assert began.free < 3
    assert exited.failure is None
    assert ready.pid is not None
    assert _gone(ready.pid)


async def test_a_grandchild_does_not_outlive_its_replica(node: Node) -> None:
    if node.tools.cgroups.version == 0 and node.tools.sandbox.bwrap is None:
        pytest.skip("with neither sandbox nor cgroups a process that leaves its group cannot be found again")
    script = f"{node.tools.host_package}/__main__.py --config {node.tools.replicas_dir}/i-1/"
    await node.keeper.start(make_spec(environment={"HOW": "fork"}))
    await node.until("ready")
    assert len(_running(script)) >= 2
    await node.keeper.stop("i-1", 1.0)
    await node.until("exited")
    assert _running(script) == []


def _gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  what is waited for happens in other processes
            await asyncio.sleep(0.005)


def _running(words: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{int(entry)}/cmdline", "rb") as file:
            if words.encode() in file.read().replace(b"\0", b" "):
                found.append(int(entry))
    return found


async def test_stop_while_preparing_cancels(node: Node) -> None:
    environments = node.tools.environments
    assert isinstance(environments, FakeEnvironments)
    environments.gate = asyncio.Event()
    await node.keeper.start(make_spec())
    await eventually(lambda: any(state.progress == "building" for state in node.seen))
    await node.keeper.stop("i-1", 5.0)
    exited = await node.until("exited")
    assert (exited.failure, exited.pid) == (None, None)


async def test_stop_while_fetching_cancels(node: Node) -> None:
    node.service.gate = asyncio.Event()
    await node.keeper.start(make_spec("i-1", node.service.put("m", archive({"a": b"b"}))))
    await eventually(lambda: node.service.requests)
    await node.keeper.stop("i-1", 5.0)
    assert (await node.until("exited")).failure is None
    node.service.gate.set()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"image": "unknown"}, "unknown-image"),
        ({"id": "../escape"}, "internal"),
        ({"environment": {"A B": "c"}}, "internal"),
        ({"environment": {"A": "b\0c"}}, "internal"),
    ],
)
async def test_what_cannot_be_started_says_so(node: Node, changes: dict[str, Any], kind: str) -> None:
    spec = make_spec(**changes)
    await node.keeper.start(spec)
    failure = (await node.until("exited", spec.id)).failure
    assert failure is not None
    assert failure.kind == kind


async def test_a_target_outside_opt_ml_is_refused(node: Node) -> None:
    for target in ("/etc", "/opt/ml/../../etc", "/opt/ml/model/../../../etc", "opt/ml/model", "/opt/ml"):
        model = node.service.put("m", archive({"a": b"b"}))
        artifact = type(model)(target, model.source, model.url, model.etag, model.size)
        spec = make_spec(f"i-{abs(hash(target))}", artifact)
        await node.keeper.start(spec)
        failure = (await node.until("exited", spec.id)).failure
        assert failure is not None
        assert "no place for model data" in failure.message


async def test_isolation_that_cannot_be_had_is_not_pretended(tmp_path: Path) -> None:
    async with make_node(tmp_path, NO_SANDBOX) as plain:
        await plain.keeper.start(make_spec(isolated=True))
        failure = (await plain.until("exited")).failure
        assert failure is not None
        assert (failure.kind, failure.mend) == ("isolation", "switch it on")


async def test_without_a_sandbox_a_note_says_so(tmp_path: Path) -> None:
    async with make_node(tmp_path, NO_SANDBOX) as plain:
        await plain.keeper.start(make_spec())
        assert any("without a sandbox" in note for note in (await plain.until("ready")).notes)


async def test_requirements_of_the_model_reach_the_environment(node: Node) -> None:
    data = archive({"code/requirements.txt": b"tiny==1.0\n", "code/inference.py": b""})
    await node.keeper.start(make_spec("i-1", node.service.put("m", data)))
    await node.until("ready")
    environments = node.tools.environments
    assert isinstance(environments, FakeEnvironments)
    wanted = environments.asked[-1][1]
    assert wanted is not None
    assert wanted.lines == ["tiny==1.0"]


async def test_out_of_memory_has_figures(node: Node) -> None:
    await node.keeper.start(make_spec(environment={"HOW": "memory"}, memory_bytes=96 * 1024 * 1024))
    failure = (await node.until("exited")).failure
    assert failure is not None
    if node.tools.cgroups.version:
        assert failure.kind == "out-of-memory"
        assert "limit 96 MiB, peak 9" in failure.message
        assert "instance type" in failure.mend
    else:
        assert failure.kind == "exited"
        assert any("MemoryError" in line for line in failure.log_tail)


async def test_twenty_at_once_share_one_fetch(boxed: Node) -> None:
    model = boxed.service.put("m", archive({"a": b"b"}))
    for n in range(20):
        await boxed.keeper.start(make_spec(f"i-{n}", model))
    for n in range(20):
        await boxed.until("ready", f"i-{n}")
    assert len(boxed.service.requests) == 1
    await boxed.keeper.close(2.0)
    assert os.listdir(boxed.tools.replicas_dir) == []


async def test_inside_there_is_nothing_of_others(boxed: Node) -> None:
    secret = boxed.folder / "logs" / "secret"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("x")
    os.environ["SLIPWAY_TEST_SECRET"] = "x"
    script = (
        f"print('secret', os.path.exists({str(secret)!r}), 'env', 'SLIPWAY_TEST_SECRET' in os.environ);"
        f"print('neighbours', os.listdir({boxed.tools.replicas_dir!r}), 'uid', os.getuid() != 0);"
        "print('processes', sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[-1] < 50);"
        "open('/tmp/x', 'w').write('y'); open('/dev/shm/x', 'w').write('y')\n"
        "for path in ('/opt/ml/model/x', '/usr/x', '/etc/x', '/x', '/opt/x', run + '/x'):\n"
        "    try: open(path, 'w'); print('wrote', path)\n"
        "    except OSError: pass\n"
        "print('new privileges', [line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')])\n"
        "print('capabilities', [line.split()[1] for line in open('/proc/self/status') if line.startswith('CapEff')])\n"
        "print('cwd', os.getcwd(), sorted(os.listdir('/opt/ml')))"
    )
    try:
        model = boxed.service.put("m", archive({"a": b"b"}))
        await boxed.keeper.start(make_spec("i-1", model, environment={"HOW": "script", "SCRIPT": script}))
        await boxed.until("ready")
    finally:
        del os.environ["SLIPWAY_TEST_SECRET"]
    lines = boxed.log()
    assert "secret False env False" in lines
    assert f"neighbours ['i-1'] uid {os.geteuid() == 0 or os.getuid() != 0}" in lines
    assert "processes True" in lines
    assert not (Path(boxed.tools.replicas_dir) / "i-1" / "start.sh").exists()
    assert not [line for line in lines if line.startswith("wrote")]
    assert "new privileges ['1']" in lines
    assert "capabilities ['0000000000000000']" in lines
    assert "cwd /opt/ml/model ['model']" in lines


async def test_an_isolated_replica_reaches_nothing_and_is_reached(boxed: Node) -> None:
    listener = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    script = (
        f"s = socket.socket(); print('tcp', s.connect_ex(('127.0.0.1', {port})));"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "try: s.connect(('192.0.2.1', 9)); print('route')\nexcept OSError as e: print('no route')"
    )
    environment = {"HOW": "script", "SCRIPT": script}
    await boxed.keeper.start(make_spec("i-open", environment=environment))
    await boxed.keeper.start(make_spec("i-shut", environment=environment, isolated=True))
    await boxed.until("ready", "i-open")
    await boxed.until("ready", "i-shut")
    listener.close()
    assert "tcp 0" in boxed.log("i-open")
    assert "tcp 0" not in boxed.log("i-shut")
    assert "no route" in boxed.log("i-shut")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("cc") is None, reason="as root only, with a C compiler")
async def test_no_library_of_the_model_is_loaded_as_root(boxed: Node, tmp_path: Path) -> None:
    """LD_PRELOAD from a model's Environment must take effect after rights were given up, not in setpriv."""
    await asyncio.to_thread(_compile, tmp_path)
    model = boxed.service.put("m", archive({"evil.so": (tmp_path / "evil.so").read_bytes()}))
    await boxed.keeper.start(make_spec("i-1", model, environment={"LD_PRELOAD": "/opt/ml/model/evil.so"}))
    await boxed.until("ready")
    seen = {line for line in boxed.log() if line.startswith("preload")}
    assert seen
    assert "preload 0" not in seen


def _compile(folder: Path) -> None:
    body = 'printf("preload %d\\n", getuid()); fflush(stdout);'
    source = f"#include <unistd.h>\n#include <stdio.h>\n__attribute__((constructor)) static void f(void) {{ {body} }}"
    (folder / "evil.c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "evil.so", folder / "evil.c"], check=True)
