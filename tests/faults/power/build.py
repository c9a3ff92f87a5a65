"""Compile the shim, and run a workload under it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("writelog.c")


def compiler() -> str:
    """A C compiler; the test is skipped without one, but never in CI."""
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a C compiler: .ci/run installs it")
        pytest.skip("the write log is a preloaded C shim: install gcc and libc6-dev")
    return found


def shim(folder: Path) -> Path:
    library = folder / "writelog.so"
    if not library.exists():
        fresh = folder / f"writelog.{os.getpid()}.so"
        command = [
            compiler(),
            "-shared",
            "-fPIC",
            "-O1",
            "-D_LARGEFILE64_SOURCE",
            "-o",
            str(fresh),
            str(SOURCE),
            "-ldl",
            "-lpthread",
        ]
        subprocess.run(command, check=True, capture_output=True)
        fresh.rename(library)
    return library


def run(library: Path, root: Path, module: str, *arguments: str, log: Path | None = None, fault: str = "") -> int:
    """Run `python -m module root …` with what it writes below `root` logged, or refused; its exit code."""
    root.mkdir(parents=True, exist_ok=True)
    told = {"LD_PRELOAD": str(library), "WRITELOG_ROOT": str(root), "WRITELOG_FAULT": fault}
    if log is not None:
        told["WRITELOG_LOG"] = str(log)
    if not fault:
        del told["WRITELOG_FAULT"]
    command = [sys.executable, "-m", module, str(root), *arguments]
    return subprocess.run(command, env={**os.environ, **told}, timeout=120, check=False).returncode
