"""Ports for programs that have to be told theirs before they bind it."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """One that is free, and that the kernel gives nobody of itself: below those of outgoing connections (Linux: from 32768).

    So nobody takes it between here and its use, as might happen to one that was bound to 0 and let go.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
