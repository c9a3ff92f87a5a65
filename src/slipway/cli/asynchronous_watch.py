"""`slipway async watch`: how a burst gets on, a line every second: queued, running, done per second, time to go."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipway.cli.options import UsageError

WINDOW_SECONDS = 10.0
"""Over which a rate is measured."""
_ENDS = ("succeeded", "failed", "expired", "cancelled")

Overview = Callable[[], Sequence[Mapping[str, Any]]]


class Progress:
    """Rates from what an endpoint's counters said, one reading after the other."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        """When, and how many requests had ended."""

    def line(self, counted: Mapping[str, Any]) -> str:
        """`counted`: an entry of `/_slipway/async`, with the time at which it was so."""
        at, ended = counted["now"], sum(counted[state] for state in _ENDS)
        self._seen.append((at, ended))
        while self._seen[0][0] < at - WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        first_at, first_ended = self._seen[0]
        rate = (ended - first_ended) / (at - first_at) if at > first_at else 0.0
        waiting = counted["queued"] + counted["running"]
        parts = [f"queued {counted['queued']:,}", f"running {counted['running']:,}", f"done {counted['succeeded']:,}"]
        parts += [f"{state} {counted[state]:,}" for state in _ENDS[1:] if counted[state]]
        parts.append(f"{rate:.1f}/s")
        if waiting:
            parts.append(f"some {_clock(waiting / rate)} to go" if rate > 0 else "nothing ends at present")
            parts.append(f"oldest {_clock(counted['oldest_age'] or 0.0)}")
        else:
            parts.append("nothing waits")
        return "   ".join(parts)


def watch(overview: Overview, endpoint: str, every: float, *, until_done: bool) -> int:
    """Until interrupted, or until nothing is queued or running. On a terminal the line is written over."""
    if not 0.1 <= every <= 3600:
        raise UsageError("--every takes 0.1 to 3600 seconds")
    progress = Progress()
    over = sys.stdout.isatty()
    began = False
    try:
        while True:
            counted = next((each for each in overview() if each["endpoint"] == endpoint), None)
            if counted is None and not until_done:
                text = f"{endpoint} has had no request yet"
            elif counted is None:
                raise UsageError(f"no asynchronous endpoint {endpoint!r} has had a request (`slipway async list` shows those)")
            else:
                text = progress.line(counted)
            _show(text, over=over and began)
            began = True
            if until_done and counted is not None and not counted["queued"] + counted["running"]:
                return 0
            time.sleep(every)
    finally:
        if over and began:
            print(flush=True)


def _show(text: str, *, over: bool) -> None:
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"{chr(13) if over else ''}{text[:width]:{width}}", end="", flush=True)
    else:
        print(text, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
