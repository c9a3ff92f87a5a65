"""`slipway pack DIR`: a correct model.tar.gz from a folder, and what is wrong with one; nothing of it is executed."""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from slipway.cli.options import UsageError
from slipway.cli.pack_checks import JUNK, check_tree
from slipway.cli.pack_frameworks import NAMES, Finding
from slipway.replicas.unpack import Bounds, Refused, extract

EXAMPLE = (
    "  slipway pack my-model                        # writes model.tar.gz\n"
    "  slipway pack my-model -o v2/model.tar.gz --framework sklearn\n"
    "  slipway pack --check model.tar.gz"
)
BOUNDS = Bounds(1 << 40, 1_000_000, 1 << 20)
"""Of an archive to be looked at: this machine's own user made it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="DIR", help="the folder: the model's files, code/inference.py, code/requirements.txt")
    parser.add_argument("-o", "--output", default="model.tar.gz", metavar="FILE", help="the archive (default: model.tar.gz)")
    parser.add_argument(
        "--framework",
        default="",
        type=_framework,
        metavar="NAME",
        help=f"look also for what its image needs: {', '.join(NAMES)}",
    )
    parser.add_argument("--check", action="store_true", help="look at an archive (or a folder) and write nothing")


def _framework(text: str) -> str:
    name = "sklearn" if text == "scikit-learn" else text.partition(":")[0]
    if name and name not in NAMES:
        raise argparse.ArgumentTypeError(f"no framework {text!r}: choose from {', '.join(NAMES)}")
    return name


def run(args: argparse.Namespace) -> int:
    source = Path(args.source)
    if source.is_dir():
        findings = check_tree(source, args.framework)
    elif source.is_file():
        if not args.check:
            raise UsageError(f"{source} is no folder; to look at an archive: slipway pack --check {source}")
        findings = check_archive(source, args.framework)
    else:
        raise UsageError(f"there is no {source}")
    for finding in findings:
        print(finding, file=sys.stderr)
    if any(finding.wrong for finding in findings):
        return 1
    if args.check:
        print(f"{source} is in order" if not findings else f"{source} can be used")
        return 0
    names = pack(source, Path(args.output))
    size = Path(args.output).stat().st_size
    print(f"{args.output}: {len(names)} files, {size / 1024:.0f} KiB")
    return 0


def check_archive(path: Path, framework: str) -> list[Finding]:
    """What is wrong with an archive: unpacked exactly as it is for a replica, into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="slipway-pack-") as folder:
        try:
            target = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with path.open("rb", buffering=0) as file:
                    extract(file, target, BOUNDS)
            finally:
                os.close(target)
        except Refused as error:
            return [Finding(True, error.message[:1].upper() + error.message[1:], error.mend)]
        return check_tree(Path(folder), framework)


def files_of(folder: Path) -> list[str]:
    """What belongs into the archive, sorted; paths below `folder`. Links to folders are followed once, caches left out."""
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if name not in JUNK)
        if real in seen:
            continue
        seen.add(real)
        for name in names:
            path = os.path.join(place, name)
            if name not in JUNK and not name.startswith("._") and not name.endswith(".pyc") and os.path.isfile(path):
                found.append(os.path.relpath(path, folder))
    return sorted(found)


def layout(folder: Path) -> dict[str, str]:
    """Name in the archive → file below `folder`. Scripts that lie at the top, without a code folder, go into `code/`."""
    names = files_of(folder)
    loose = not any(name.startswith("code/") for name in names) and "inference.py" in names
    moved = [name for name in names if loose and "/" not in name and (name.endswith(".py") or name == "requirements.txt")]
    return {f"code/{name}" if name in moved else name: name for name in names}


def pack(folder: Path, output: Path) -> list[str]:
    """Write the archive, and rename it into place; the names in it. The same files give the same bytes."""
    members = layout(folder)
    part = output.with_name(f".{output.name}.{os.getpid()}")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", dereference=True, format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, file in members.items():
                if (folder / file).resolve() not in (output.resolve(), part.resolve()):
                    tar.add(folder / file, name, filter=_plain)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    return list(members)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's, and readable: owners of this machine mean nothing in a container."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry
