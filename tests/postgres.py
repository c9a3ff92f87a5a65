"""A PostgreSQL server of the tests' own: Debian's binaries, a temporary folder, a unix socket, and no fsync."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob

import psycopg

from tests.deadlines import PATIENCE


def binaries() -> str | None:
    """The folder of the newest installed server's programs; None: not installed."""
    found = sorted(glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[-2]))
    if found:
        return found[-1]
    initdb = shutil.which("initdb")
    return os.path.dirname(initdb) if initdb else None


@contextmanager
def server(programs: str) -> Iterator[Server]:
    folder = tempfile.mkdtemp(prefix="slipway-pg-")
    if os.geteuid() == 0:  # initdb and postgres refuse to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=INT"]
    else:
        prefix = ["setpriv", "--pdeathsig=INT"]
    found = Server(programs, folder, prefix)
    try:
        data = os.path.join(folder, "data")
        initdb = [*prefix, f"{programs}/initdb", "-D", data, "-U", "slipway", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run([*initdb, "--locale=C.UTF-8"], check=True, capture_output=True, cwd=folder)
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    def __init__(self, programs: str, folder: str, prefix: list[str]) -> None:
        self._programs = programs
        self._folder = folder
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://slipway@/{database}?host={self._folder}"

    def start(self) -> None:
        """Returns when it answers."""
        command = [*self._prefix, f"{self._programs}/postgres", "-D", os.path.join(self._folder, "data"), "-k", self._folder]
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"]
        self._process = subprocess.Popen(
            [*command, *options], cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """As if the machine had been cut off: connections break, what was committed is there after `start`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def create(self, database: str) -> str:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}" TEMPLATE template0'.encode())
        return self.url(database)

    def drop(self, database: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())
