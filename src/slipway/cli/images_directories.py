"""`slipway images add | remove`: folders with a server of their own, registered as images."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slipway.cli.options import UsageError
from slipway.replicas.directory_images import DirectoryImage, DirectoryImages, check, describe
from slipway.replicas.environments import Environments
from slipway.replicas.images import OLDEST_PYTHON, Interpreter, find_interpreters, own_interpreter
from slipway.replicas.requirements import read_requirements

if TYPE_CHECKING:

    class Progress(Protocol):
        def __call__(self, line: str) -> None: ...

        def end(self) -> None: ...


def add_arguments(actions: Any) -> None:
    """The two commands, on the parser's actions."""
    add = actions.add_parser("add", help="register a folder with an executable `serve` as an image")
    add.add_argument("name", metavar="NAME", help="NAME, or NAME:TAG: what CreateModel's Image, or its repository, says")
    add.add_argument("folder", metavar="DIR", help="what the container would have in its WORKDIR")
    add.add_argument("--python", metavar="VERSION", help="give it a Python environment, first on its PATH (such as 3.11)")
    add.add_argument("--requirements", metavar="FILE", help="packages of that environment")
    add.add_argument(
        "--dockerfile", metavar="FILE", help="whose LABEL, ENV, ENTRYPOINT, WORKDIR count (default: DIR/Dockerfile)"
    )
    bind = "its server listens on $SAGEMAKER_BIND_TO_PORT: it shares this machine's network"
    add.add_argument("--bind-to-port", action="store_true", help=bind)
    remove = actions.add_parser("remove", help="forget a registered folder, which stays as it is")
    remove.add_argument("name", metavar="NAME")


async def add(environments: Environments, args: argparse.Namespace, progress: Progress) -> int:
    """Check the folder, build its environment, and only then register it. CannotRun, UsageError."""
    image = describe(args.name, args.folder, dockerfile=args.dockerfile, bind_to_port=args.bind_to_port)
    if args.python or args.requirements:
        image = _with_python(image, args.python, args.requirements)
    environment = await environments.ensure_directory(image, progress)
    if image.interpreter:
        progress.end()
    check(image, environment.path)
    environments.directories.add(image)
    show(image)
    return 0


def _with_python(image: DirectoryImage, version: str | None, requirements: str | None) -> DirectoryImage:
    found = _interpreter(version)
    image = replace(image, interpreter=found.path, python=found.version)
    if requirements is None:
        return image
    if not os.path.isfile(requirements):
        raise UsageError(f"there is no file {requirements}")
    wanted = read_requirements(os.path.realpath(requirements), os.environ)
    return replace(
        image,
        requirements=tuple(wanted.lines),
        constraints=tuple(wanted.constraints),
        options=tuple(wanted.options),
        vendored=tuple(wanted.vendored),
    )


def _interpreter(version: str | None) -> Interpreter:
    own = own_interpreter()
    if version is None or version in ("3", _shown(own)):
        return own
    others: Sequence[Interpreter] = find_interpreters()
    for other in others:
        if _shown(other) == version:
            return other
    installed = ", ".join(sorted({_shown(each) for each in (own, *others)}))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    raise UsageError(f"there is no Python {version} on this machine (installed: {installed}); it must be {oldest} or newer")


def _shown(interpreter: Interpreter) -> str:
    return ".".join(map(str, interpreter.version))


def remove(environments: Environments, name: str) -> int:
    if not environments.directories.remove(name):
        raise UsageError(f"no folder is registered as {name}; `slipway images list` shows those that are")
    print(f"removed {name}; endpoints that run it go on until they are changed")
    return 0


def show_all(cache: Path) -> None:
    """A table of registered folders; nothing when there are none."""
    images = DirectoryImages(str(cache)).all()
    if not images:
        return
    print(f"{'DIRECTORY IMAGE':24} {'PYTHON':7} FOLDER")
    for image in images:
        missing = "" if os.path.isdir(image.folder) else "  (it is gone)"
        print(f"{image.name:24} {'.'.join(map(str, image.python)) or '-':7} {image.folder}{missing}")
    print()


def show(image: DirectoryImage) -> None:
    """One registration, in full."""
    network = "the machine's, on $SAGEMAKER_BIND_TO_PORT" if image.bind_to_port else "its own, on port 8080, without a way out"
    print(f"image      {image.name}")
    print(f"folder     {image.folder}, seen as {image.working_dir}")
    print(f"command    {' '.join(image.command)}")
    print(f"network    {network}")
    if image.interpreter:
        print(f"python     {'.'.join(map(str, image.python))} ({image.interpreter})")
        print(f"packages   {', '.join(image.requirements) or 'none'}")
    for name, value in image.environment:
        print(f"variable   {name}={value}")
    for note in image.notes:
        print(f"note       {note}")
