"""One `GET /ping` over a unix socket. The answer is a model's word: bounded."""

from __future__ import annotations

import asyncio
import re


async def ping(run_dir: str, wait: float = 0.0) -> bool:
    """True: a good answer. `wait`: our host holds its answer until it is ready, at most so many seconds."""
    target = f"/ping?wait={wait:g}" if wait else "/ping"
    writer = None
    try:
        async with asyncio.timeout(2.0 + wait):
            reader, writer = await asyncio.open_unix_connection(f"{run_dir}/host.sock", limit=8192)
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
            return re.match(rb"HTTP/1\.[01] 200\b", line) is not None
    except (OSError, TimeoutError, asyncio.LimitOverrunError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.close()
