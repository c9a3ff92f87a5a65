"""Start a slipway of one's own in a folder, on a free port, and take it down again: `slipway run`, tests, the demo."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.cli.environment import client_environment, running
from slipway.cli.options import UsageError

START_SECONDS = 60.0


@dataclass(slots=True)
class Launched:
    """A running slipway."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    endpoint_url: str
    environment: dict[str, str]
    """AWS_ENDPOINT_URL, keys, region and the SDKs' file: what `slipway env` prints."""


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def start(data_dir: Path, arguments: Sequence[str] = (), *, log: Path | None = None) -> Launched:
    """`slipway up --port 0` as a child; returns once it answers. UsageError with its last words when it does not start."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log = log or data_dir / "up.log"
    command = [sys.executable, "-m", "slipway.cli.main", "up", "--data-dir", str(data_dir)]
    if "--port" not in arguments:
        command += ["--port", "0"]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*command, *arguments], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = running(data_dir)
        if found.get("pid") == process.pid:
            url = str(found["endpoint_url"])
            return Launched(data_dir, process, url, client_environment(data_dir, url))
        if process.poll() is not None:
            raise UsageError(f"slipway did not start: {_last_words(log)}")
        if time.monotonic() > deadline:
            process.kill()
            raise UsageError(f"slipway did not start within {START_SECONDS:.0f} s: see {log}")
        time.sleep(0.01)


def stop(launched: Launched, grace: float = 15.0) -> None:
    """As Ctrl-C would; kills what does not stop within `grace` seconds."""
    process = launched.process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def temporary(arguments: Sequence[str] = ()) -> Iterator[Launched]:
    """A slipway in a temporary folder for the length of a `with` block."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-run-"))
    try:
        launched = start(folder, arguments)
        try:
            yield launched
        finally:
            stop(launched)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def child_environment(launched: Launched) -> dict[str, str]:
    """This process's environment with the client's variables over it, and no other AWS identity."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_ENDPOINT_URL")}
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        environment.pop(name, None)
    return {**environment, **launched.environment}
