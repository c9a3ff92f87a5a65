"""What a pipeline that Spark saved itself needs: how to tell one, and a Java to run it."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from slipway.replicas.failures import cannot

OLDEST_JAVA = 17
"""What Spark 4 runs on."""
TESTED_JAVA = (17, 21)
_INSTALLED = "/usr/lib/jvm/*/bin/java"


@dataclass(frozen=True, slots=True)
class Java:
    home: str
    version: int
    readable: tuple[str, ...]
    """Folders that a sandbox must show: its own, and where Debian keeps its configuration."""


def needs_spark(flavour: str, model_dir: str | None) -> bool:
    """Whether the unpacked archive holds what `model.save(path)` writes, and no MLeap bundle."""
    if flavour != "sparkml" or model_dir is None:
        return False
    return os.path.isdir(f"{model_dir}/metadata") and not os.path.exists(f"{model_dir}/bundle.json")


def find_java(environ: Mapping[str, str], installed: str = _INSTALLED) -> Java:
    """The Java of JAVA_HOME, of PATH or of /usr/lib/jvm that Spark runs on. Runs each once: not for the event loop.

    CannotRun, kind environment, where there is none.
    """
    home = environ.get("JAVA_HOME", "")
    candidates = [f"{home}/bin/java"] if home else []
    candidates += filter(None, [shutil.which("java", path=environ.get("PATH", os.defpath))])
    candidates += sorted(glob.glob(installed))
    found: list[Java] = []
    for path in dict.fromkeys(os.path.realpath(candidate) for candidate in candidates):
        version = _version(path)
        if version:
            home = os.path.dirname(os.path.dirname(path))
            found.append(Java(home, version, _readable(home)))
    fitting = [java for java in found if java.version >= OLDEST_JAVA]
    if not fitting:
        there = f"; there is Java {', '.join(str(java.version) for java in found)}" if found else ""
        raise cannot(
            "environment",
            "The model archive holds a pipeline that Spark saved itself. It runs in Spark, which needs Java "
            f"{OLDEST_JAVA} or newer{there}.",
            "install one (Debian, Ubuntu: apt-get install default-jre-headless) or set JAVA_HOME, and start slipway again; or "
            "export the pipeline as an MLeap bundle, which needs no Java",
        )
    return next((java for java in fitting if java.version <= TESTED_JAVA[1]), fitting[0])


def _version(path: str) -> int:
    """The feature release, 8 for `1.8.0`; 0 for what is no Java."""
    try:
        told = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    return int(match[1]) if match else 0


def _readable(home: str) -> tuple[str, ...]:
    """The home, and the folder outside of it that its `conf` leads to."""
    files = [os.path.realpath(path) for path in glob.glob(f"{glob.escape(home)}/conf/*")]
    outside = {os.path.dirname(path) for path in files if re.match(r"/etc/[^/]*(java|jdk)", path)}
    return (home, *sorted(outside))
