"""`slipway scaling list` and `slipway scaling explain ENDPOINT`: what scales, what was decided, and why nothing happens."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from slipway.cli.options import UsageError, add_location
from slipway.cli.own_routes import call

EXAMPLE = "  slipway scaling list\n  slipway scaling explain my-endpoint\n  slipway scaling explain my-endpoint --json"
HISTORY = 15
_COMPARISONS = {
    "GreaterThanThreshold": ">",
    "GreaterThanOrEqualToThreshold": "≥",
    "LessThanThreshold": "<",
    "LessThanOrEqualToThreshold": "≤",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_location(parser)
    parser.add_argument(
        "action", choices=("list", "explain"), help="list: all scalable targets; explain: one endpoint's scaling"
    )
    parser.add_argument("endpoint", nargs="?", help="name of the endpoint to explain")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--region", metavar="REGION", help="where the endpoint is (default: the one of `slipway env`)")


def run(args: argparse.Namespace) -> int:
    if args.action == "list":
        if args.endpoint is not None:
            raise UsageError("list takes no endpoint: `slipway scaling explain ENDPOINT` tells of one")
        found = call(args, "GET", "/_slipway/scaling", region=args.region)
        lines = _listing(found)
    else:
        if args.endpoint is None:
            raise UsageError("explain takes the name of an endpoint: `slipway scaling list` has them")
        found = call(args, "GET", f"/_slipway/scaling/{quote(args.endpoint, safe='')}", region=args.region)
        lines = explanation(found)
    print(json.dumps(found, indent=2, ensure_ascii=False) if args.json else "\n".join(lines))
    return 0


def _listing(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["targets"]:
        yield "no scalable target is registered (aws application-autoscaling register-scalable-target)"
        return
    width = max(len(f"{row['endpoint']}/{row['variant']}") for row in found["targets"])
    for row in found["targets"]:
        name = f"{row['endpoint']}/{row['variant']}".ljust(width)
        policies = ", ".join(row["policies"]) or "no policy"
        yield f"{name}  {row['capacity']} of {row['minimum']} to {row['maximum']}  {row['status']}  {policies}: {row['next']}"


def explanation(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines for a person."""
    kind = "asynchronous" if found["asynchronous"] else "real-time"
    backlog = f", backlog {found['backlog']}" if found["asynchronous"] else ""
    scale = f", time scale {found['time_scale']:g}" if found["time_scale"] != 1 else ""
    yield f"{found['endpoint']}: {kind} endpoint, {found['status']}{backlog}{scale}"
    for doubt in found["doubts"]:
        yield f"  ! {doubt}"
    for target in found["targets"]:
        yield ""
        yield from _target(target, found["time_scale"])


def _target(target: Mapping[str, Any], scale: float) -> Iterator[str]:
    yield f"variant {target['variant']}: {_count(target['capacity'])}, limits {target['minimum']} to {target['maximum']}"
    for doubt in target["doubts"]:
        yield f"  ! {doubt}"
    decided = target["next"]
    goal = f"to {decided['desired']}: " if decided["desired"] != target["capacity"] else "nothing: "
    yield f"  next: {goal}{decided['why']}"
    if decided.get("cooldown_until"):
        yield f"        a cooldown ends at {_clock(decided['cooldown_until'])}"
    if target["scale_in_cooldown_left"]:
        yield f"  scale-in cooldown: {target['scale_in_cooldown_left']:.1f} s left"
    for policy in target["policies"]:
        yield from _policy(policy, scale)
    for action in target["scheduled_actions"]:
        due = f"next at {_moment(action['due'])}" if action["due"] else "never again"
        bounds = ", ".join(f"{name} {action[name]}" for name in ("minimum", "maximum") if action[name] is not None)
        yield f"  scheduled action {action['name']}: {action['schedule']} {action['timezone']}, {bounds}, {due}"
    if target["history"]:
        yield "  history, newest first:"
    for past in target["history"][:HISTORY]:
        yield f"    {_past(past)}"


def _policy(policy: Mapping[str, Any], scale: float) -> Iterator[str]:
    aim = f"target {policy['target']:g}" if "target" in policy else policy["steps"]
    yield f"  policy {policy['name']}: {policy['type']}, {aim}"
    for alarm in policy["alarms"]:
        comparison = f"{_COMPARISONS.get(alarm['comparison'], alarm['comparison'])} {alarm['threshold']:g}"
        value = "no datapoint" if alarm["value"] is None else f"last {alarm['value']:g}"
        missing = f", {alarm['missing']} of {alarm['periods']} datapoints missing" if alarm["missing"] else ""
        real = f" ({alarm['period'] / scale:g} s here)" if scale != 1 else ""
        over = f"{alarm['periods']} × {alarm['period']} s{real}"
        yield f"    {alarm['side']:4} {alarm['state']}: {alarm['metric']} {comparison} over {over}; {value}{missing}"
    if policy["scale_out_cooldown_left"]:
        yield f"    scale-out cooldown: {policy['scale_out_cooldown_left']:.1f} s left"
    for doubt in policy["doubts"]:
        yield f"    ! {doubt}"


def _past(past: Mapping[str, Any]) -> str:
    times = f" (×{past['repeated']}, last {_clock(past['until'])})" if past["repeated"] > 1 else ""
    if past["kind"] == "scaled":
        told = f"{past['from']} → {past['to']} {past['status']}: {past['cause']}; {past['why']}"
        if past["status"] == "Failed":
            told += f" [{past['message']}]"
    else:
        told = f"not scaled{' (' + past['code'] + ')' if past['code'] else ''}: {past['cause']}; {past['why']}"
    return f"{_clock(past['at'])} {told}{times}"


def _count(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"


def _moment(at: float) -> str:
    """With its day and zone: a schedule has a zone of its own, and may be days away."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")
