"""`slipway logs ENDPOINT`: what its containers printed, from CloudWatch Logs' own calls."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import Any

from slipway.cli.client import ClientError, connect, one_line
from slipway.cli.options import UsageError, add_location
from slipway.names import endpoint_log_group

EXAMPLE = "  slipway logs my-endpoint\n  slipway logs my-endpoint -f --filter ERROR"
POLL_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_location(parser)
    parser.add_argument("endpoint", help="name of the endpoint (or a whole log group, beginning with /)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines arrive")
    parser.add_argument(
        "-n", "--lines", type=int, default=1000, metavar="N", help="the last N lines to begin with (default: 1000)"
    )
    parser.add_argument("--filter", default="", metavar="PATTERN", help="only lines that match this CloudWatch Logs pattern")


def run(args: argparse.Namespace) -> int:
    client = connect(args, "logs")
    group = args.endpoint if args.endpoint.startswith("/") else endpoint_log_group(args.endpoint)
    with one_line():
        try:
            events = _since(client, group, args.filter, 0)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            raise UsageError(f"no log of {args.endpoint!r}: `slipway status` lists the endpoints") from None
        _show(events[-args.lines :])
        if args.follow:
            _follow(client, group, args.filter, events)
    return 0


def _follow(client: Any, group: str, pattern: str, events: list[dict[str, Any]]) -> None:
    """Print what is new, for ever."""
    seen = {event["eventId"] for event in events}
    while True:
        time.sleep(POLL_SECONDS)
        start = max((event["timestamp"] for event in events), default=0)
        fresh = [event for event in _since(client, group, pattern, start) if event["eventId"] not in seen]
        _show(fresh)
        if fresh:
            seen = {event["eventId"] for event in events[-10_000:]} | {event["eventId"] for event in fresh}
            events = fresh


def _since(client: Any, group: str, pattern: str, start: int) -> list[dict[str, Any]]:
    """All events from `start` (milliseconds) on, over the group's streams, in order."""
    arguments: dict[str, Any] = {"logGroupName": group, "startTime": start}
    if pattern:
        arguments["filterPattern"] = pattern
    events: list[dict[str, Any]] = []
    while True:
        answer = client.filter_log_events(**arguments)
        events += answer["events"]
        if "nextToken" not in answer:
            return sorted(events, key=lambda event: event["timestamp"])
        arguments["nextToken"] = answer["nextToken"]


def _show(events: list[dict[str, Any]]) -> None:
    for event in events:
        when = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        print(f"{when} {event['logStreamName']}  {event['message']}")
    sys.stdout.flush()
