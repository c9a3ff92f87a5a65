"""`slipway status`: roles and replicas as the keeper knows them, endpoints as control answers."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterable, Sequence

from slipway.cli.client import connect, one_line
from slipway.cli.environment import running
from slipway.cli.options import UsageError, add_location, data_directory
from slipway.link.keeper import KeeperClient, KeeperStatus

EXAMPLE = "  slipway status\n  slipway status --data-dir ./data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_location(parser)


def run(args: argparse.Namespace) -> int:
    data_dir = data_directory(args, os.environ)
    found = running(data_dir)
    if not found:
        raise UsageError(f"no slipway runs in {data_dir}: type `slipway up` (or give --data-dir)")
    try:
        status = asyncio.run(_keeper(f"{found['run_dir']}/keeper.sock"))
    except (OSError, TimeoutError) as error:
        raise UsageError(f"the keeper (pid {found['pid']}) does not answer: {error}") from None
    print(f"{status.url}  pid {status.pid}, up {_duration(status.uptime)}, data in {status.data_dir}")
    print(f"sandbox: {status.sandbox}")
    for note in status.notes:
        print(f"note: {note}")
    _table(
        ("ROLE", "PID", "STATE", "RESTARTS", "MEMORY"),
        (
            (
                role.name,
                str(role.pid or "-"),
                "ready" if role.ready else "starting",
                str(role.restarts),
                _bytes(role.memory_bytes),
            )
            for role in status.roles
        ),
    )
    _endpoints(args)
    _table(
        ("REPLICA", "ENDPOINT", "PHASE", "PID", "RUNS"),
        (
            (state.id, state.owner.rsplit("/", 1)[-1], state.progress or state.phase, str(state.pid or "-"), state.image)
            for state in status.replicas
        ),
    )
    return 0


def _endpoints(args: argparse.Namespace) -> None:
    """Control may be away, or its store: all else is worth knowing then."""
    try:
        with one_line():
            pages = connect(args, "sagemaker").get_paginator("list_endpoints").paginate(SortBy="Name", SortOrder="Ascending")
            endpoints = [each for page in pages for each in page["Endpoints"]]
    except UsageError as error:
        print(f"\nENDPOINT\nunknown: {error}")
        return
    rows = (
        (each["EndpointName"], each["EndpointStatus"], each["LastModifiedTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S"))
        for each in endpoints
    )
    _table(("ENDPOINT", "STATUS", "SINCE"), rows)


async def _keeper(path: str) -> KeeperStatus:
    client = KeeperClient(path, timeout=5.0)
    client.open()
    try:
        return await client.status()
    finally:
        await client.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _bytes(count: int) -> str:
    return f"{count / 1024**2:.0f} MiB" if count else "-"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [head, *rows]
    if len(lines) == 1:
        lines.append(("none", *("" for _ in head[1:])))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    print()
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
