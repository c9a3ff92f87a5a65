"""`slipway COMMAND`: finds the command's module, shows its help, turns its errors into one line."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from typing import NoReturn, Protocol, cast

from slipway import __version__
from slipway.cli.options import UsageError

COMMANDS = {
    "up": "start slipway and stay in the foreground",
    "run": "start a temporary slipway, run a command against it, tear it down",
    "env": 'print what a shell needs to talk to it: eval "$(slipway env)"',
    "status": "what runs: roles, endpoints, replicas",
    "logs": "print (and follow) an endpoint's log",
    "async": "asynchronous requests: list, status, cancel, replay, dead, purge, watch",
    "transform": "batch transform jobs: list, watch, report, stop",
    "scaling": "what scales an endpoint, what it decided and why: list, explain",
    "models": "what a multi-model endpoint has loaded, and why not the rest; pin, unpin, preload",
    "serve": "run one model in the foreground, load it again when its code changes",
    "pack": "make a correct model.tar.gz from a folder, or say what is wrong with one",
    "images": "what stands in for images: list, pull, show, add, remove, prune",
    "doctor": "look for what is missing on this machine",
}

_MODULES = {"async": "asynchronous"}
"""Where a command's module cannot have its name."""

_MENDS = {
    errno.ENOSPC: "make room there, or name another folder (--data-dir, --cache-dir)",
    errno.EDQUOT: "make room there, or name another folder (--data-dir, --cache-dir)",
    errno.EROFS: "name a folder that can be written (--data-dir, --cache-dir)",
    errno.EACCES: "name a folder that is yours (--data-dir, --cache-dir)",
    errno.EMFILE: "let processes open more files (ulimit -n)",
}
"""Errors of the machine that any command may meet; others are ours, and are shown whole."""


class Command(Protocol):
    """A command's module. Modules are loaded when called for: `slipway env` must not pay for the rest."""

    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    """A mistake is one line, like all others, and not the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`slipway {self.prog.split()[1]} --help` shows what it takes)")


def _overview() -> str:
    lines = [f"  {name:9} {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: slipway COMMAND [OPTIONS]",
            "",
            "Amazon SageMaker inference on your own machines.",
            "",
            *lines,
            "",
            'example: slipway up          then, in a second shell:   eval "$(slipway env)"',
            "`slipway COMMAND --help` tells more.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """The process's exit status: 0 done, 1 failed, 2 a mistake in the call."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"slipway {__version__}")
        return 0
    name = argv[0]
    if name not in COMMANDS:
        print(f"slipway: no command {name!r}: choose from {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return _run(name, argv[1:])
    except UsageError as error:
        print(f"slipway {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno not in _MENDS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"slipway {name}: {where}{error.strerror}: {_MENDS[error.errno]}", file=sys.stderr)
        return 1


def _run(name: str, argv: list[str]) -> int:
    command = cast("Command", importlib.import_module(f"slipway.cli.{_MODULES.get(name, name)}"))
    parser = _Parser(
        prog=f"slipway {name}",
        description=COMMANDS[name],
        epilog=f"example:\n{command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
