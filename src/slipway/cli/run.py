"""`slipway run -- COMMAND`: a temporary slipway on a free port for the length of one command."""

from __future__ import annotations

import argparse
import subprocess

from slipway.cli.launch import child_environment, temporary
from slipway.cli.options import UsageError

EXAMPLE = "  slipway run -- pytest tests/\n  slipway run --option=--auth=none -- python deploy.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--option", action="append", default=[], metavar="OPTION", help="an option of `slipway up`, e.g. --option=--limits=off"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run, with its arguments")


def run(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UsageError("nothing to run: name a command after --, e.g. `slipway run -- pytest`")
    with temporary(args.option) as launched:
        try:
            return subprocess.run(command, env=child_environment(launched), check=False).returncode
        except FileNotFoundError:
            raise UsageError(f"no command {command[0]!r} on this machine") from None
