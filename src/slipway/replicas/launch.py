"""From a ReplicaSpec to a running host: artifacts, environment, limits, run folder, command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from slipway.backing.log_writer import LogWriter
from slipway.core.models import MODELS_DIR
from slipway.core.replicas import Artifact, ReplicaSpec
from slipway.replicas import containers, variables
from slipway.replicas.artifacts import Artifacts, Holding
from slipway.replicas.cgroups import Cgroup, Cgroups
from slipway.replicas.devices import Device, Devices, declined
from slipway.replicas.doors import Doors
from slipway.replicas.environments import Environment, Environments
from slipway.replicas.failures import cannot
from slipway.replicas.images import Runtime
from slipway.replicas.ports import PortRanges
from slipway.replicas.process import Process, spawn
from slipway.replicas.requirements import find_requirements, read_requirements
from slipway.replicas.residency import LOAD_SECONDS, SHARE, House
from slipway.replicas.sandbox import FIRST_UID, MODEL, SYSTEM_PATH, UIDS, Confinement, Sandbox, environment_script, warning
from slipway.replicas.spark import needs_spark

CODE = "/opt/ml/code"
_START = "start.sh"
MAX_WORKERS = 256
"""Of one container: each has a socket, which the keeper opens."""
UNBOUNDED = 1 << 62
"""Bytes of an answer that somebody else bounds."""
_TARGET = re.compile(r"/opt/ml(/[A-Za-z0-9._-]+)+")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")

Progress = Callable[[str], None]


@dataclass(slots=True)
class Tools:
    """What all replicas of a keeper share; built by `roles.keeper`."""

    replicas_dir: str
    """Run folders, one for each replica; a short path."""
    host_package: str
    """The folder of slipway_host, whose `__main__.py` runs inside."""
    sandbox: Sandbox
    cgroups: Cgroups
    artifacts: Artifacts
    environments: Environments
    open_log: Callable[[ReplicaSpec], LogWriter]
    memory_bytes: int = 0
    """Upper bound for every replica; 0: none."""
    invoke_seconds: float = 60.0
    response_bytes: int = 25 * 1024 * 1024
    request_bytes: int = 25 * 1024 * 1024
    async_body_bytes: int = 1024**3
    """Of a request to a replica of an asynchronous endpoint."""
    ports: PortRanges = field(default_factory=PortRanges)
    """For containers that stand beside others in one instance."""
    devices: Devices = field(default_factory=Devices)
    """This machine's GPUs."""
    models_dir: str = ""
    """Below it a folder for each multi-model replica, where its models appear."""
    model_share: float = SHARE
    """Of an instance's memory, for the models loaded in it."""
    model_load_seconds: float = LOAD_SECONDS
    _next_uid: int = field(default=0)

    def run_dir(self, spec: ReplicaSpec) -> str:
        return f"{self.replicas_dir}/{spec.id}"

    def take_uid(self) -> int | None:
        """A user id for one more replica, as root."""
        if not self.sandbox.as_root:
            return None
        self._next_uid = (self._next_uid + 1) % UIDS
        return FIRST_UID + self._next_uid


@dataclass(frozen=True, slots=True)
class Prepared:
    environment: Environment
    trees: Mapping[str, str]
    """Target inside → folder here."""
    run_dir: str
    uid: int | None
    cgroup: Cgroup | None
    memory_bytes: int
    notes: tuple[str, ...]
    devices: tuple[Device, ...] = ()
    """GPUs that it gets."""


def models_folder(spec: ReplicaSpec, tools: Tools) -> str:
    """Where the models of a multi-model replica appear, on this side."""
    return f"{tools.models_dir}/{spec.id}"


def models_inside(spec: ReplicaSpec, tools: Tools) -> str:
    """The same folder as the container sees it."""
    return MODELS_DIR if tools.sandbox.bwrap is not None else models_folder(spec, tools)


def models_budget(spec: ReplicaSpec, tools: Tools) -> int:
    """Bytes that the models of one replica may take together."""
    memory = effective_memory(spec, tools) or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(memory * tools.model_share)


def house(spec: ReplicaSpec, tools: Tools, doors: Doors, *, foreign: bool) -> House:
    """Where and how the models of a multi-model replica live."""
    return House(
        spec,
        models_folder(spec, tools),
        models_inside(spec, tools),
        doors.addresses[0],
        "http" if foreign else "frames",
        models_budget(spec, tools),
        tools.model_load_seconds,
    )


def effective_memory(spec: ReplicaSpec, tools: Tools) -> int:
    """The smaller of the two limits that are set; 0: none."""
    return min((limit for limit in (spec.memory_bytes, tools.memory_bytes) if limit), default=0)


def check(spec: ReplicaSpec) -> None:
    """Refuse what would become a path or a command of ours and cannot. CannotRun."""
    if not _ID.fullmatch(spec.id):
        raise cannot("internal", f"the replica's id {spec.id!r} cannot name a folder")
    for artifact in spec.artifacts:
        if not _TARGET.fullmatch(artifact.target) or posixpath.normpath(artifact.target) != artifact.target:
            raise cannot("internal", f"{artifact.target!r} is no place for model data")
    try:
        environment_script({**spec.environment, **spec.platform})
    except ValueError as error:
        raise cannot("internal", str(error)) from None


async def prepare(spec: ReplicaSpec, tools: Tools, holdings: list[Holding], progress: Progress) -> Prepared:
    """Everything that must be there before a process starts. `holdings` gets what the caller must release. CannotRun."""
    check(spec)
    if spec.isolated and tools.sandbox.bwrap is None:
        message = f"Network isolation was asked for and cannot be had: {tools.sandbox.reason}."
        raise cannot("isolation", message, tools.sandbox.mend)
    runtime = await tools.environments.runtime(spec.image)  # an unknown image fails before anything is fetched
    devices = await _take_devices(spec, tools, runtime, holdings)
    building = asyncio.create_task(tools.environments.ensure(spec.image, progress))
    try:
        trees = await _fetch(spec, tools, holdings, progress)
        environment = await building
    finally:
        building.cancel()
        await asyncio.wait([building])
    if environment.directory is None:
        engine = await asyncio.to_thread(needs_spark, environment.flavour, trees.get(MODEL))
        if engine:
            environment = await tools.environments.ensure(spec.image, progress, engine=True)
        environment = await _with_requirements(spec, tools, trees, progress, engine=engine) or environment
    notes = [*environment.notes, *_gpu_notes(spec, tools, devices)]
    if environment.directory is not None or spec.models:
        containers.check(spec)
    if environment.directory is None:
        notes += variables.notes(spec.environment, many=bool(spec.models))
    else:
        sandboxed = tools.sandbox.bwrap is not None
        several = spec.position > 0
        notes += containers.notes(environment.directory, isolated=spec.isolated, sandboxed=sandboxed, several=several)
    if environment.path:
        label = f"{spec.endpoint}/{spec.variant}"
        holdings.append(Holding(environment.path, tools.environments.hold(environment, spec.id, label)))
    if tools.sandbox.bwrap is None:
        notes.append(warning(tools.sandbox))
    if variables.wanted_workers(spec.environment) > MAX_WORKERS and not spec.models:
        notes.append(f"{variables.WORKERS} is more than one container has here: it gets {MAX_WORKERS} workers")
    memory = effective_memory(spec, tools)
    cgroup = None
    if tools.cgroups.version:
        try:
            cgroup = tools.cgroups.create(spec.id, memory)
        except OSError as error:
            notes.append(f"no cgroup for this replica ({error.strerror}): memory is limited for each process alone")
    elif memory:
        notes.append(f"memory is limited for each process alone: {tools.cgroups.reason}")
    uid = tools.take_uid()
    run_dir = await asyncio.to_thread(_make_run_dir, tools.run_dir(spec))
    if spec.models:
        await asyncio.to_thread(os.makedirs, models_folder(spec, tools), 0o755)
    return Prepared(environment, trees, run_dir, uid, cgroup, memory, tuple(notes), devices)


async def _take_devices(spec: ReplicaSpec, tools: Tools, runtime: Runtime, holdings: list[Holding]) -> tuple[Device, ...]:
    """GPUs, where the machine has some, the image asks for them (a container of its own: the instance type) and the model's
    Environment does not hide them. CannotRun."""
    wanted = runtime.gpu or (runtime.directory is not None and spec.gpus > 0)
    if not tools.devices.found or declined(spec.environment) or not wanted:
        return ()
    label = f"{spec.endpoint}/{spec.variant}"
    devices = await tools.devices.take(spec.instance, label, max(1, spec.gpus))
    holdings.append(Holding("", lambda: tools.devices.release(spec.instance)))
    return devices


def _gpu_notes(spec: ReplicaSpec, tools: Tools, devices: tuple[Device, ...]) -> Iterator[str]:
    if devices:
        yield tools.devices.note(devices)
        if len(devices) < spec.gpus:
            yield f"the instance type has {spec.gpus} GPUs, this machine {len(devices)}"
    elif spec.gpus and not tools.devices.found:
        yield "the instance type has a GPU; no CUDA device is present on this machine, and the model runs on the CPU"


async def _fetch(spec: ReplicaSpec, tools: Tools, holdings: list[Holding], progress: Progress) -> dict[str, str]:
    """Folder of each target."""
    targets: dict[str, list[Artifact]] = {}
    for artifact in spec.artifacts:
        targets.setdefault(artifact.target, []).append(artifact)
    trees = {}
    for target, artifacts in targets.items():
        holding = await tools.artifacts.hold(artifacts, progress, spec.fetch_timeout)
        holdings.append(holding)
        trees[target] = holding.path
    return trees


async def _with_requirements(
    spec: ReplicaSpec, tools: Tools, trees: Mapping[str, str], progress: Progress, *, engine: bool
) -> Environment | None:
    """The image's environment with what the model's requirements.txt adds; None when there is no such file."""
    file = await asyncio.to_thread(find_requirements, trees.get(CODE), trees.get(MODEL))
    if file is None:
        return None
    wanted = await asyncio.to_thread(read_requirements, file, spec.environment)
    ensure = tools.environments.ensure
    return await ensure(spec.image, progress, wanted=wanted, isolated=spec.isolated, engine=engine)


def _make_run_dir(path: str) -> str:
    """A folder that the replica's user can pass through and, in a sandbox, only read (`doors`)."""
    os.makedirs(path, mode=0o711)
    os.mkdir(f"{path}/model", 0o755)
    return path


def workers(spec: ReplicaSpec, environment: Environment) -> int:
    """How many processes the container serves with: what the user says, else the environment, else one for each CPU.

    A multi-model container has one for each loaded model, behind one address.
    """
    if spec.models:
        return 1
    return min(variables.wanted_workers(spec.environment) or environment.workers or max(1, spec.cpus), MAX_WORKERS)


async def launch(spec: ReplicaSpec, tools: Tools, prepared: Prepared, log: LogWriter, doors: Doors) -> Process:
    """Start the host, which gets `doors`. CannotRun when not even a process can be made."""
    if prepared.environment.directory is not None:
        return await _launch_container(spec, tools, prepared, log, doors)
    sandboxed = tools.sandbox.bwrap is not None
    model = MODEL if sandboxed else prepared.trees.get(MODEL, f"{prepared.run_dir}/model")
    code = (CODE if sandboxed else prepared.trees[CODE]) if CODE in prepared.trees else None
    config = _config(spec, tools, prepared, model, code) | doors.config()
    environment = _variables(spec, prepared, tools)
    confinement = Confinement(
        run_dir=prepared.run_dir,
        binds={**prepared.trees, **_models_bind(spec, tools)},
        readable=(*prepared.environment.readable, tools.host_package),
        isolated=spec.isolated,
        uid=prepared.uid,
        memory_bytes=prepared.memory_bytes,
        working_dir=MODEL,
        devices=tools.devices.files(prepared.devices),
    )
    host = [prepared.environment.python, f"{tools.host_package}/__main__.py", "--config", f"{prepared.run_dir}/config.json"]
    return await _start(tools, prepared, log, doors, _Start(host, config, environment, confinement, model))


async def _launch_container(spec: ReplicaSpec, tools: Tools, prepared: Prepared, log: LogWriter, doors: Doors) -> Process:
    """Start a directory image's server, and what leads requests to it."""
    sandboxed = tools.sandbox.bwrap is not None
    environment = prepared.environment
    assert environment.directory is not None
    trees = dict(prepared.trees)
    if not sandboxed:
        trees.setdefault(MODEL, f"{prepared.run_dir}/model")
    try:
        plan = containers.plan(
            environment.directory,
            spec,
            environment.path,
            trees,
            run_dir=prepared.run_dir,
            sandboxed=sandboxed,
            ports=tools.ports.take() if spec.position else None,
        )
    except OSError as error:
        raise cannot("internal", f"no port could be had for the container: {error.strerror}") from error
    confinement = Confinement(
        run_dir=prepared.run_dir,
        binds={**plan.binds, **_models_bind(spec, tools)},
        readable=(*environment.readable, *plan.readable, tools.host_package),
        isolated=plan.own_network,
        uid=prepared.uid,
        memory_bytes=prepared.memory_bytes,
        working_dir=plan.working_dir,
        devices=tools.devices.files(prepared.devices),
        writable=containers.WRITABLE,
    )
    config = f"{prepared.run_dir}/config.json"
    host = [plan.python, "-I", "-S", f"{tools.host_package}/__main__.py", "--container", "--config", config]
    known = {**plan.variables, **tools.devices.variables(prepared.devices, sandboxed=sandboxed)}
    start = _Start(host, plan.config | doors.config(), known, confinement, plan.working_dir)
    return await _start(tools, prepared, log, doors, start)


@dataclass(frozen=True, slots=True)
class _Start:
    host: list[str]
    config: dict[str, object]
    environment: Mapping[str, str]
    confinement: Confinement
    working_dir: str
    """Where there is no sandbox."""


async def _start(tools: Tools, prepared: Prepared, log: LogWriter, doors: Doors, what: _Start) -> Process:
    sandboxed = tools.sandbox.bwrap is not None
    start = f"{prepared.run_dir}/{_START}"
    await asyncio.to_thread(_write_start, prepared, what.config, start if sandboxed else None, what.environment)

    def command(info_fd: int | None) -> list[str]:
        if sandboxed:
            return tools.sandbox.command(what.confinement, ["/bin/sh", start, *what.host], info_fd)
        return what.host

    limit = prepared.memory_bytes if prepared.cgroup is None else 0
    try:
        return await spawn(
            command,
            environment={"PATH": SYSTEM_PATH} if sandboxed else what.environment,
            working_dir="/" if sandboxed else what.working_dir,
            sinks=(log.pipe(), log.pipe()),
            cgroup=prepared.cgroup,
            sandboxed=sandboxed,
            data_bytes=limit,
            pass_fds=doors.descriptors(),
            owner=prepared.uid if sandboxed else None,
        )
    except OSError as error:
        raise cannot("internal", f"the container's process could not be started: {error.strerror}") from error
    finally:
        doors.handed_over()


def remove_start(run_dir: str) -> None:
    """The host runs: the script that set its environment, with whatever secrets that holds, need not lie around."""
    with contextlib.suppress(OSError):
        os.unlink(f"{run_dir}/{_START}")


def _models_bind(spec: ReplicaSpec, tools: Tools) -> dict[str, str]:
    return {MODELS_DIR: models_folder(spec, tools)} if spec.models else {}


def _config(spec: ReplicaSpec, tools: Tools, prepared: Prepared, model: str, code: str | None) -> dict[str, object]:
    return {
        "flavour": prepared.environment.flavour,
        "model_dir": model,
        "code_dir": code,
        "run_dir": prepared.run_dir,
        "workers": workers(spec, prepared.environment),
        "cpus": spec.cpus,
        "uid": None,
        "gid": None,
        "isolated": spec.isolated,
        "gpu": bool(prepared.devices),
        "invoke_seconds": tools.invoke_seconds,
        "response_bytes": UNBOUNDED if spec.asynchronous else tools.response_bytes,  # the dispatcher bounds it
        "request_bytes": tools.async_body_bytes if spec.asynchronous else tools.request_bytes,
        **(_models_config(spec, tools) if spec.models else {}),
    }


def _models_config(spec: ReplicaSpec, tools: Tools) -> dict[str, object]:
    return {
        "multi_model": True,
        "models_dir": models_inside(spec, tools),
        "model_bytes": models_budget(spec, tools),
    }


def _variables(spec: ReplicaSpec, prepared: Prepared, tools: Tools) -> dict[str, str]:
    """The container's whole environment: nothing of the keeper's. The user's own come last, as in a container's definition."""
    return {
        "PATH": f"{prepared.environment.path}/bin:{SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108  private to the sandbox, and writable
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **prepared.environment.variables,
        **spec.platform,
        **spec.environment,
        **(tools.ports.take().variables() if spec.position else {}),
        **tools.devices.variables(prepared.devices, sandboxed=tools.sandbox.bwrap is not None),
    }


def _write_start(prepared: Prepared, config: dict[str, object], script: str | None, environment: Mapping[str, str]) -> None:
    """config.json, and in a sandbox the script that sets the environment: for the replica's user alone."""
    files = {f"{prepared.run_dir}/config.json": json.dumps(config)}
    if script is not None:
        files[script] = environment_script(environment)
    for path, text in files.items():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        if prepared.uid is not None:
            os.chown(path, prepared.uid, prepared.uid)
