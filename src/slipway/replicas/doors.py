"""How a replica is reached and how it reports: opened by the keeper, handed to the host as descriptors.

The run folder itself a model may only read. One that could write there could fill the disk, or put a link to somebody else's
socket in the place of its own, and the gateway would follow it with rights of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket

import msgspec

from slipway.core.replicas import Failure
from slipway.link.channel import bind_unix

BACKLOG = 1024
_REPORT_BYTES = 64 * 1024
"""What a pipe holds, and a host writes, at most."""
_KINDS = frozenset(
    (
        "no-model",
        "syntax-error",
        "import-error",
        "model-fn-error",
        "pickle-version",
        "exited",
        "out-of-memory",
        "requirements",
        "isolation",
        "disk-full",
        "start-timeout",
        "no-ping",
        "no-serve",
        "internal",
    )
)
"""What a host may say of itself."""


class _Told(msgspec.Struct):
    kind: str
    message: str
    mend: str = ""
    traceback: list[str] = []


class Doors:
    """`host.sock`, one `w<n>.sock` for each worker, all listening, and a pipe for one report of failure."""

    def __init__(self, run_dir: str, workers: int) -> None:
        """Raises OSError, with nothing left open."""
        self.addresses = tuple(f"unix:{run_dir}/w{number}.sock" for number in range(workers))
        self._sockets: list[socket.socket] = []
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        try:
            for path in (f"{run_dir}/host.sock", *(address.removeprefix("unix:") for address in self.addresses)):
                self._sockets.append(_listen(path))
        except OSError:
            self.close()
            raise

    def config(self) -> dict[str, object]:
        """For config.json: numbers of descriptors, the host's own socket first."""
        return {"sockets": [sock.fileno() for sock in self._sockets], "report": self._writing}

    def descriptors(self) -> list[int]:
        return [*(sock.fileno() for sock in self._sockets), self._writing]

    def handed_over(self) -> None:
        """The host has them: with our copies closed, its death is seen by whoever connects."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def failure(self) -> Failure | None:
        """What the host said before it gave up: the first line that can be believed in form. It is a model's word: bounded."""
        data = b""
        with contextlib.suppress(OSError):
            while len(data) < _REPORT_BYTES and (piece := os.read(self._reading, _REPORT_BYTES)):
                data += piece
        for line in data.split(b"\n"):
            with contextlib.suppress(msgspec.DecodeError):
                told = msgspec.json.decode(line, type=_Told)
                kind = told.kind if told.kind in _KINDS else "exited"
                tail = tuple(line[:2000] for line in told.traceback[-50:])
                return Failure(kind, told.message[:2000], tail, mend=told.mend[:1000])
        return None

    def close(self) -> None:
        """Safe to repeat."""
        self.handed_over()
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1


def _listen(path: str) -> socket.socket:
    """For the keeper's own user alone; blocking, as whoever inherits it expects."""
    sock = bind_unix(path)
    sock.setblocking(True)
    sock.listen(BACKLOG)
    return sock
