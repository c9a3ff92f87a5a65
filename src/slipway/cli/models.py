"""`slipway models ENDPOINT`: what a multi-model endpoint has loaded, how large, how used, and what had to go; pin, preload."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from slipway.cli.options import UsageError, add_location
from slipway.cli.own_routes import call
from slipway.core.models import WHY_UNLOADED

EXAMPLE = (
    "  slipway models my-endpoint\n"
    "  slipway models my-endpoint preload paris/model.tar.gz\n"
    "  slipway models my-endpoint pin paris/model.tar.gz\n"
    "  slipway models my-endpoint unpin paris/model.tar.gz"
)
SHOWN_EVICTIONS = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_location(parser)
    parser.add_argument("endpoint", help="name of a multi-model endpoint")
    parser.add_argument("action", nargs="?", choices=("pin", "unpin", "preload"), help="pin: load it, and never unload it")
    parser.add_argument("target", nargs="?", help="the model, as in TargetModel")
    parser.add_argument("--everywhere", action="store_true", help="preload and pin in every instance, not only the first")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--region", metavar="REGION", help="where the endpoint is (default: the one of `slipway env`)")


def run(args: argparse.Namespace) -> int:
    path = f"/_slipway/models/{quote(args.endpoint, safe='')}"
    if args.action is None:
        found = call(args, "GET", path, region=args.region)
        print(json.dumps(found, indent=2, ensure_ascii=False) if args.json else "\n".join(shown(found)))
        return 0
    if args.target is None:
        raise UsageError(f"{args.action} takes a model: slipway models {args.endpoint} {args.action} TARGET")
    query = f"?target={quote(args.target, safe='')}" + ("&everywhere=1" if args.everywhere else "")
    found = call(args, "POST", f"{path}/{args.action}{query}", region=args.region)
    done = {"pin": "loaded and pinned", "preload": "loaded", "unpin": "not pinned any more"}[args.action]
    if args.action == "unpin" and not found["was_pinned"]:
        done = "it was not pinned"
    print(json.dumps(found) if args.json else f"{args.target}: {done}")
    return 0


def shown(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines for a person."""
    if not found["replicas"]:
        yield f"{found['endpoint']}: no instance is ready"
    for replica in found["replicas"]:
        measured = (
            f"{_mib(replica['used'])} of {_mib(replica['budget'])}" if replica["measured"] else "memory is its own matter"
        )
        loaded = sum(row["state"] == "loaded" for row in replica["models"])
        models = "1 model" if loaded == 1 else f"{loaded} models"
        yield f"{found['endpoint']}/{replica['variant']} {replica['replica']}: {models} loaded, {measured}"
        yield f"  models below {replica['prefix']}" + ("" if replica["cached"] else " (ModelCacheSetting Disabled)")
        width = max((len(row["target"]) for row in replica["models"]), default=0)
        for row in replica["models"]:
            yield "  " + _row(row, width)
        if replica["evictions"]:
            yield "  unloaded, newest first:"
        for past in replica["evictions"][:SHOWN_EVICTIONS]:
            why = WHY_UNLOADED.get(past["why"], past["why"])
            yield f"    {_clock(past['at'])} {past['target']} ({_mib(past['bytes'])}, {past['uses']} uses): {why}"


def _row(row: Mapping[str, Any], width: int) -> str:
    if row["state"] != "loaded":
        return f"{row['target'].ljust(width)}  {row['state']}"
    marks = [mark for mark, on in (("pinned", row["pinned"]), ("in use", row["busy"])) if on]
    told = f"{row['target'].ljust(width)}  {_mib(row['bytes']):>9}  {row['uses']:>6} uses, last {_ago(row['idle'])}"
    return told + (f"  {', '.join(marks)}" if marks else "")


def _mib(count: int) -> str:
    return f"{count / 1024 / 1024:.1f} MiB"


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")
