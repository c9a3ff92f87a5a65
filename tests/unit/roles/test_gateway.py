"""The gateway's process: what it loads, how it starts, serves and stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from slipway.http.client import Pool
from slipway.http.messages import Request, Response
from slipway.http.server import Server
from slipway.link import channel
from slipway.link.routes import RouteFeed
from slipway.link.start import encode_start
from slipway.settings import Settings
from tests.deadlines import PATIENCE, Watch
from tests.unit.data.workers import replica, table, variant, workers

FORBIDDEN = (
    "sqlalchemy",
    "alembic",
    "botocore",
    "boto3",
    "obstore",
    "psycopg",
    "slipway.store",
    "slipway.replicas",
    "slipway.control",
)


def test_it_loads_neither_sql_nor_service_models() -> None:
    script = "import sys, slipway.roles.gateway; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "slipway.services.runtime.invoke" in loaded
    assert [name for name in loaded if name.startswith(FORBIDDEN)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
async def test_a_gateway_process(tmp_path: Path) -> None:
    """From its start line to SIGTERM: routes over the link, invocations, forwarding, memory; then a start without control."""
    settings = Settings(data_dir=str(tmp_path), run_dir=str(tmp_path), cache_dir=str(tmp_path), auth="none")
    feed = RouteFeed(expected=1)
    link = await channel.serve(settings.link_socket, feed.attach)

    waits = asyncio.Event()

    async def control(request: Request) -> Response:
        if request.target == b"/wait":  # a long poll
            waits.set()
            await asyncio.sleep(60)
        return Response(200, [], b"control " + request.target)

    server = Server(control)
    await server.start(path=settings.control_socket)
    sock = socket.create_server(("127.0.0.1", 0))
    pool = Pool(f"tcp:127.0.0.1:{sock.getsockname()[1]}")
    async with workers(tmp_path) as (worker,):
        feed.publish(table(1, variant(replica("r1", worker))))
        gateway = await start_gateway(settings, sock)
        assert await ask(pool, b"/x?y") == b"control /x?y"
        await asyncio.wait_for(feed.acknowledged(1), PATIENCE)
        assert await ask(pool, b"/endpoints/demo/invocations") == b"hello"
        assert proportional_kilobytes(gateway.pid) < 45_000
        poll = asyncio.ensure_future(ask(pool, b"/wait"))
        await asyncio.wait_for(waits.wait(), PATIENCE)
        asked = Watch()
        gateway.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.wait(), PATIENCE) == 0
        assert asked.free < 4, "what waits does not hold it longer than the keeper waits"
        poll.cancel()  # its connection was cut, and it waits for the next gateway
        assert isinstance((await asyncio.gather(poll, return_exceptions=True))[0], BaseException)
        await link.close()
        await feed.close()
        await server.stop(0.1)
        gateway = await start_gateway(settings, sock)
        assert await ask(pool, b"/endpoints/demo/invocations") == b"hello"
        gateway.kill()
        await gateway.wait()
    pool.close()
    sock.close()


async def start_gateway(settings: Settings, sock: socket.socket) -> asyncio.subprocess.Process:
    os.set_inheritable(sock.fileno(), True)
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "slipway.roles.gateway", stdin=asyncio.subprocess.PIPE, pass_fds=[sock.fileno()]
    )
    assert gateway.stdin is not None
    gateway.stdin.write(encode_start(settings, os.getpid(), sock.fileno()))
    gateway.stdin.close()
    return gateway


def proportional_kilobytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def ask(pool: Pool, target: bytes) -> bytes:
    response = await asyncio.wait_for(pool.request("POST", target, [(b"host", b"localhost")], b"hello"), PATIENCE)
    return await response.read(1000)


def test_settings_travel_as_json() -> None:
    settings = Settings("a", "b", "c")
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
