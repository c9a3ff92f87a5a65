"""Model data and code on this node: fetched through the object service, unpacked once per content, shared read-only.

`<data>/artifacts/<key>/tree` is what replicas see, `about.json` beside it says how large it is; a folder under its final name
is complete. Content is known by source and ETag. The folders are a cache of the object store: what is unused goes when there
is too much, and all goes when the machine was booted anew (a power cut may have left empty files).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import isal

from slipway.core.replicas import Artifact
from slipway.replicas import unpack
from slipway.replicas.download import download
from slipway.replicas.failures import CannotRun, cannot

logger = logging.getLogger(__name__)

KEEP_BYTES = 20 * 1024**3
"""Unpacked bytes of unused artifacts that stay."""
UNPACK_UID = 199_999
"""As root, the extractor runs as this user, who owns nothing else."""
_UNPACK_SECONDS = 60.0
_UNPACK_BYTES_PER_SECOND = 4 * 1024 * 1024
_UNPACK = "import sys; sys.path += sys.argv[1:3]; import unpack; unpack.main(sys.argv[3:], sys.stdout.write)"
"""Imported, since what is run by path is compiled anew each time; last on the path, after the standard library."""
_PATHS = (os.path.dirname(unpack.__file__), os.path.dirname(os.path.dirname(isal.__file__)))

Progress = Callable[[str], None]


@dataclass(slots=True)
class _Entry:
    work: asyncio.Task[str]
    users: int = 0
    bytes: int = 0
    """Unpacked, once `work` is done."""
    watchers: list[Progress] = field(default_factory=list)


@dataclass(slots=True)
class Holding:
    """An artifact in use: it stays until `release`."""

    path: str
    """The folder that a container sees as the artifact's target."""
    release: Callable[[], None]
    bytes: int = 0
    """Unpacked."""


class Artifacts:
    """Everything fetched, below one folder of this keeper's alone."""

    def __init__(
        self, directory: str, object_service: str, host: str, bounds: unpack.Bounds, *, keep_bytes: int = KEEP_BYTES
    ) -> None:
        """`object_service`: address (`unix:…`) that answers presigned GETs; `host`: the Host that they were signed for."""
        self._folder = directory
        self._service = object_service
        self._host = host
        self._bounds = bounds
        self._keep_bytes = keep_bytes
        self._entries: dict[str, _Entry] = {}
        self._attempts = 0
        self._evicting = asyncio.Lock()
        """Held while folders go, so that nobody finds one that is about to."""
        self._unused: OrderedDict[str, int] | None = None
        """Bytes of what is there and in nobody's use, by key, the longest unused first; None: not looked at yet."""

    def open(self) -> None:
        """Make the folder; drop what another boot or a dead keeper left half done. Blocking."""
        os.makedirs(self._folder, mode=0o755, exist_ok=True)
        boot = _boot_id()
        marker = f"{self._folder}/boot"
        with contextlib.suppress(FileNotFoundError), open(marker) as file:
            if file.read() == boot:
                for name in os.listdir(self._folder):
                    if ".making" in name:
                        shutil.rmtree(f"{self._folder}/{name}", ignore_errors=True)
                return
        for name in os.listdir(self._folder):
            if name != "boot":
                shutil.rmtree(f"{self._folder}/{name}", ignore_errors=True)
        with open(marker, "w") as file:
            file.write(boot)

    async def hold(self, artifacts: Sequence[Artifact], progress: Progress, timeout: float) -> Holding:
        """The folder for `artifacts` (all of one target), fetched if it is not there. CannotRun; TimeoutError never.

        Several callers share one fetch, which ends when the last of them has been cancelled.
        """
        key = _key(artifacts)
        entry = self._entries.get(key)
        if entry is None or (entry.work.done() and not _good(entry.work)):
            entry = _Entry(asyncio.get_running_loop().create_task(self._make(key, tuple(artifacts))))
            self._entries[key] = entry
        entry.users += 1
        entry.watchers.append(progress)
        held = [True]

        def release() -> None:
            if held.pop() if held else False:
                self._release(key, entry)

        try:
            async with asyncio.timeout(timeout):
                path = await asyncio.shield(entry.work)
        except TimeoutError:
            release()
            await _ended(entry)
            raise cannot("fetch-failed", f"{artifacts[0].source} was not fetched within {timeout:.0f} seconds.") from None
        except BaseException:
            release()
            await _ended(entry)
            raise
        finally:
            entry.watchers.remove(progress)
        return Holding(path, release, entry.bytes)

    async def discard(self, artifacts: Sequence[Artifact]) -> None:
        """Remove what was fetched for them, unless somebody uses it."""
        key = _key(artifacts)
        async with self._evicting:
            if key not in self._entries:
                if self._unused is not None:
                    self._unused.pop(key, None)
                await asyncio.to_thread(self._remove, key)

    async def close(self) -> None:
        for entry in list(self._entries.values()):
            entry.work.cancel()
        await asyncio.gather(*(entry.work for entry in self._entries.values()), return_exceptions=True)

    def _release(self, key: str, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users:
            return
        if not entry.work.done():
            entry.work.cancel()
        elif _good(entry.work):
            with contextlib.suppress(OSError):
                os.utime(os.path.dirname(entry.work.result()))
            if self._unused is not None:
                self._unused[key] = entry.bytes
        if self._entries.get(key) is entry:
            del self._entries[key]

    async def _make(self, key: str, artifacts: tuple[Artifact, ...]) -> str:
        final = f"{self._folder}/{key}"
        async with self._evicting:
            known = await asyncio.to_thread(_bytes_of, final)
            if known is not None:
                self._made(key, known)
                return f"{final}/tree"
            if self._unused is None:
                self._unused = await asyncio.to_thread(self._find_unused)
            await asyncio.to_thread(self._evict, self._unused)
        self._attempts += 1  # one that was cancelled may still be clearing its own away
        making = f"{self._folder}/{key}.making-{self._attempts}"
        await asyncio.to_thread(shutil.rmtree, making, True)
        try:
            os.makedirs(f"{making}/tree")
            total = 0
            for artifact in artifacts:
                total += await self._add(artifact, making, lambda text: self._tell(key, text))
            await asyncio.to_thread(_complete, making, final, total, artifacts[0].source)
            self._made(key, total)
        except OSError as error:
            raise _disk_failure(error, artifacts[0].source) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, making, True)
        return f"{final}/tree"

    async def _add(self, artifact: Artifact, making: str, progress: Progress) -> int:
        """Fetch one object into the tree; its unpacked bytes."""
        progress(f"fetching {artifact.source}")
        if not artifact.archive:
            file = _place(f"{making}/tree", artifact)
            await download(artifact, self._service, self._host, file, progress)
            os.chmod(file, 0o644)
            return artifact.size
        file = f"{making}/archive"
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        unpacking = await Unpacking.start(file, f"{making}/tree", self._bounds, artifact.source, artifact.size)
        try:
            await download(artifact, self._service, self._host, file, progress, grown=unpacking.grown)
            progress(f"unpacking {artifact.source}")
            counted = await unpacking.run()
        finally:
            await unpacking.end()
        os.unlink(file)
        return counted

    def _tell(self, key: str, text: str) -> None:
        for watcher in self._entries[key].watchers if key in self._entries else ():
            watcher(text)

    def _made(self, key: str, size: int) -> None:
        if self._unused is not None:
            self._unused.pop(key, None)
        if key in self._entries:
            self._entries[key].bytes = size

    def _find_unused(self) -> OrderedDict[str, int]:
        """What another keeper left. Blocking."""
        found: list[tuple[float, int, str]] = []
        for name in os.listdir(self._folder):
            if name not in self._entries and "." not in name and (size := _bytes_of(f"{self._folder}/{name}")) is not None:
                found.append((os.stat(f"{self._folder}/{name}").st_mtime, size, name))
        return OrderedDict((name, size) for _, size, name in sorted(found))

    def _evict(self, unused: OrderedDict[str, int]) -> None:
        """Remove the longest unused until what is unused fits. Blocking."""
        total = sum(unused.values())
        for name in [name for name in unused if name not in self._entries]:
            if total <= self._keep_bytes:
                break
            size = unused.pop(name)
            self._remove(name)
            logger.info("artifact-evicted", extra={"key": name, "bytes": size})
            total -= size

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{self._folder}/{name}", f"{self._folder}/{name}.making-old")
        shutil.rmtree(f"{self._folder}/{name}.making-old", ignore_errors=True)


def _bytes_of(folder: str) -> int | None:
    """Unpacked bytes of a complete artifact; None where there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError), open(f"{folder}/about.json") as file:
        return int(json.load(file)["bytes"])
    return None


class Unpacking:
    """A limited child process that unpacks an archive while that is still being fetched."""

    def __init__(self, process: asyncio.subprocess.Process, go: int, seconds: float, source: str) -> None:
        self._process = process
        self._go = go
        self._seconds = seconds
        self._source = source

    @classmethod
    async def start(cls, archive: str, target: str, bounds: unpack.Bounds, source: str, size: int) -> Unpacking:
        """`archive`: a file, which is complete when `run` is called; `size`: its bytes then. `grown` tells of more of it."""
        seconds = _UNPACK_SECONDS + size / _UNPACK_BYTES_PER_SECOND
        as_root = os.geteuid() == 0
        target_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        wait_fd, go = os.pipe()
        os.set_blocking(go, False)
        order = {
            "bytes": bounds.bytes,
            "entries": bounds.entries,
            "ratio": bounds.ratio,
            "cpu_seconds": int(seconds),
            "target": target_fd,
            "go": wait_fd,
            "size": size,
            **({"uid": UNPACK_UID} if as_root else {}),
        }
        try:
            if as_root:
                os.fchown(target_fd, UNPACK_UID, UNPACK_UID)
            with open(archive, "rb") as packed:  # noqa: ASYNC230  opening only
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", "-c", _UNPACK, *_PATHS, *(f"{name}={value}" for name, value in order.items()),
                    stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[target_fd, wait_fd], env={},
                )  # fmt: skip
        except BaseException:
            os.close(go)
            raise
        finally:
            os.close(target_fd)
            os.close(wait_fd)
        return cls(process, go, seconds, source)

    def grown(self) -> None:
        """There is more of the archive. The child may have ended, and a full pipe wakes it as well."""
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._go, b"g")

    async def run(self) -> int:
        """The bytes unpacked. CannotRun with the child's reason."""
        self.grown()
        answer, words = await self._answer()
        if answer.get("kind") == "ok":
            return int(answer["bytes"])
        if answer:
            raise cannot(str(answer["kind"]), f"{self._source}: {answer['message']}.", str(answer["mend"]))
        raise cannot(
            "archive-too-large",
            f"{self._source}: unpacking it took too much time or memory. {words}".strip(),
            "pack fewer files",
        )

    async def _answer(self) -> tuple[dict[str, str], str]:
        """The child's answer, {} if it was ended by a limit; and what it said instead."""
        try:
            async with asyncio.timeout(self._seconds):
                out, err = await self._process.communicate()
        except TimeoutError:
            return {}, f"It did not end within {self._seconds:.0f} seconds."
        with contextlib.suppress(ValueError):
            answer: dict[str, str] = json.loads(out)
            return answer, ""
        words = err.decode("utf-8", "replace").strip().splitlines()
        logger.warning("unpack-failed", extra={"exit": self._process.returncode, "error": words[-1] if words else ""})
        return {}, ""

    async def end(self) -> None:
        """Whatever became of it."""
        if self._go >= 0:
            os.close(self._go)
            self._go = -1
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()


async def unpack_file(archive: str, target: str, bounds: unpack.Bounds, source: str) -> int:
    """Unpack in a limited child process; the bytes unpacked. CannotRun with the child's reason."""
    size = (await asyncio.to_thread(os.stat, archive)).st_size
    unpacking = await Unpacking.start(archive, target, bounds, source, size)
    try:
        return await unpacking.run()
    finally:
        await unpacking.end()


def _key(artifacts: Sequence[Artifact]) -> str:
    """Content: where from and which version, under which name. Not the URL, which is signed anew each time."""
    parts = [[a.source, a.etag.strip('"'), a.size, a.archive, a.name] for a in artifacts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


async def _ended(entry: _Entry) -> None:
    """A fetch that nobody wants any more leaves no child process behind."""
    if not entry.users and not entry.work.done():
        await asyncio.wait([entry.work])


def _good(work: asyncio.Task[str]) -> bool:
    return work.done() and not work.cancelled() and work.exception() is None


def _place(tree: str, artifact: Artifact) -> str:
    """Where a single file goes below its target; an object's key may hold anything."""
    try:
        parts = unpack.clean_path(os.fsencode(artifact.name or artifact.source.rsplit("/", 1)[-1]))
    except unpack.Refused as refused:
        raise cannot("fetch-failed", f"{artifact.source}: {refused.message}.") from None
    if not parts:
        raise cannot("fetch-failed", f"{artifact.source}: an object without a name cannot become a file.")
    path = os.path.join(tree, *(os.fsdecode(part) for part in parts))
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise cannot("fetch-failed", f"{artifact.source}: another object has the name of its folder.") from None
    return path


def _complete(making: str, final: str, total: int, source: str) -> None:
    with open(f"{making}/about.json", "w") as file:
        json.dump({"bytes": total, "source": source}, file)
    for folder in (making, f"{making}/tree"):
        os.chmod(folder, 0o755)  # noqa: S103  replicas have users of their own and must read it
    os.rename(making, final)


def _disk_failure(error: OSError, source: str) -> CannotRun:
    if error.errno in (28, 122):
        return cannot("disk-full", f"{source}: the disk is full.", "free space in slipway's data directory")
    return cannot("fetch-failed", f"{source}: {error.strerror or error}.")


def _boot_id() -> str:
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return "unknown"
