"""`slipway images`: the environments that stand in for SageMaker's images."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from slipway.cli.options import UsageError, add_location, build_settings
from slipway.core.images import parse_image
from slipway.replicas.environments import Environments
from slipway.replicas.failures import CannotRun

EXAMPLE = (
    "  slipway images list\n"
    "  slipway images pull 683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3\n"
    "  slipway images show --python sagemaker-xgboost:1.7-1\n"
    "  slipway images prune"
)


@dataclass(frozen=True, slots=True)
class Built:
    """An environment in the cache."""

    folder: Path
    title: str
    when: datetime

    @property
    def bytes(self) -> int:
        return sum(each.stat().st_size for each in self.folder.rglob("*") if each.is_file() and not each.is_symlink())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_location(parser)
    parser.add_argument("--cache-dir", metavar="DIR", help="where built environments lie (default: ~/.cache/slipway)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|pull|show|prune")
    actions.add_parser("list", help="environments in the cache")
    pull = actions.add_parser("pull", help="build the environment of an image, so that nothing is fetched later")
    pull.add_argument("image", help="image URI, or repository:tag")
    show = actions.add_parser("show", help="what runs for an image")
    show.add_argument("--python", action="store_true", help="print only its interpreter's path")
    show.add_argument("image", help="image URI, or repository:tag")
    actions.add_parser("prune", help="remove every environment from the cache")


def run(args: argparse.Namespace) -> int:
    settings = build_settings(args, os.environ)
    cache = Path(settings.cache_dir)
    if args.action == "list":
        return _list(cache)
    if args.action == "prune":
        return _prune(cache)
    environments = Environments(settings.cache_dir)
    try:
        if args.action == "pull":
            return asyncio.run(_pull(environments, args.image))
        return asyncio.run(_show(environments, args.image, only_python=args.python))
    except CannotRun as error:
        failure = error.failure
        raise UsageError(": ".join(filter(None, (failure.message.rstrip("."), failure.mend)))) from None


def _built(cache: Path) -> Iterator[Built]:
    for mark in sorted(cache.glob("environments/*/.complete")):
        yield Built(mark.parent, mark.read_text().strip(), datetime.fromtimestamp(mark.stat().st_mtime, UTC).astimezone())


def _list(cache: Path) -> int:
    rows = list(_built(cache))
    print(f"{'ENVIRONMENT':40} {'SIZE':>9}  BUILT")
    for built in rows:
        print(f"{built.title:40} {built.bytes / 1024**2:5.0f} MiB  {built.when:%Y-%m-%d %H:%M}")
    if not rows:
        print("none built yet: scikit-learn and XGBoost images are built when first used, or by `slipway images pull IMAGE`")
    return 0


def _prune(cache: Path) -> int:
    freed = 0
    for built in list(_built(cache)):
        freed += built.bytes
        shutil.rmtree(built.folder)
        print(f"removed {built.title}")
    shutil.rmtree(cache / "uv", ignore_errors=True)
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
    environment = await environments.ensure(image, progress)
    progress.end()
    print(f"{environment.title} is ready")
    for note in environment.notes:
        print(f"note: {note}")
    return 0


async def _show(environments: Environments, image: str, *, only_python: bool) -> int:
    if only_python:
        print((await environments.ensure(image, Progress())).python)
        return 0
    runtime = await environments.runtime(image)
    parsed = parse_image(image)
    print(f"image      {image}")
    print(f"asks for   {parsed.framework} {parsed.version} ({parsed.device})")
    print(f"runs       {runtime.title}")
    print(f"packages   {', '.join(runtime.requirements)}")
    for note in runtime.notes:
        print(f"note       {note}")
    return 0
