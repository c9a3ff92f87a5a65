"""`slipway doctor`: what this machine has and lacks, each with its mend."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.cli.environment import running
from slipway.cli.options import add_options, build_settings
from slipway.replicas.cgroups import Cgroups
from slipway.replicas.devices import find_devices
from slipway.replicas.sandbox import Sandbox
from slipway.settings import Settings
from slipway.store.engines import StoreUnavailable, ask_version

EXAMPLE = "  slipway doctor\n  slipway doctor --port 9000 --database postgresql://localhost/slipway"
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    good: bool | None
    """None: works, with less than there could be."""
    told: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    settings = build_settings(args, os.environ)
    worst = 0
    for finding in _findings(settings):
        mark = {True: "ok  ", None: "less", False: "NO  "}[finding.good]
        print(f"{mark} {finding.what:14} {finding.told}")
        if finding.mend and finding.good is not True:
            print(f"{'':20}mend: {finding.mend}")
        worst = max(worst, finding.good is False)
    return worst


def _findings(settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", True, f"{version} at {sys.executable}; SQLite {sqlite3.sqlite_version}")
    yield _uv()
    yield _sandbox(settings)
    yield _memory_limits()
    yield _gpu()
    yield _port(settings)
    if settings.database_url is not None:
        yield _database(settings.database_url)
    yield from (_disk(what, Path(path)) for what, path in (("disk", settings.data_dir), ("cache disk", settings.cache_dir)))
    docker = shutil.which("docker")
    told = "the docker command is here; this version of slipway does not use it yet" if docker else "none; not needed"
    yield Finding("docker", True, told)


def _uv() -> Finding:
    path = Path(sys.executable).with_name("uv")
    found = str(path) if path.exists() else shutil.which("uv")
    if found is None:
        return Finding("uv", False, "not found: environments cannot be built", "pip install uv")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("uv", True, told)


def _sandbox(settings: Settings) -> Finding:
    if settings.sandbox == "off":
        return Finding("sandbox", None, "switched off: models run as you, and isolation is refused", "drop --sandbox off")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 (the probe runs as a user of its own and must get in)
        sandbox = Sandbox.probe(f"{folder}/etc")
    return Finding("sandbox", None if sandbox.bwrap is None else True, sandbox.name, sandbox.mend)


def _memory_limits() -> Finding:
    groups = Cgroups.probe(f"slipway-doctor-{os.getpid()}")
    try:
        if groups.version:
            return Finding("memory limits", True, f"cgroup v{groups.version}, controllers {', '.join(sorted(groups.parents))}")
        told = f"no cgroups ({groups.reason}): a data-segment limit stands in"
        return Finding("memory limits", None, told, "run as root, or let your session delegate cgroups")
    finally:
        groups.close()


def _gpu() -> Finding:
    found = find_devices()
    if not found:
        return Finding("gpu", True, "no CUDA device; images for gpu run on the CPU")
    told = ", ".join(f"{device.index}: {device.name or device.node}" for device in found)
    if not os.path.exists("/dev/nvidia-uvm"):
        return Finding(
            "gpu", None, f"{told}; /dev/nvidia-uvm is missing, without which CUDA does not start", "nvidia-modprobe -u -c=0"
        )
    return Finding("gpu", True, told)


def _port(settings: Settings) -> Finding:
    found = running(Path(settings.data_dir))
    if found:
        return Finding("port", True, f"slipway (pid {found['pid']}) answers at {found['endpoint_url']}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            told = f"{settings.host}:{settings.port} cannot be had: {error.strerror}"
            return Finding("port", False, told, "stop what listens there, or give --port")
    return Finding("port", True, f"{settings.host}:{settings.port} is free")


def _database(url: str) -> Finding:
    try:
        return Finding("database", True, f"{ask_version(url)} answers")
    except StoreUnavailable as error:
        return Finding("database", False, str(error), "check --database, and that its server runs")


def _disk(what: str, path: Path) -> Finding:
    there = next(p for p in (path, *path.parents) if p.exists())
    if not os.access(there, os.W_OK):
        return Finding(what, False, f"{there} is not writable", "choose another folder (--data-dir, --cache-dir)")
    free = shutil.disk_usage(there).free
    told = f"{free / GIB:.1f} GiB free for {path}"
    return Finding(what, True if free > 5 * GIB else None, told, "an environment takes 0.2 to 1.5 GiB: make room")
