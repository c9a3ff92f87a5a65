"""Ratios beside what must hold and what is aimed at (design.md 8)."""

from __future__ import annotations

from collections.abc import Mapping

from bench.load import Sample


def samples(title: str, by_name: Mapping[str, Sample], base: str) -> None:
    """One table: rates, latencies, CPU, and the ratio of rates against `base`."""
    print(f"{title}\n")
    print(f"  {'':28} {'req/s':>8} {'ratio':>6} {'p50 us':>8} {'p99 us':>8} {'CPU us':>7} {'errors':>6}")
    floor = by_name[base].rate if base in by_name else 0.0
    for name, s in by_name.items():
        ratio = f"{s.rate / floor:6.2f}" if floor else "     -"
        print(f"  {name:28} {s.rate:8.0f} {ratio} {s.p50:8.0f} {s.p99:8.0f} {s.cpu:7.1f} {s.errors:6}")
    print(flush=True)


def verdict(what: str, value: float, must: float, aim: float, *, unit: str = "x", at_most: bool = False) -> None:
    """One line: the figure, and whether it reaches `must` and `aim`."""
    sign, factor = ("<=", -1) if at_most else (">=", 1)
    word = "reaches the aim" if value * factor >= aim * factor else "holds" if value * factor >= must * factor else "BELOW"
    print(f"  {what}: {value:.2f} {unit} (must {sign} {must:g}, aim {sign} {aim:g}): {word}", flush=True)
