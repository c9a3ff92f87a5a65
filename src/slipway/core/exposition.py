"""Prometheus' text format, version 0.0.4: families of samples as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from slipway.core.histograms import quarter_bounds

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: upper bounds of a duration's buckets."""

Labels = Mapping[str, str]


@dataclass(slots=True)
class Family:
    """All samples of one name. `kind`: counter, gauge, histogram."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)
    """Suffix of the name, labels, value."""

    def add(self, labels: Labels, value: float) -> None:
        self.samples.append(("", labels, value))

    def durations(self, labels: Labels, total: float, buckets: Mapping[int, int]) -> None:
        """A histogram in seconds, of a gateway's counts and total in microseconds.

        A gateway's bucket that straddles a bound counts above it.
        """
        for bound in BOUNDS:
            below = sum(count for bucket, count in buckets.items() if quarter_bounds(bucket)[1] <= bound * 1e6)
            self.samples.append(("_bucket", {**labels, "le": _number(bound)}, below))
        count = sum(buckets.values())
        self.samples.append(("_bucket", {**labels, "le": "+Inf"}, count))
        self.samples.append(("_sum", labels, total / 1e6))
        self.samples.append(("_count", labels, count))


def render(families: Iterable[Family]) -> str:
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for suffix, labels, value in family.samples:
            shown = ",".join(f'{name}="{_escaped(text, quotes=True)}"' for name, text in labels.items())
            lines.append(f"{family.name}{suffix}{'{' + shown + '}' if shown else ''} {_number(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
