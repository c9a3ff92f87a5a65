"""`slipway async`: asynchronous requests listed, explained, cancelled, replayed, purged and watched."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from slipway.cli.asynchronous_watch import watch
from slipway.cli.options import UsageError, add_location
from slipway.cli.own_routes import call

EXAMPLE = (
    "  slipway async list                        # endpoints and their queues\n"
    "  slipway async list my-endpoint --state queued,running\n"
    "  slipway async list my-endpoint --state failed --newer-than 1h\n"
    "  slipway async status 6f2c0b5e-0d1e-4b47-9a51-3c6f8f0d9a77\n"
    "  slipway async cancel 6f2c0b5e-0d1e-4b47-9a51-3c6f8f0d9a77\n"
    "  slipway async dead my-endpoint            # what died with its worker too often\n"
    "  slipway async replay my-endpoint          # all of those, once more\n"
    "  slipway async purge my-endpoint           # cancel all that is queued\n"
    "  slipway async watch my-endpoint           # a burst's progress, live"
)
STATES = ("queued", "running", "succeeded", "failed", "expired", "cancelled")
PAGE = 500
_ID = re.compile(r"\d{15,17}")
"""A request's own number, as lists show it; anything else is an InferenceId."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|status|cancel|replay|dead|purge|watch")
    _add_actions(actions)
    for each in actions.choices.values():
        # Also behind the action, where people write them; there they are set only if they are given.
        _add_place(each, default=argparse.SUPPRESS)


def _add_place(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    add_location(parser, default=default)
    text = "where the endpoint is (default: the one of `slipway env`)"
    parser.add_argument("--region", metavar="REGION", default=default, help=text)


def _add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = actions.add_parser("list", help="endpoints with their queues; with ENDPOINT: its requests")
    listing.add_argument("endpoint", nargs="?", metavar="ENDPOINT")
    listing.add_argument("--state", default="", metavar="STATES", help=f"any of {', '.join(STATES)}, with commas between")
    listing.add_argument("--older-than", metavar="TIME", help="received longer ago than this: 90, 10m, 2h, 1d")
    listing.add_argument("--newer-than", metavar="TIME", help="received within this time")
    listing.add_argument("--newest", action="store_true", help="the newest first")
    _add_page(listing)
    dead = actions.add_parser("dead", help="dead letters: requests whose worker died too often")
    dead.add_argument("endpoint", metavar="ENDPOINT")
    _add_page(dead)
    for name, text in (("status", "all there is to know of requests"), ("cancel", "end them, queued or running")):
        each = actions.add_parser(name, help=text)
        each.add_argument("request", metavar="INFERENCE_ID", help="or the number of one request, as `list` shows it")
        each.add_argument("--json", action="store_true", help="as JSON")
    replay = actions.add_parser("replay", help="do failed, expired or cancelled requests once more")
    replay.add_argument("request", metavar="INFERENCE_ID|ENDPOINT", help="a request; or an endpoint: all its dead letters")
    purge = actions.add_parser("purge", help="cancel everything that an endpoint has queued")
    purge.add_argument("endpoint", metavar="ENDPOINT")
    progress = actions.add_parser("watch", help="progress, until Ctrl-C or with --until-done")
    progress.add_argument("endpoint", metavar="ENDPOINT")
    progress.add_argument("--until-done", action="store_true", help="end when nothing is queued or running")
    progress.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="how often to look (default: 1)")


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="at most N requests (default: 50)")
    parser.add_argument("--json", action="store_true", help="one JSON object in each line")


def run(args: argparse.Namespace) -> int:
    if args.action == "watch":
        if all(each["endpoint"] != args.endpoint for each in _overview(args)):
            _expected(args)
        return watch(lambda: _overview(args), args.endpoint, args.every, until_done=args.until_done)
    lines = {
        "list": _list,
        "dead": _list,
        "status": _status,
        "cancel": _cancel,
        "replay": _replay,
        "purge": _purge,
    }[args.action](args)
    for line in lines:
        print(line)
    return 0


def _ask(args: argparse.Namespace, method: str, path: str, **query: Any) -> Any:
    given = {name: value for name, value in query.items() if value not in (None, "", False)}
    return call(args, method, f"/_slipway/async{path}{'?' if given else ''}{urlencode(given)}", region=args.region)


def _overview(args: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _ask(args, "GET", "")["endpoints"]
    return found


def _expected(args: argparse.Namespace) -> None:
    """UsageError where no request can ever be seen: watching would go on for ever."""
    path = f"/_slipway/scaling/{quote(args.endpoint, safe='')}"
    if not call(args, "GET", path, region=args.region)["asynchronous"]:
        raise UsageError(f"{args.endpoint} is a real-time endpoint: its configuration has no AsyncInferenceConfig")


def _list(args: argparse.Namespace) -> Iterator[str]:
    if args.endpoint is None:
        if args.state or args.older_than or args.newer_than or args.newest:
            raise UsageError(
                "which endpoint's requests? `slipway async list ENDPOINT` takes --state, --newer-than and the like"
            )
        found = _overview(args)
        yield from map(json.dumps, found) if args.json else overview_lines(found)
        return
    if args.lines < 1:
        raise UsageError("-n must be at least 1")
    rows = list(_requests(args))
    if args.json:
        yield from map(json.dumps, rows)
    elif not rows and all(each["endpoint"] != args.endpoint for each in _overview(args)):
        yield f"none: no asynchronous endpoint {args.endpoint} has had a request (`slipway async list` shows those)"
    else:
        yield from request_lines(rows)


def _requests(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    query: dict[str, Any] = {"endpoint": args.endpoint}
    if args.action == "dead":
        query |= {"dead": 1, "state": "failed"}
    else:
        now = time.time()
        if unknown := set(filter(None, args.state.split(","))) - set(STATES):
            raise UsageError(f"no state {', '.join(sorted(unknown))}: choose from {', '.join(STATES)}")
        query |= {"state": args.state, "order": "newest" if args.newest else None}
        query["until"] = None if args.older_than is None else f"{now - span(args.older_than):.3f}"
        query["since"] = None if args.newer_than is None else f"{now - span(args.newer_than):.3f}"
    left, after = args.lines, None
    while left > 0:
        found = _ask(args, "GET", "/requests", **query, after=after, limit=min(left, PAGE))
        yield from found["requests"]
        left -= len(found["requests"])
        after = found["next"]
        if after is None:
            return


def _status(args: argparse.Namespace) -> Iterator[str]:
    found = _ask(args, "GET", "/status", **_named(args.request))["requests"]
    if args.json:
        yield json.dumps(found, indent=2)
        return
    for index, request in enumerate(found):
        if index:
            yield ""
        yield from explanation(request, time.time())


def _cancel(args: argparse.Namespace) -> Iterator[str]:
    found = _ask(args, "POST", "/cancel", **_named(args.request))
    if args.json:
        yield json.dumps(found)
        return
    for ident in found["cancelled"]:
        yield f"{ident} is cancelled"
    for ident in found["ended"]:
        yield f"{ident} had ended before (`slipway async status {ident}`)"


def _replay(args: argparse.Namespace) -> Iterator[str]:
    requests: list[Mapping[str, Any]] = [{"inference_id": args.request}]
    if _ID.fullmatch(args.request):
        requests = [{"id": args.request}]
    elif any(each["endpoint"] == args.request for each in _overview(args)):
        args.action, args.endpoint, args.lines = "dead", args.request, 1_000_000
        requests = [{"id": each["id"]} for each in _requests(args)]
        if not requests:
            yield f"{args.request} has no dead letters"
    failed = 0
    for query in requests:
        told = _ask(args, "POST", "/replay", **query)["replayed"]
        if not told:
            raise UsageError("none of these requests failed, expired or was cancelled: there is nothing to replay")
        for each in told:
            if "error" in each:
                failed += 1
                yield f"{each['replay_of']} is not replayed: {each['error']}"
            else:
                yield f"{each['replay_of']} is queued again as {each['id']}: {each['output_location']}"
    if failed:
        raise UsageError(f"{failed} could not be replayed")


def _purge(args: argparse.Namespace) -> Iterator[str]:
    found = _ask(args, "POST", "/purge", endpoint=args.endpoint)
    yield f"{found['cancelled']} cancelled, {found['queued']} queued"


def _named(text: str) -> dict[str, str]:
    return {"id": text} if _ID.fullmatch(text) else {"inference_id": text}


def span(text: str) -> float:
    """Seconds of `90`, `10m`, `2h`, `1d`. UsageError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no length of time: write 90, 10m, 2h or 1d")
    return float(found[1]) * _SECONDS[found[2]]


# Words


def overview_lines(endpoints: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not endpoints:
        yield "no asynchronous endpoint has had a request here (invoke_endpoint_async)"
        return
    width = max(8, *(len(each["endpoint"]) for each in endpoints))
    heads = f"{'QUEUED':>8} {'RUNNING':>8} {'DONE':>9} {'FAILED':>7} {'EXPIRED':>8} {'CANCELLED':>9}  OLDEST"
    yield f"{'ENDPOINT':{width}}  {heads}"
    for each in endpoints:
        oldest = "-" if each["oldest_age"] is None else duration(each["oldest_age"])
        yield (
            f"{each['endpoint']:{width}}  {each['queued']:8} {each['running']:8} {each['succeeded']:9} {each['failed']:7} "
            f"{each['expired']:8} {each['cancelled']:9}  {oldest}"
        )


def request_lines(requests: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not requests:
        yield "none"
        return
    width = max(12, *(len(each["inference_id"]) for each in requests))
    yield f"{'REQUEST':17} {'INFERENCE ID':{width}} {'STATE':9} {'RECEIVED':19} {'AGE':>9} {'TRIES':>5}  RESULT"
    for each in requests:
        result = each["output_location"] if each["state"] == "succeeded" else _first_line(each["cause"] or "")
        yield (
            f"{each['id']:<17} {each['inference_id']:{width}} {each['state']:9} {moment(each['received'])} "
            f"{duration(each['age']):>9} {each['attempts']:5}  {result}"
        ).rstrip()


def explanation(request: Mapping[str, Any], now: float) -> Iterator[str]:
    """Everything of one request, a line for each thing worth saying."""
    state = request["state"] + (" (a dead letter)" if request["dead"] else "")
    yield f"{request['id']}  {request['endpoint']}  {state}"
    yield f"  inference id  {request['inference_id']}"
    yield f"  received      {moment(request['received'])}, {duration(now - request['received'])} ago"
    yield f"  input         {request['input_location'] or 'inline'}"
    yield from (f"  {name:13} {text}" for name, text in _course(request, now))
    yield from (f"  {name:13} {text}" for name, text in _told(request["notification"]))
    if request["replay_of"] is not None:
        yield f"  replay of     {request['replay_of']}"


def _course(request: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    state, tries = request["state"], request["attempts"]
    if state == "queued":
        yield "position", f"{request['position']} in its queue; expires in {duration(request['expires'] - now)}"
        if request["ready_at"] and request["ready_at"] > now:
            yield "next attempt", f"in {duration(request['ready_at'] - now)}"
        if request["cause"]:
            yield "last attempt", request["cause"]
    elif state == "running":
        if request["started"] is not None:
            yield "runs", f"on {request['instance']} ({request['variant']}) since {duration(now - request['started'])}"
        else:
            yield "runs", f"taken by a dispatcher {duration(now - (request['claimed'] or now))} ago, not yet in a container"
    else:
        yield "ended", f"{moment(request['finished'])}, after {duration(request['age'])}"
        if request["started"] is not None:
            where = f" on {request['instance']} ({request['variant']})" if request["instance"] else ""
            yield "ran", f"{duration(request['finished'] - request['started'])}{where}"
    if tries > 1 or state == "running":
        yield "attempt" if state == "running" else "attempts", str(tries)
    if state == "succeeded":
        yield "output", request["output_location"]
    elif state in ("failed", "expired", "cancelled"):
        yield "cause", request["cause"] or request["cause_kind"] or "unknown"
        if request["container_status"]:
            yield "answered", f"{request['container_status']} (the container)"
        if request["failure_location"]:
            yield "failure", request["failure_location"]


def _told(notification: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if notification is None:
        return
    said = f"not sent: {notification['error']}" if "error" in notification else f"message {notification['message']}"
    yield "notified", f"{notification['topic']}: {said}"
    for each in notification["deliveries"]:
        cause = f": {each['cause']}" if each["cause"] else ""
        yield "", f"{each['subscription']}: {each['state']} after {each['attempts']} attempts{cause}"


def moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 5 s`, `2 h 4 min`."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= 100 else f"{line[:99]}…"
