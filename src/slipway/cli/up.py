"""`slipway up`: the keeper in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from slipway.cli.options import add_options, build_settings
from slipway.roles import keeper

EXAMPLE = (
    "  slipway up\n"
    "  slipway up --port 9000 --data-dir ./data\n"
    "  slipway up --database postgresql://user:password@localhost/slipway\n"
    "  slipway up --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    settings = build_settings(args, os.environ)
    try:
        return asyncio.run(keeper.run(settings, announce=_announce))
    except keeper.CannotStart as error:
        print(f"slipway up: {error}", file=sys.stderr)
        return 1


def _announce(line: str) -> None:
    print(line, flush=True)
