"""`slipway async`: its words, its spans of time, and the progress that `watch` shows."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cli import asynchronous
from slipway.cli.asynchronous import explanation, overview_lines, request_lines, span
from slipway.cli.asynchronous_watch import Progress, watch
from slipway.cli.main import main
from slipway.cli.options import UsageError

REQUEST: dict[str, Any] = {
    "id": 1_700_000_000_000_000,
    "inference_id": "mine",
    "endpoint": "Echo",
    "state": "queued",
    "received": 1_700_000_000.0,
    "age": 61.0,
    "attempts": 0,
    "finished": None,
    "output_location": "s3://b/out/x.out",
    "cause_kind": None,
    "cause": None,
    "dead": False,
    "replay_of": None,
    "input_location": "s3://b/in.csv",
    "content_type": None,
    "failure_location": "s3://b/failed/x-error.out",
    "expires": 1_700_003_600.0,
    "timeout": 900,
    "container_status": None,
    "notification": None,
    "ready_at": None,
    "position": 7,
}
NOW = 1_700_000_061.0
COUNTED = {"endpoint": "Echo", "queued": 0, "running": 0, "succeeded": 0, "failed": 0, "expired": 0, "cancelled": 0}


def explained(**changes: Any) -> str:
    return "\n".join(explanation({**REQUEST, **changes}, NOW))


def test_a_queued_request_is_explained() -> None:
    text = explained()
    assert "1700000000000000  Echo  queued" in text
    assert "7 in its queue; expires in 58 min 59 s" in text
    assert "1 min 1 s ago" in text
    waiting = explained(ready_at=NOW + 2, cause="the worker was killed", attempts=2)
    assert "in 2.0 s" in waiting
    assert "the worker was killed" in waiting


def test_a_running_request_says_where_and_since_when() -> None:
    running = {"state": "running", "claimed": NOW - 30, "variant": "AllTraffic", "instance": "i-1", "attempts": 2}
    assert "on i-1 (AllTraffic) since 20 s" in explained(**running, started=NOW - 20)
    assert "not yet in a container" in explained(**running, started=None)


def test_an_end_says_how_and_who_was_told() -> None:
    ended = {"finished": NOW, "claimed": NOW - 30, "started": NOW - 20, "variant": "AllTraffic", "instance": "i-1"}
    delivery = {"subscription": "arn:sub", "state": "failed", "cause": "HTTP 500", "attempts": 4, "at": NOW}
    notification = {"topic": "arn:topic", "message": "m-1", "deliveries": [delivery]}
    good = explained(**ended, state="succeeded", notification=notification)
    assert "s3://b/out/x.out" in good
    assert "arn:topic: message m-1" in good
    assert "arn:sub: failed after 4 attempts: HTTP 500" in good
    bad = explained(**ended, state="failed", cause="It said no.", container_status=500, dead=True, replay_of=5)
    assert "failed (a dead letter)" in bad
    assert "It said no." in bad
    assert "500 (the container)" in bad
    assert "s3://b/failed/x-error.out" in bad
    assert "replay of     5" in bad
    lost = explained(**ended, state="expired", notification={"topic": "arn:topic", "error": "there is none", "deliveries": []})
    assert "not sent: there is none" in lost


def test_lists_are_tables() -> None:
    lines = list(request_lines([REQUEST, {**REQUEST, "state": "succeeded"}, {**REQUEST, "state": "failed", "cause": "a\nb"}]))
    assert len({line.index("mine") for line in lines[1:]}) == 1
    assert lines[2].endswith("s3://b/out/x.out")
    assert lines[3].endswith("  a")
    assert list(request_lines([])) == ["none"]
    (head, row) = overview_lines([{**COUNTED, "queued": 12, "oldest_age": 5.0, "now": NOW}])
    assert head.split()[:2] == ["ENDPOINT", "QUEUED"]
    assert row.split()[:2] == ["Echo", "12"]
    assert "no asynchronous endpoint" in next(iter(overview_lines([])))


def test_spans() -> None:
    assert [span(text) for text in ("90", "1.5s", "10m", "2h", "1d")] == [90.0, 1.5, 600.0, 7200.0, 86_400.0]
    with pytest.raises(UsageError, match="length of time"):
        span("soon")


def test_progress_shows_rate_and_time_to_go() -> None:
    progress = Progress()
    first = progress.line({**COUNTED, "queued": 1000, "running": 20, "now": 100.0, "oldest_age": 3.0})
    assert "nothing ends at present" in first
    second = progress.line(
        {**COUNTED, "queued": 780, "running": 20, "succeeded": 195, "failed": 5, "now": 102.0, "oldest_age": 65.0}
    )
    assert second == "queued 780   running 20   done 195   failed 5   100.0/s   some 0:08 to go   oldest 1:05"
    later = progress.line({**COUNTED, "succeeded": 995, "failed": 5, "now": 120.0, "oldest_age": None})
    assert later.endswith("nothing waits")


def test_watching_ends_when_all_is_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    readings = iter(
        [
            [{**COUNTED, "queued": 1, "now": 1.0, "oldest_age": 1.0}],
            [{**COUNTED, "succeeded": 1, "now": 2.0, "oldest_age": None}],
        ]
    )
    assert watch(lambda: next(readings), "Echo", 1.0, until_done=True) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(UsageError, match="no asynchronous endpoint 'Nobody'"):
        watch(list, "Nobody", 1.0, until_done=True)
    with pytest.raises(UsageError, match="--every"):
        watch(list, "Echo", 0.0, until_done=True)


def test_replaying_an_endpoint_replays_its_dead_letters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    answers: dict[str, Any] = {
        "": {"endpoints": [{**COUNTED, "now": 1.0, "oldest_age": None}]},
        "/requests?endpoint=Echo&dead=1&state=failed&limit=500": {"requests": [{"id": 1}, {"id": 2}], "next": None},
        "/replay?id=1": {"replayed": [{"replay_of": 1, "id": 11, "output_location": "s3://b/x"}]},
        "/replay?id=2": {"replayed": [{"replay_of": 2, "error": "it runs"}]},
    }

    def call(args: Any, method: str, path: str, *, region: str | None = None) -> Any:
        asked.append((method, path))
        return answers[path.removeprefix("/_slipway/async")]

    monkeypatch.setattr(asynchronous, "call", call)
    assert main(["async", "replay", "Echo"]) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["1 is queued again as 11: s3://b/x", "2 is not replayed: it runs"]
    assert "1 could not be replayed" in captured.err
    assert [method for method, _ in asked] == ["GET", "GET", "POST", "POST"]


@pytest.mark.parametrize(
    "argv",
    [["async"], ["async", "list", "Echo", "--state", "asleep"], ["async", "list", "Echo", "-n", "0"], ["async", "cancel"]],
)
def test_mistakes_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def answering(monkeypatch: pytest.MonkeyPatch, endpoints: list[dict[str, Any]], kind: bool | None) -> list[Any]:
    """slipway with these queues and one more endpoint, asynchronous or not (None: there is none); the calls' arguments."""
    asked: list[Any] = []

    def call(args: Any, method: str, path: str, *, region: str | None = None) -> Any:
        asked.append((args.data_dir, region, path))
        if path.startswith("/_slipway/scaling/"):
            if kind is None:
                raise UsageError("Could not find endpoint.")
            return {"asynchronous": kind}
        return {"requests": [], "next": None} if "/requests" in path else {"endpoints": endpoints}

    monkeypatch.setattr(asynchronous, "call", call)
    return asked


@pytest.mark.parametrize(("kind", "told"), [(None, "Could not find"), (False, "is a real-time endpoint")])
def test_what_has_no_requests_ever_is_not_watched(
    kind: bool | None, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, [], kind)
    assert main(["async", "watch", "Nobody"]) == 2
    assert told in capsys.readouterr().err


def test_an_empty_list_says_when_the_endpoint_is_unknown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, [{**COUNTED, "now": 1.0, "oldest_age": None}], None)
    assert main(["async", "list", "Echo"]) == 0
    assert capsys.readouterr().out == "none\n"
    assert main(["async", "list", "Ecko"]) == 0
    assert "no asynchronous endpoint Ecko has had a request" in capsys.readouterr().out
    assert main(["async", "list", "--state", "failed"]) == 2
    assert "which endpoint's requests?" in capsys.readouterr().err


def test_the_place_is_given_before_or_behind_the_action(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, [{**COUNTED, "now": 1.0, "oldest_age": None}], None)
    for argv in (["list", "--data-dir", "d", "--region", "r"], ["--data-dir", "d", "--region", "r", "list"]):
        assert main(["async", *argv]) == 0
    assert asked == [("d", "r", "/_slipway/async")] * 2
