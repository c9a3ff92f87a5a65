"""`slipway images`: the environments that stand in for SageMaker's images, and folders registered as images."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slipway.cli import images_directories
from slipway.cli.options import UsageError, add_location, build_settings
from slipway.core.images import parse_image
from slipway.replicas.cached import list_cached, remove
from slipway.replicas.devices import find_devices
from slipway.replicas.environments import Environments
from slipway.replicas.failures import CannotRun

EXAMPLE = (
    "  slipway images list\n"
    "  slipway images pull 683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3\n"
    "  slipway images show --python sagemaker-xgboost:1.7-1\n"
    "  slipway images add my-model ./container --python 3.11 --requirements container/requirements.txt\n"
    "  slipway images remove my-model\n"
    "  slipway images prune --unused-for 30"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|pull|show|add|remove|prune")
    actions.add_parser("list", help="registered folders, and environments in the cache")
    pull = actions.add_parser("pull", help="build the environment of an image, so that nothing is fetched later")
    pull.add_argument("image", help="image URI, or repository:tag")
    show = actions.add_parser("show", help="what runs for an image")
    show.add_argument("--python", action="store_true", help="print only its interpreter's path")
    show.add_argument("image", help="image URI, or repository:tag")
    images_directories.add_arguments(actions)
    prune = actions.add_parser("prune", help="remove the environments that no replica runs in")
    prune.add_argument("--unused-for", type=_days, default=0, metavar="DAYS", help="only those not wanted for so many days")
    for each in actions.choices.values():
        # Also behind the action, where people write them; there they are set only if they are given.
        _add_place(each, default=argparse.SUPPRESS)


def _add_place(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    add_location(parser, default=default)
    text = "where built environments lie (default: ~/.cache/slipway)"
    parser.add_argument("--cache-dir", metavar="DIR", default=default, help=text)


def run(args: argparse.Namespace) -> int:
    settings = build_settings(args, os.environ)
    if args.action == "list":
        return _list(settings.cache_dir)
    if args.action == "prune":
        return _prune(settings.cache_dir, timedelta(days=args.unused_for))
    environments = Environments(settings.cache_dir, gpu=bool(find_devices()))
    try:
        if args.action == "add":
            return asyncio.run(images_directories.add(environments, args, Progress()))
        if args.action == "remove":
            return images_directories.remove(environments, args.name)
        if args.action == "pull":
            return asyncio.run(_pull(environments, args.image))
        return asyncio.run(_show(environments, args.image, only_python=args.python))
    except CannotRun as error:
        failure = error.failure
        raise UsageError(": ".join(filter(None, (failure.message.rstrip("."), failure.mend)))) from None


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days <= 36500:
        raise argparse.ArgumentTypeError("a number of days from 0 to 36500")
    return days


def _list(cache: str) -> int:
    images_directories.show_all(Path(cache))
    rows = list(list_cached(cache))
    print(f"{'ENVIRONMENT':48} {'SIZE':>9}  {'BUILT':16}  {'LAST USED':16}  USED BY")
    for row in rows:
        used_by = ", ".join(sorted(set(row.users))) or "-"
        print(
            f"{row.title:48} {row.bytes / 1024**2:5.0f} MiB  {row.built:%Y-%m-%d %H:%M}  {row.used:%Y-%m-%d %H:%M}  {used_by}"
        )
    if not rows:
        print("none built yet: an image's environment is built when it is first used, or by `slipway images pull IMAGE`")
    return 0


def _prune(cache: str, unused_for: timedelta) -> int:
    freed = kept = 0
    for row in list_cached(cache):
        if datetime.now(UTC) - row.used < unused_for:
            kept += 1
            continue
        size = row.bytes
        if remove(row):
            freed += size
            print(f"removed {row.title}")
        else:
            kept += 1
            print(f"kept {row.title}: {', '.join(sorted(set(row.users))) or 'a replica'} runs in it")
    if not kept:
        shutil.rmtree(f"{cache}/uv", ignore_errors=True)  # what packages were unpacked to, shared with the environments
    print(f"{freed / 1024**2:.0f} MiB freed")
    return 0


class Progress:
    """Lines on a terminal overwrite each other; elsewhere each is printed once."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()

    def __call__(self, line: str) -> None:
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:{width}}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.terminal:
            print(file=sys.stderr)


async def _pull(environments: Environments, image: str) -> int:
    progress = Progress()
    found = [await environments.ensure(image, progress)]
    if (await environments.runtime(image)).engine is not None:
        try:
            found.append(await environments.ensure(image, progress, engine=True))
        except CannotRun as error:
            progress.end()
            print(f"note: {error.failure.message} {error.failure.mend}")
    progress.end()
    for environment in found:
        print(f"{environment.title} is ready")
        for note in environment.notes:
            print(f"note: {note}")
    return 0


async def _show(environments: Environments, image: str, *, only_python: bool) -> int:
    if only_python:
        environment = await environments.ensure(image, Progress())
        if not environment.python:
            raise UsageError(f"{image} was registered without a Python environment")
        print(environment.python)
        return 0
    runtime = await environments.runtime(image)
    if runtime.directory is not None:
        images_directories.show(runtime.directory)
        return 0
    parsed = parse_image(image)
    print(f"image      {image}")
    print(f"asks for   {parsed.framework} {parsed.version} ({parsed.device})")
    print(f"runs       {runtime.title}")
    print(f"packages   {', '.join(runtime.requirements) or 'none'}")
    if runtime.engine is not None:
        print(f"or runs    {runtime.engine.title}, with Java, where the archive needs it")
    for note in runtime.notes:
        print(f"note       {note}")
    return 0
