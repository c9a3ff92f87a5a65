"""`slipway env`: shell lines that point every AWS client of this shell here."""

from __future__ import annotations

import argparse
import os
import shlex

from slipway.cli.environment import client_environment
from slipway.cli.options import add_location, build_settings, data_directory

EXAMPLE = '  eval "$(slipway env)"\n  aws sts get-caller-identity'

# A token or a profile left in the shell would be sent along with our key.
UNSET = ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_location(parser)


def run(args: argparse.Namespace) -> int:
    settings = build_settings(args, os.environ)
    for name in UNSET:
        if name in os.environ:
            print(f"unset {name}")
    for name, value in client_environment(data_directory(args, os.environ), settings.endpoint_url).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0
