"""Environments: a framework image as a folder with Python and packages, built once by uv, kept by content, shared by all.

`<cache>/environments/<key>/` is complete when `.complete` is in it. The key covers requirements, interpreter and our table.
Builders in several processes are kept apart by a file lock; a build happens beside and is renamed into place.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from uv import find_uv_bin

from slipway.core.images import parse_image
from slipway.replicas import triton
from slipway.replicas.cached import COMPLETE, hold, note_use
from slipway.replicas.directory_images import DirectoryImage, DirectoryImages
from slipway.replicas.failures import CannotRun, cannot
from slipway.replicas.images import (
    TABLE,
    Interpreter,
    Runtime,
    find_interpreters,
    own_interpreter,
    runtime_of,
    runtime_of_directory,
)
from slipway.replicas.process import LineSink, spawn
from slipway.replicas.requirements import Wanted
from slipway.replicas.spark import find_java

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]
_OFFLINE = re.compile(
    r"error sending request|dns error|failed to lookup|Could not connect|Failed to fetch|Failed to download|network (was|is) "
    r"(disabled|unreachable)|tcp connect|not found in the cache|registry, and|connection (refused|reset)|timed out",
    re.IGNORECASE,
)
_STEP = re.compile(r"^(Downloading|Building|Resolved|Prepared|Installed|Bytecode compiled)\b[^\n]*")
_CHATTER = re.compile(r"Using C?Python|Creating virtual environment|warning:")
_PASSED_ON = re.compile(
    r"UV_\w+|SSL_CERT_(FILE|DIR)|(https?|all|no)_proxy|HOME|PATH|TMPDIR|XDG_\w+|LANG|LC_\w+|NETRC", re.IGNORECASE
)
"""What uv sees of the keeper's environment: where and how to reach an index is the operator's affair, never ours."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A complete one."""

    path: str
    python: str
    readable: tuple[str, ...]
    """Folders that a sandbox must show: the environment and the interpreter it was made from."""
    title: str
    flavour: str
    notes: tuple[str, ...] = ()
    directory: DirectoryImage | None = None
    """A directory image's; `path` is empty if it has no Python of its own."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What a container in it must be told of this machine (JAVA_HOME)."""
    workers: int = 0
    """How many processes serve in it unless the user says; 0: one for each CPU."""


@dataclass(frozen=True, slots=True)
class _Order:
    """One environment to be had."""

    runtime: Runtime
    image: str
    progress: Progress
    base: str | None = None
    """The complete environment that it begins as."""
    wanted: Wanted | None = None
    isolated: bool = False


class Environments:
    """All environments in one cache folder, which several keepers may share."""

    def __init__(
        self,
        cache_dir: str,
        *,
        environ: Mapping[str, str] | None = None,
        own: Interpreter | None = None,
        gpu: bool = False,
        build_seconds: float = 1800.0,
    ) -> None:
        self._folder = f"{cache_dir}/environments"
        self._uv_cache = f"{cache_dir}/uv"
        self._environ = os.environ if environ is None else environ
        self._own = own or own_interpreter()
        self._gpu = gpu
        """This machine has one."""
        self._others: list[Interpreter] | None = None
        self._build_seconds = build_seconds
        self._locks: dict[str, asyncio.Lock] = {}
        self.directories = DirectoryImages(cache_dir)

    async def runtime(self, image: str) -> Runtime:
        """What would run for `image`; CannotRun (unknown-image)."""
        if (directory := await asyncio.to_thread(self.directories.find, image)) is not None:
            return runtime_of_directory(directory, self._own)
        if triton.is_triton(image):
            found = await asyncio.to_thread(triton.directory_image, image, self._own)
            return replace(runtime_of_directory(found, self._own), gpu=self._gpu and parse_image(image).device == "gpu")
        await self._look_around(image)
        return runtime_of(image, self._own, lambda: self._others or [], gpu=self._gpu)

    async def ensure(
        self, image: str, progress: Progress, *, wanted: Wanted | None = None, isolated: bool = False, engine: bool = False
    ) -> Environment:
        """The environment of `image` with the model's own requirements, built if it is not there.

        `isolated`: nothing is fetched for the model's requirements; they must be vendored with it. `engine`: the model needs
        the runtime's engine, if it has one. CannotRun.
        """
        runtime = await self.runtime(image)
        java = None
        if engine and runtime.engine is not None:
            runtime = runtime.engine
            java = await asyncio.to_thread(find_java, self._environ)
        if runtime.directory is not None:
            return await self.ensure_directory(runtime.directory, progress)
        found = await self._ensure_one(_Order(runtime, image, progress))
        if wanted is not None and wanted.lines:
            found = await self._ensure_one(_Order(runtime, image, progress, found.path, wanted, isolated))
        note_use(found.path, image)
        if java is not None:
            readable = (*found.readable, *java.readable)
            return replace(found, readable=readable, variables={"JAVA_HOME": java.home}, workers=1)  # a JVM each
        return found

    def hold(self, environment: Environment, replica: str, label: str) -> Callable[[], None]:
        """Nobody removes the environment until the returned function is called. CannotRun."""
        try:
            return hold(environment.path, replica, label)
        except OSError as error:
            why = error.strerror or "it has just been removed"
            raise cannot("environment", f"The environment {environment.title} cannot be used: {why}.") from error

    async def ensure_directory(self, directory: DirectoryImage, progress: Progress) -> Environment:
        """The Python that a directory image was registered with; nothing is built for one that has none. CannotRun."""
        if not await asyncio.to_thread(os.path.isdir, directory.folder):
            message = f"The folder of image {directory.name}, {directory.folder}, is not there any more."
            raise cannot("no-serve", message, f"register it again: slipway images add {directory.name} DIR")
        runtime = runtime_of_directory(directory, self._own)
        if not directory.interpreter:
            return Environment("", "", (), runtime.title, runtime.flavour, runtime.notes, directory)
        wanted = Wanted(list(directory.requirements), list(directory.constraints), list(directory.options))
        wanted.vendored += directory.vendored
        built = await self._ensure_one(_Order(runtime, directory.name, progress, None, wanted))
        note_use(built.path, directory.name)
        return replace(built, directory=directory)

    async def _look_around(self, image: str) -> None:
        """Search for further interpreters only where our own cannot have the exact release."""
        if self._others is None:
            asked: list[bool] = []

            def note() -> Sequence[Interpreter]:
                asked.append(True)
                return ()

            with contextlib.suppress(CannotRun):
                runtime_of(image, self._own, note)
            if asked:
                self._others = await asyncio.to_thread(find_interpreters)

    async def _ensure_one(self, order: _Order) -> Environment:
        runtime = order.runtime
        path = f"{self._folder}/{await asyncio.to_thread(_key, order)}"
        if not _is_complete(path):
            os.makedirs(self._folder, exist_ok=True)
            lock = self._locks.setdefault(path, asyncio.Lock())
            async with lock, _file_lock(f"{path}.lock", runtime.title, order.progress):
                if not _is_complete(path):
                    await self._build(path, order)
        readable = (path, *_prefixes(runtime.interpreter.path))
        return Environment(path, f"{path}/bin/python", readable, runtime.title, runtime.flavour, runtime.notes)

    async def _build(self, path: str, order: _Order) -> None:
        what = f"environment {order.runtime.title}" + (" with the model's requirements" if order.wanted else "")
        order.progress(f"building {what}")
        making = f"{path}.making"
        await asyncio.to_thread(_clear, making, path)
        told = _Told(what, order.progress)
        try:
            async with asyncio.timeout(self._build_seconds):
                if order.base is None:
                    python = ("--python", order.runtime.interpreter.path, "--no-python-downloads")
                    await self._uv(["venv", "--no-project", "--relocatable", *python, making], told, order)
                else:
                    await asyncio.to_thread(_link_tree, order.base, making)
                await self._install(making, told, order)
            title = order.runtime.title + (" + requirements.txt" if order.wanted else "")
            await asyncio.to_thread(_finish, making, path, title)
        except TimeoutError:
            message = f"The {what} was not built within {self._build_seconds:.0f} seconds."
            raise cannot("requirements" if order.wanted else "environment", message, _pull(order.image)) from None
        except OSError as error:
            raise cannot(
                "disk-full" if error.errno in (28, 122) else "environment", f"The {what}: {error.strerror}."
            ) from error
        finally:
            await asyncio.to_thread(_clear, making)
        order.progress(f"built {what}")

    async def _install(self, making: str, told: _Told, order: _Order) -> None:
        """The image's packages; or, on top of them, the model's, as pip does it in AWS's containers."""
        wanted = order.wanted
        if not (wanted.lines if wanted is not None else order.runtime.requirements):
            return
        arguments = ["pip", "install", "--python", f"{making}/bin/python", "--compile-bytecode", "--link-mode", "hardlink"]
        files = [_write_private(f"{making}/requirements.in", wanted.lines if wanted else order.runtime.requirements)]
        arguments += ["-r", files[0], "--only-binary", ":all:"]
        for name in () if wanted is not None else order.runtime.from_source:
            arguments += ["--no-binary", name]
        if wanted is not None:
            arguments += wanted.options
            if order.isolated and "--no-index" not in wanted.options:
                arguments.append("--no-index")
            if wanted.constraints:
                files.append(_write_private(f"{making}/constraints.in", wanted.constraints))
                arguments += ["-c", files[1]]
        try:
            await self._uv(arguments, told, order)
        except CannotRun:
            if wanted is not None or not order.runtime.otherwise:
                raise
            await self._second_try(arguments, told, order)
        for file in files:
            os.unlink(file)

    async def _second_try(self, arguments: Sequence[str], told: _Told, order: _Order) -> None:
        """PyTorch's own index, where the configured ones lack its CPU build."""
        told.lines.clear()
        try:
            await self._uv([*arguments, *order.runtime.otherwise], told, order)
        except CannotRun as error:
            failure = error.failure
            mend = f"{failure.mend}; or name a folder that holds PyTorch's CPU wheel in UV_FIND_LINKS"
            raise cannot(failure.kind, failure.message, mend) from None

    async def _uv(self, arguments: Sequence[str], told: _Told, order: _Order) -> None:
        """Run uv to its end; CannotRun with its own last words. Cancelled, it is killed."""
        process = await spawn(
            lambda _: [find_uv_bin(), *arguments],
            environment=self._uv_environment(),
            working_dir=self._folder,
            sinks=(told, told),
        )
        try:
            ended = await process.ended
            await process.drained()
        finally:
            process.kill()
        if ended.code != 0:
            raise _explained(told, order.image, order.wanted is not None, str(ended))

    def _uv_environment(self) -> dict[str, str]:
        passed = {name: value for name, value in self._environ.items() if _PASSED_ON.fullmatch(name)}
        if folders := self._environ.get("PIP_FIND_LINKS", "").split():
            passed.setdefault("UV_FIND_LINKS", ",".join(folders))  # a machine that is set up for pip serves uv as well
        return {"UV_CACHE_DIR": self._uv_cache, **passed, "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


class _Told(LineSink):
    """uv's output: steps go to `progress`, the last lines are kept for an explanation."""

    def __init__(self, what: str, progress: Progress) -> None:
        self.what = what
        self.lines: deque[str] = deque(maxlen=50)
        self._progress = progress
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            if text:
                self.lines.append(text[:500])
            if step := _STEP.match(text):
                self._progress(f"building {self.what}: {step[0][:200]}")

    def close(self) -> None:
        self.feed(b"\n")


def _explained(told: _Told, image: str, users: bool, ended: str) -> CannotRun:
    tail = [line for line in told.lines if not _STEP.match(line) and not _CHATTER.match(line)]
    words = _words(tail[-12:])[-700:] or f"uv ended with {ended}"
    if re.search(r"No space left|os error 28|quota", words):
        return cannot(
            "disk-full", f"The {told.what} could not be built: the disk is full.", "free space in slipway's cache directory"
        )
    if users:
        mend = "correct requirements.txt, or put wheels beside it and name them there"
        if "no wheels" in words or "no usable wheels" in words or "building from source is disabled" in words:
            mend = "only wheels are installed: build one of it (pip wheel), put it beside requirements.txt and name it there"
        return cannot("requirements", f"The packages of requirements.txt could not be installed: {words}.", mend)
    if _OFFLINE.search(words):
        cause = re.sub(r"^Request failed after [^:]*: ", "", words)[-300:]
        message = f"The {told.what} is not built yet, and no package index can be reached ({cause})."
        return cannot("environment", message, _pull(image))
    mend = "check the package index that uv is configured with"
    return cannot("environment", f"The {told.what} could not be built: {words}.", mend)


def _words(lines: Sequence[str]) -> str:
    """uv's last lines as one: `error: A`, `  cause: B` (or arrows, as older ones draw) become `A: B`."""
    text = ""
    for line in lines:
        mark, rest = re.fullmatch(r"(error:|×|cause:|Caused by:|╰─▶|hint:|)\s*(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        rest = rest.rstrip(" .:")
        if mark == "hint:":
            rest = f"hint: {rest}"
        text += f"{'. ' if mark == 'hint:' else ': ' if mark else ' '}{rest}" if text else rest
    return text


def _pull(image: str) -> str:
    return f"run `slipway images pull {image}` while a package index can be reached"


def _is_complete(path: str) -> bool:
    return os.path.exists(f"{path}/{COMPLETE}")


def _write_private(file: str, lines: Sequence[str]) -> str:
    """For our eyes only: an index's address may hold a password."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write("\n".join([*lines, ""]))
    return file


def _clear(*folders: str) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _link_tree(base: str, making: str) -> None:
    """A copy that shares the files' content: uv replaces files, it never writes into one."""
    shutil.copytree(base, making, symlinks=True, copy_function=os.link)
    os.unlink(f"{making}/{COMPLETE}")


def _key(order: _Order) -> str:
    """Covers what decides the content. Reads vendored files: not for the event loop."""
    runtime, wanted = order.runtime, order.wanted
    parts: list[object] = [TABLE, runtime.interpreter.path, runtime.interpreter.version, runtime.requirements]
    if wanted is not None:
        digests = []
        for file in wanted.vendored:
            if os.path.isfile(file):
                with open(file, "rb") as opened:
                    digests.append([os.path.basename(file), hashlib.file_digest(opened, "sha256").hexdigest()])
        # Vendored files count by name and content: the folder they lie in is another one for each upload.
        lines = [os.path.basename(line) if line in wanted.vendored else line for line in wanted.lines]
        options = ["…" if option.startswith("/") else option for option in wanted.options]
        parts += [lines, wanted.constraints, options, digests, order.isolated]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _prefixes(python: str) -> tuple[str, ...]:
    """The folder that holds an interpreter and its standard library: `<prefix>/bin/python3` → `<prefix>`."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(python)))
    return () if prefix in ("/", "/usr") else (prefix,)


def _finish(making: str, path: str, title: str) -> None:
    """On disk before it counts as complete: a power cut must not leave an environment with empty files."""
    with open(f"{making}/{COMPLETE}", "w") as file:
        file.write(title + "\n")
    _sync(making)
    os.rename(making, path)


def _sync(folder: str) -> None:
    if sys.platform == "linux":
        fd = os.open(folder, os.O_RDONLY)
        try:
            ctypes.CDLL(None).syncfs(fd)
        finally:
            os.close(fd)
    else:
        os.sync()


@contextlib.asynccontextmanager
async def _file_lock(file: str, title: str, progress: Progress) -> AsyncIterator[None]:
    """Keeps out builders in other processes; they see the result when they get it."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress(f"waiting for another process that builds environment {title}")
                    told = True
                await asyncio.sleep(0.1)
        yield
    finally:
        os.close(fd)
