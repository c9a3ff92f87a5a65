"""`slipway scaling`: mistakes in one line, and the lines of an explanation."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slipway.cli import main, scaling


def test_mistakes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, word in (
        (["scaling", "explain"], "name of an endpoint"),
        (["scaling", "list", "e"], "takes no endpoint"),
        (["scaling", "list", "--data-dir", "/nowhere"], "no slipway runs"),
    ):
        assert main.main(argv) == 2
        told = capsys.readouterr().err
        assert word in told
        assert len(told.splitlines()) == 1


def test_a_schedule_says_the_day_of_its_next_time() -> None:
    found = answer()
    (action,) = found["targets"][0]["scheduled_actions"]
    action["due"] = 1_700_000_000.0
    line = next(line for line in scaling.explanation(found) if "scheduled action" in line)
    assert re.search(r"next at 2023-11-1[45] \d\d:\d\d:\d\d \S+$", line)


def answer() -> dict[str, Any]:
    alarm = {
        "name": "high",
        "side": "high",
        "state": "ALARM",
        "metric": "M",
        "comparison": "GreaterThanThreshold",
        "threshold": 5.0,
        "value": 12.5,
        "period": 60,
        "periods": 3,
        "missing": 1,
    }
    policy = {
        "name": "p",
        "type": "TargetTrackingScaling",
        "target": 5.0,
        "alarms": [alarm],
        "scale_out_cooldown_left": 61.5,
        "doubts": ["its metric can never have data: why"],
    }
    past = {
        "at": 0.0,
        "until": 60.0,
        "kind": "scaled",
        "from": 0,
        "to": 1,
        "status": "Failed",
        "cause": "backlog of 3 requests at zero instances",
        "why": "3 requests",
        "message": "Failed to set",
        "code": "",
        "repeated": 1,
    }
    held = past | {"kind": "not-scaled", "code": "AlreadyAtMaxCapacity", "repeated": 7}
    target = {
        "variant": "A",
        "capacity": 1,
        "minimum": 0,
        "maximum": 5,
        "doubts": ["DynamicScalingInSuspended is set: no policy scales in"],
        "next": {"desired": 3, "why": "M is 12.5", "cooldown_until": 60.0},
        "scale_in_cooldown_left": 2.0,
        "policies": [policy],
        "scheduled_actions": [
            {"name": "a", "schedule": "rate(1 hour)", "timezone": "UTC", "minimum": 1, "maximum": None, "due": None}
        ],
        "history": [past, held],
    }
    return {
        "endpoint": "e",
        "asynchronous": True,
        "status": "InService",
        "backlog": 3,
        "time_scale": 60.0,
        "doubts": [],
        "targets": [target],
    }


def test_an_explanation_names_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    paths: list[str] = []

    def call(args: Any, method: str, path: str, **more: Any) -> Any:
        paths.append(path)
        return answer()

    monkeypatch.setattr(scaling, "call", call)
    assert main.main(["scaling", "explain", "e/../x"]) == 0
    assert paths == ["/_slipway/scaling/e%2F..%2Fx"]
    told = capsys.readouterr().out
    for word in (
        "e: asynchronous endpoint, InService, backlog 3, time scale 60",
        "variant A: 1 instance, limits 0 to 5",
        "! DynamicScalingInSuspended",
        "next: to 3: M is 12.5",
        "scale-in cooldown: 2.0 s left",
        "policy p: TargetTrackingScaling, target 5",
        "high ALARM: M > 5 over 3 × 60 s (1 s here); last 12.5, 1 of 3 datapoints missing",
        "scale-out cooldown: 61.5 s left",
        "! its metric can never have data: why",
        "scheduled action a: rate(1 hour) UTC, minimum 1, never again",
        "0 → 1 Failed: backlog of 3 requests at zero instances; 3 requests [Failed to set]",
        "not scaled (AlreadyAtMaxCapacity): backlog of 3 requests at zero instances; 3 requests (×7, last ",
    ):
        assert word in told, word


def test_the_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"endpoint": "e", "variant": "A", "capacity": 1, "minimum": 0, "maximum": 5, "status": "InService"}
    monkeypatch.setattr(scaling, "call", lambda *_, **__: {"targets": [row | {"policies": ["p"], "next": "no alarm asks"}]})
    assert main.main(["scaling", "list"]) == 0
    assert capsys.readouterr().out == "e/A  1 of 0 to 5  InService  p: no alarm asks\n"
    monkeypatch.setattr(scaling, "call", lambda *_, **__: {"targets": []})
    assert main.main(["scaling", "list"]) == 0
    assert "no scalable target" in capsys.readouterr().out
