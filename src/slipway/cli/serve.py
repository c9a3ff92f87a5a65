"""`slipway serve DIR_OR_TARBALL`: one model in the foreground, with its log, loaded again when its code changes.

The same host and environment as behind an endpoint, without sandbox, store or signatures: `/ping` and `/invocations` on
loopback, for whoever writes the script.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

from slipway.cli.options import UsageError, add_location, build_settings
from slipway.cli.pack import BOUNDS
from slipway.cli.serve_loop import Loop, Order
from slipway.replicas.failures import CannotRun
from slipway.replicas.unpack import Refused, extract

EXAMPLE = (
    "  slipway serve my-model --framework sklearn          # my-model/code/inference.py\n"
    "  slipway serve model.tar.gz --framework xgboost:1.7 --port 9000 --profile\n"
    "  slipway serve my-model --image sagemaker-scikit-learn:1.2-1-cpu-py3 --debugger 5678\n"
    "  curl -H 'Content-Type: text/csv' -d 1,2,3 http://127.0.0.1:8080/invocations"
)
REPOSITORIES = {
    "sklearn": "sagemaker-scikit-learn",
    "scikit-learn": "sagemaker-scikit-learn",
    "xgboost": "sagemaker-xgboost",
    "pytorch": "pytorch-inference",
    "tensorflow": "tensorflow-inference",
    "huggingface": "huggingface-pytorch-inference",
    "mxnet": "mxnet-inference",
    "sparkml": "sagemaker-sparkml-serving",
    "linear-learner": "linear-learner",
}
_DEFAULT_TAGS = {"sagemaker-scikit-learn": "1.2-1-cpu-py3", "sagemaker-xgboost": "1.7-1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_location(parser)
    parser.add_argument("--cache-dir", metavar="DIR", help="where built environments lie (default: ~/.cache/slipway)")
    parser.add_argument("source", metavar="DIR_OR_TARBALL", help="the model's files, as in model.tar.gz, or that itself")
    parser.add_argument("--framework", metavar="NAME[:VERSION]", help=f"{', '.join(REPOSITORIES)}")
    parser.add_argument("--image", metavar="URI", help="instead of --framework: an image URI, or repository:tag")
    parser.add_argument("--port", type=int, default=8080, metavar="PORT", help="on 127.0.0.1 (default: 8080; 0: any free one)")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the model's Environment"
    )
    parser.add_argument("--debugger", type=int, default=0, metavar="PORT", help="wait there for a debugger (debugpy)")
    parser.add_argument("--profile", action="store_true", help="tell where the time of each request goes, handler by handler")


def run(args: argparse.Namespace) -> int:
    source = Path(args.source).absolute()
    if not source.exists():
        raise UsageError(f"there is no {source}")
    settings = build_settings(args, os.environ)
    with tempfile.TemporaryDirectory(prefix="slipway-serve-") as scratch:
        order = Order(
            source=source,
            image=image_of(args.framework, args.image),
            environment=variables(args.env),
            cache_dir=settings.cache_dir,
            scratch=Path(scratch),
            port=args.port,
            debugger=args.debugger,
            profile=args.profile,
            unpack=unpack,
        )
        try:
            asyncio.run(Loop(order).run())
        except KeyboardInterrupt:
            print("stopped")
        except CannotRun as error:
            failure = error.failure
            raise UsageError(": ".join(filter(None, (failure.message.rstrip("."), failure.mend)))) from None
    return 0


def image_of(framework: str | None, image: str | None) -> str:
    """The image URI that is meant. UsageError."""
    if bool(framework) == bool(image):
        raise UsageError("say which image serves it: --framework sklearn (or another), or --image URI")
    if image:
        return image
    name, _, version = (framework or "").partition(":")
    if name not in REPOSITORIES:
        raise UsageError(f"no framework {name!r}: choose from {', '.join(REPOSITORIES)}, or give --image")
    repository = REPOSITORIES[name]
    tag = version or _DEFAULT_TAGS.get(repository, "")
    return f"{repository}:{tag}" if tag else repository


def variables(pairs: list[str]) -> dict[str, str]:
    """NAME=VALUE as a mapping. UsageError."""
    if wrong := [pair for pair in pairs if "=" not in pair or not pair.partition("=")[0].isidentifier()]:
        raise UsageError(f"--env takes NAME=VALUE, not {wrong[0]!r}")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def unpack(archive: Path, folder: Path) -> None:
    """As a replica's archive is unpacked; UsageError says what is wrong with it."""
    folder.mkdir()
    target = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with archive.open("rb", buffering=0) as file:
            extract(file, target, BOUNDS)
    except Refused as error:
        raise UsageError(f"{archive}: {error.message}: {error.mend}") from None
    finally:
        os.close(target)
