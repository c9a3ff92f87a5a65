"""Directory images: folders with a server of their own, registered under a name and run in place of a Docker image.

`<cache>/images/<name>.json` holds one registration. The folder itself is not copied: what lies in it when a replica starts is
what runs. An image URI means a registered one by its whole text, by `repository:tag` or by `repository`, in this order.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import quote, unquote

from slipway.core.dockerfile import BIND_TO_PORT, Dockerfile, DockerfileError, expand, parse_dockerfile
from slipway.core.images import parse_image
from slipway.replicas.failures import cannot
from slipway_host.entry import obstacle

PROGRAM = "/opt/program"
"""Where the folder is seen inside, unless its Dockerfile's WORKDIR says otherwise (containers.md 1.11)."""
CONTAINER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?")
_TAKEN = ("/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt/ml", "/proc", "/run", "/sbin", "/sys", "/tmp")  # noqa: S108
_MAX_DOCKERFILE = 256 * 1024


@dataclass(frozen=True, slots=True)
class DirectoryImage:
    """One registration, complete: starting it reads nothing but the folder."""

    name: str
    folder: str
    working_dir: str = PROGRAM
    """Where the folder is seen inside, and where its server starts."""
    command: tuple[str, ...] = ("serve",)
    environment: tuple[tuple[str, str], ...] = ()
    """ENV, in order, variables not filled in."""
    labels: tuple[tuple[str, str], ...] = ()
    bind_to_port: bool = False
    """It listens on $SAGEMAKER_BIND_TO_PORT: it shares the machine's network, and may reach out."""
    interpreter: str = ""
    """Of the Python environment that is first on its PATH; empty: none."""
    python: tuple[int, ...] = ()
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    vendored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def variables(self, python_path: str, folder: str) -> dict[str, str]:
        """PATH and ENV. `python_path`: the environment's folder, or empty; `folder`: where the image's files are seen."""
        places = [f"{python_path}/bin"] if python_path else []
        known = {"PATH": ":".join([*places, folder, CONTAINER_PATH])}
        return {**known, **expand(self.environment, known)}


class DirectoryImages:
    """The registrations in one cache folder."""

    def __init__(self, cache_dir: str) -> None:
        self._folder = f"{cache_dir}/images"

    def add(self, image: DirectoryImage) -> None:
        """A name that is there already is replaced. OSError."""
        os.makedirs(self._folder, exist_ok=True)
        path = self._path(image.name)
        with open(f"{path}.new", "w") as file:
            json.dump(asdict(image), file, indent=1)
        os.replace(f"{path}.new", path)

    def remove(self, name: str) -> bool:
        """False: there is none of that name."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))
            return True
        return False

    def all(self) -> list[DirectoryImage]:
        names = []
        with contextlib.suppress(FileNotFoundError):
            names = [entry.removesuffix(".json") for entry in os.listdir(self._folder) if entry.endswith(".json")]
        found = (self.get(unquote(name)) for name in sorted(names))
        return [image for image in found if image is not None]

    def get(self, name: str) -> DirectoryImage | None:
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError), open(self._path(name)) as file:
            return _read(json.load(file))
        return None

    def find(self, uri: str) -> DirectoryImage | None:
        """What the image URI `uri` means; None: no registered one."""
        parsed = parse_image(uri)
        names = [uri, f"{parsed.repository}:{parsed.tag}", parsed.repository]
        for name in names:
            if _NAME.fullmatch(name) and (image := self.get(name)) is not None:
                return image
        return None

    def _path(self, name: str) -> str:
        return f"{self._folder}/{quote(name, safe='')}.json"


def _read(values: Any) -> DirectoryImage:
    """TypeError for what is no registration."""
    if not isinstance(values, dict):
        raise TypeError("a registration is an object")
    known = {field.name for field in fields(DirectoryImage)}
    out = {name: _frozen(value) for name, value in values.items() if name in known}
    return DirectoryImage(**out)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def describe(name: str, folder: str, *, dockerfile: str | None = None, bind_to_port: bool = False) -> DirectoryImage:
    """A registration from what lies in `folder`, without a Python environment yet. CannotRun (no-serve) says what is wrong.

    `dockerfile`: its path; None: `<folder>/Dockerfile`, if there is one.
    """
    if not _NAME.fullmatch(name):
        raise cannot(
            "no-serve", f"{name!r} cannot name an image", "use small letters, digits, and . _ - between them, as in my-model:1"
        )
    if parse_image(name).framework != "byoc":
        raise cannot("no-serve", f"{name!r} is the name of one of AWS's own images", "choose another name")
    folder = os.path.realpath(folder)
    if not os.path.isdir(folder):
        raise cannot("no-serve", f"{folder} is no folder", "give the folder that holds `serve`")
    file = dockerfile or f"{folder}/Dockerfile"
    parsed = _dockerfile(file) if dockerfile or os.path.isfile(file) else Dockerfile()
    notes = []
    working_dir = parsed.working_dir or PROGRAM
    if not _usable(working_dir):
        notes.append(f"WORKDIR {working_dir} cannot be the image's folder: it is seen at {PROGRAM}")
        working_dir = PROGRAM
    if parsed.shell:
        notes.append("ENTRYPOINT is in shell form: its server gets neither the argument `serve` nor SIGTERM; use the exec form")
    labels = dict(parsed.labels)
    bind_to_port = bind_to_port or labels.get(BIND_TO_PORT, "").lower() == "true"
    command = (*parsed.entrypoint, *(() if parsed.shell else ("serve",)))
    return DirectoryImage(
        name, folder, working_dir, command, parsed.environment, parsed.labels, bind_to_port, notes=tuple(notes)
    )


def check(image: DirectoryImage, python_path: str) -> None:
    """CannotRun (no-serve) when its command could not be started here."""
    variables = image.variables(python_path, image.folder)
    program = image.command[0]
    if program.startswith(f"{image.working_dir}/"):
        program = image.folder + program.removeprefix(image.working_dir)
    path = variables["PATH"].replace(image.working_dir, image.folder)
    found = obstacle(program, path, image.folder)
    if found is None:
        found_mode = os.stat(image.folder).st_mode
        if os.geteuid() != 0 or found_mode & 0o005 == 0o005:
            return
        message, mend = (
            "The folder cannot be read by other users, and replicas are other users.",
            f"chmod -R a+rX {image.folder}",
        )
        raise cannot("no-serve", message, mend)
    nested = [entry.name for entry in os.scandir(image.folder) if os.path.isfile(f"{entry.path}/serve")]
    if program == "serve" and not os.path.exists(f"{image.folder}/serve") and nested:
        raise cannot("no-serve", found.message, f"it is in {nested[0]}: register {image.folder}/{nested[0]}")
    raise cannot("no-serve", found.message, found.mend)


def _dockerfile(path: str) -> Dockerfile:
    try:
        with open(path, encoding="utf-8") as file:
            return parse_dockerfile(file.read(_MAX_DOCKERFILE))
    except (OSError, UnicodeDecodeError) as error:
        raise cannot("no-serve", f"{path} cannot be read: {error}", "give another with --dockerfile") from None
    except DockerfileError as error:
        raise cannot("no-serve", f"{path} cannot be understood: {error}", "correct that line") from None


def _usable(path: str) -> bool:
    """Whether the folder can be shown at `path` without covering what others need."""
    clean = re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path) is not None and os.path.normpath(path) == path
    return (
        clean and not _within(path, _TAKEN) and path not in ("/usr", "/var", "/opt", "/home") and not path.startswith("/usr/")
    )


def _within(path: str, tops: Sequence[str]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)
