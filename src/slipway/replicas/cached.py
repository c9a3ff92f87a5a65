"""The environments of a cache folder: how large, who runs in them, when they were last wanted; and removing them.

Beside an environment `<key>/` lie `<key>.used` (its time: last wanted; its text: the image that wanted it) and `<key>.uses/`,
a file for each replica that runs in it. Each such file is locked by the keeper for as long as the replica is there, so that
what a dead keeper left behind counts for nothing. Several slipways may share a cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

COMPLETE = ".complete"
"""In an environment: it can be used. Holds its title."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A complete environment."""

    folder: Path
    title: str
    built: datetime
    used: datetime
    """When it was last wanted, by a replica or a command."""
    image: str
    """The image that it was last wanted for; empty: unknown."""
    users: tuple[str, ...]
    """Labels of the replicas that run in it now."""

    @property
    def bytes(self) -> int:
        """Of its files on disk, each counted once; those that it shares with another environment count in both."""
        sizes = {}
        for root, _, names in os.walk(self.folder):
            for name in names:
                found = os.lstat(f"{root}/{name}")
                sizes[found.st_ino] = found.st_blocks * 512
        return sum(sizes.values())


def note_use(path: str, image: str) -> None:
    """`image` wants the environment now. Never fails: a cache that may only be read serves as well."""
    with contextlib.suppress(OSError):
        Path(f"{path}.used").write_text(image + "\n")


def hold(path: str, replica: str, label: str) -> Callable[[], None]:
    """Keep the environment for a replica until the returned function is called, or this process ends.

    `label`: whose it is, for people. Raises FileNotFoundError: it is gone, somebody has just removed it.
    """
    folder = f"{path}.uses"
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    file = f"{folder}/{replica}"
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    os.pwrite(fd, label.encode(), 0)

    def release() -> None:
        with contextlib.suppress(OSError):
            os.unlink(file)
        os.close(fd)

    # The lock first, then the look: who removes it looks for locks after it has taken it out of sight.
    if not os.path.exists(f"{path}/{COMPLETE}"):
        release()
        raise FileNotFoundError(path)
    return release


def list_cached(cache_dir: str) -> Iterator[Cached]:
    """By title. Blocking, as everything here."""
    found = []
    for mark in Path(cache_dir).glob(f"environments/*/{COMPLETE}"):
        with contextlib.suppress(FileNotFoundError):  # somebody removes it at this moment
            built = mark.stat().st_mtime
            note = Path(f"{mark.parent}.used")
            used, image = (note.stat().st_mtime, note.read_text().strip()) if note.exists() else (built, "")
            users = tuple(_users(str(mark.parent)))
            found.append(Cached(mark.parent, mark.read_text().strip(), _when(built), _when(max(built, used)), image, users))
    yield from sorted(found, key=lambda each: (each.title, each.built))


def remove(cached: Cached) -> bool:
    """False: a replica has come to use it meanwhile, and it stays."""
    mark = cached.folder / COMPLETE
    aside = cached.folder / f"{COMPLETE}-removing"
    try:
        mark.rename(aside)
    except FileNotFoundError:
        return True
    if any(_users(str(cached.folder))):
        aside.rename(mark)
        return False
    shutil.rmtree(cached.folder)
    shutil.rmtree(f"{cached.folder}.uses", ignore_errors=True)
    Path(f"{cached.folder}.used").unlink(missing_ok=True)
    return True


def _users(path: str) -> Iterator[str]:
    """Files of the living: those that cannot be locked."""
    folder = f"{path}.uses"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        try:
            fd = os.open(f"{folder}/{name}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield os.pread(fd, 1000, 0).decode("utf-8", "replace") or name
        finally:
            os.close(fd)


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone()
