"""The autoscaler's arithmetic against AWS's documented behaviours (hosting.md 6.4 to 6.7), each as a row or a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.scaling import (
    AT_DESIRED,
    AT_MAXIMUM,
    AT_MINIMUM,
    FLAPPING,
    Decision,
    Firing,
    Side,
    Stepping,
    Tracking,
    View,
    Window,
    completed,
    decide,
    next_change,
)
from slipway.core.scaling_steps import (
    CHANGE,
    EXACT,
    PERCENT,
    Step,
    adjusted,
    percent_of,
    step_for,
    tracked,
    wrong_steps,
)

T = Tracking("t", 5.0, 120, 120, backlog=True)
ADD = Stepping("add", CHANGE, (Step(1, 0.0, None),), 300)


def fires(policy: Tracking | Stepping, value: float | None, side: Side = "step", threshold: float = 0.0) -> Firing:
    if isinstance(policy, Tracking):
        threshold = policy.target if side == "high" else policy.target * 0.9
    return Firing(policy, side, f"{policy.name}-{side}", "M", threshold, value)


def view(capacity: int, *firing: Firing, low: int = 0, high: int = 10, now: float = 1000.0, **more: object) -> View:
    tracking = tuple({f.policy.name: f.policy for f in firing if isinstance(f.policy, Tracking)}.values())
    return replace(View(capacity, low, high, now, tracking=tracking, firing=firing), **more)  # type: ignore[arg-type]


# Target tracking


@pytest.mark.parametrize(
    ("capacity", "value", "desired"),
    [(1, 5.1, 2), (1, 20.0, 4), (2, 6.0, 3), (2, 10.0, 4), (4, 60.0, 10), (3, 5.000001, 4), (1, None, 2)],
)
def test_out_is_the_ratio_rounded_up_and_at_least_one_more(capacity: int, value: float | None, desired: int) -> None:
    assert decide(view(capacity, fires(T, value, "high"))).desired == desired


@pytest.mark.parametrize(
    ("capacity", "value", "desired", "code"),
    [
        (5, 0.0, 0, ""),
        (5, 3.0, 3, ""),
        (5, 1.0, 1, ""),
        (2, 2.5, 1, ""),
        (1, 0.0, 0, ""),
        (1, 2.0, 1, FLAPPING),
        (2, 4.4, 2, FLAPPING),
        (5, 4.4, 5, FLAPPING),
        (0, 0.0, 0, AT_MINIMUM),
    ],
)
def test_in_is_the_ratio_rounded_up_and_never_where_it_would_flap(capacity: int, value: float, desired: int, code: str) -> None:
    decision = decide(view(capacity, fires(T, value, "low")))
    assert (decision.desired, decision.code) == (desired, code)


def test_the_last_instance_goes_only_when_the_queue_is_empty() -> None:
    assert decide(view(1, fires(T, 0.01, "low"))).desired == 1
    assert decide(view(1, fires(T, 0.0, "low"))).desired == 0


def test_insufficient_data_is_no_reason() -> None:
    assert not decide(view(3, tracking=(T,))).scales
    low = decide(view(3, fires(T, None, "low")))
    assert not low.scales
    assert "no datapoint" in low.why


def test_limits_clip_and_say_so() -> None:
    decision = decide(view(2, fires(T, 500.0, "high"), high=5))
    assert (decision.desired, decision.computed, decision.clipped) == (5, 200, "MaxCapacity")
    assert decide(view(5, fires(T, 500.0, "high"), high=5)).code == AT_MAXIMUM
    low = decide(view(5, fires(T, 0.0, "low"), low=2))
    assert (low.desired, low.clipped) == (2, "MinCapacity")
    assert decide(view(2, fires(T, 0.0, "low"), low=2)).code == AT_MINIMUM


def test_a_capacity_outside_the_range_is_moved_into_it_before_anything_else() -> None:
    below = decide(view(1, fires(T, 0.0, "low"), low=3, suspended_out=True))
    assert (below.desired, below.cause) == (3, "minimum capacity was set to 3")
    above = decide(view(9, fires(T, 50.0, "high"), high=4))
    assert (above.desired, above.cause) == (4, "maximum capacity was set to 4")


def test_the_cause_is_awss_and_the_decision_has_all_figures() -> None:
    decision = decide(view(2, fires(T, 12.0, "high")))
    assert decision.cause == "monitor alarm t-high in state ALARM triggered policy t"
    assert (decision.metric, decision.value, decision.threshold, decision.computed) == ("M", 12.0, 5.0, 5)
    assert decision.why == "M is 12 against a target of 5: 2 × 12 ÷ 5 asks for 5"


def test_disable_scale_in() -> None:
    decision = decide(view(3, fires(replace(T, disable_in=True), 0.0, "low")))
    assert not decision.scales
    assert "DisableScaleIn" in decision.why


def test_suspended_directions() -> None:
    out = decide(view(1, fires(T, 50.0, "high"), suspended_out=True))
    assert not out.scales
    assert "DynamicScalingOutSuspended" in out.why
    low = decide(view(3, fires(T, 0.0, "low"), suspended_in=True))
    assert not low.scales
    assert "DynamicScalingInSuspended" in low.why
    assert decide(view(1, fires(T, 50.0, "high"), suspended_in=True)).scales


# Cooldowns


def test_scale_out_cooldown_adds_the_difference_only() -> None:
    window = {"t": Window(990.0, 120, 2)}
    assert decide(view(4, fires(T, 6.0, "high"), out=window)).desired == 4
    decision = decide(view(4, fires(T, 10.0, "high"), out=window))
    assert decision.desired == 6  # 4 more were asked for, 2 of them are there
    assert decision.cooldown_until == 1110.0
    assert decide(view(4, fires(T, 6.0, "high"), out=window, now=1111.0)).desired == 5


def test_scale_out_cooldown_of_steps_as_in_awss_example() -> None:
    """Two were added; within the cooldown a step of three adds one."""
    steps = Stepping("s", CHANGE, (Step(2, 0, 10), Step(3, 10, None)), 300)
    window = {"s": Window(990.0, 300, 2)}
    assert decide(view(7, fires(steps, 15.0), out=window, low=0)).desired == 8
    assert decide(view(7, fires(steps, 5.0), out=window)).desired == 7
    exact = Stepping("s", EXACT, (Step(9, 0, None),), 300)
    assert decide(view(7, fires(exact, 5.0), out=window)).desired == 9


def test_a_cooldown_is_its_own_policys() -> None:
    assert decide(view(1, fires(T, 20.0, "high"), out={"other": Window(999.0, 300, 1)})).desired == 4


def test_scale_in_cooldown_blocks_in_and_not_out() -> None:
    window = Window(990.0, 120)
    blocked = decide(view(4, fires(T, 0.0, "low"), scale_in=window))
    assert not blocked.scales
    assert blocked.cooldown_until == 1110.0
    assert decide(view(4, fires(T, 10.0, "high"), scale_in=window)).desired == 8
    assert decide(view(4, fires(T, 0.0, "low"), scale_in=window, now=1110.0)).desired == 0


def test_cooldowns_are_divided_by_the_time_scale() -> None:
    window = Window(1000.0, 120)
    assert not decide(view(4, fires(T, 0.0, "low"), scale_in=window, now=1001.9, scale=60.0)).scales
    assert decide(view(4, fires(T, 0.0, "low"), scale_in=window, now=1002.0, scale=60.0)).scales
    assert next_change(view(4, scale_in=window, out={"t": Window(1000.0, 60)}, scale=60.0, now=1000.5)) == 1001.0


def test_windows_add_up_while_they_last() -> None:
    first = Decision(0, 1, 3, "c", "w", policy="t", cooldown=120)
    windows = completed({}, first, 100.0, 1.0)
    assert windows == {"t": Window(100.0, 120, 2)}
    more = completed(windows, Decision(0, 3, 4, "c", "w", policy="t", cooldown=120), 150.0, 1.0)
    assert more == {"t": Window(150.0, 120, 3)}
    assert completed(more, Decision(0, 4, 2, "c", "w", policy="t", cooldown=120), 160.0, 1.0) == more
    assert completed(more, Decision(0, 4, 2, "c", "w", policy="t", cooldown=120), 300.0, 1.0) == {}


# Several policies


def test_out_if_any_asks_and_the_largest_wins() -> None:
    other = Tracking("o", 100.0)
    assert decide(view(2, fires(T, 0.0, "low"), fires(other, 150.0, "high"))).desired == 3
    assert decide(view(2, fires(T, 10.0, "high"), fires(other, 400.0, "high"))).desired == 8
    assert decide(view(10, fires(Stepping("a", CHANGE, (Step(3, 0, None),)), 1.0), fires(TRIPLE, 1.0), high=99)).desired == 30


TRIPLE = Stepping("p", PERCENT, (Step(200, 0, None),))


def test_in_only_if_all_that_may_scale_in_ask() -> None:
    other = Tracking("o", 100.0)
    low = fires(T, 0.0, "low")
    waits = decide(view(4, low, tracking=(T, other)))
    assert not waits.scales
    assert "o does not ask to scale in" in waits.why
    assert decide(view(4, low, tracking=(T, replace(other, disable_in=True)))).desired == 0
    assert decide(view(4, low, fires(other, 45.0, "low"))).desired == 2


def test_a_step_policy_scales_in_without_asking_the_others() -> None:
    remove = Stepping("r", CHANGE, (Step(-1, None, 0.0),))
    assert decide(view(4, fires(remove, -1.0), tracking=(T,))).desired == 3


# Steps


@pytest.mark.parametrize(
    ("value", "adjustment"), [(50, 10), (59.9, 10), (60, 20), (70, 30), (1000, 30), (49.9, None), (40, None)]
)
def test_above_the_threshold_the_lower_bound_is_inclusive(value: float, adjustment: int | None) -> None:
    steps = (Step(10, 0, 10), Step(20, 10, 20), Step(30, 20, None))
    found = step_for(steps, value, 50.0)
    assert (found.adjustment if found else None) == adjustment


@pytest.mark.parametrize(
    ("value", "adjustment"), [(49.9, -10), (40.1, -10), (40, -20), (30, -30), (0, -30), (50, None), (51, None)]
)
def test_below_it_the_upper_bound_is(value: float, adjustment: int | None) -> None:
    steps = (Step(-10, -10, 0), Step(-20, -20, -10), Step(-30, None, -20))
    found = step_for(steps, value, 50.0)
    assert (found.adjustment if found else None) == adjustment


@pytest.mark.parametrize(
    ("capacity", "kind", "adjustment", "least", "result"),
    [
        (10, CHANGE, 3, 0, 13),
        (2, CHANGE, -5, 0, 0),
        (10, EXACT, 4, 0, 4),
        (10, EXACT, 0, 0, 0),
        (10, PERCENT, 200, 0, 30),
        (10, PERCENT, 10, 0, 11),
        (4, PERCENT, 25, 2, 6),
        (4, PERCENT, -25, 2, 2),
        (10, PERCENT, 50, 2, 15),
        (0, PERCENT, 50, 0, 0),
        (0, PERCENT, 50, 2, 2),
    ],
)
def test_adjustments(capacity: int, kind: str, adjustment: int, least: int, result: int) -> None:
    assert adjusted(capacity, kind, adjustment, least) == result


@pytest.mark.parametrize(
    ("capacity", "percent", "change"),
    [(127, 10, 12), (667, -1, -6), (67, 1, 1), (58, -1, -1), (10, 0, 0), (100, 1, 1), (1, 10, 1)],
)
def test_percentages_are_rounded_as_aws_documents(capacity: int, percent: int, change: int) -> None:
    """12.7 → 12, −6.67 → −6, 0.67 → 1, −0.58 → −1."""
    assert percent_of(capacity, percent) == change


def test_a_step_that_changes_nothing_says_so() -> None:
    assert decide(view(4, fires(Stepping("e", EXACT, (Step(4, 0, None),)), 1.0))).code == AT_DESIRED
    uncovered = decide(view(4, fires(Stepping("u", CHANGE, (Step(1, 10, 20),)), 1.0)))
    assert not uncovered.scales
    assert "no step adjustment covers" in uncovered.why


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ((), "must be specified"),
        ((Step(1),), "lower bound, an upper bound"),
        ((Step(1, 0, 10), Step(2, 5, None)), "overlap"),
        ((Step(1, 0, 10), Step(2, 11, None)), "gap"),
        ((Step(1, 10, 0),), "greater"),
        ((Step(1, None, 0), Step(1, None, 5)), "At most one"),
        ((Step(1, 0, None), Step(1, 5, None)), "At most one"),
        ((Step(-1, -10, 0),), "negative lower bound"),
        ((Step(1, 0, 10),), "positive upper bound"),
        (tuple(Step(1, float(n), n + 1.0) for n in range(21)), "at most 20"),
    ],
)
def test_step_adjustments_that_aws_refuses(steps: tuple[Step, ...], word: str) -> None:
    assert word in (wrong_steps(steps) or "")


@pytest.mark.parametrize(
    "steps",
    [
        (Step(1, 0, None),),
        (Step(-1, None, 0),),
        (Step(1, 0, 10), Step(2, 10, None)),
        (Step(-2, None, -10), Step(-1, -10, 0)),
        (Step(-1, None, 0), Step(1, 0, None)),
        (Step(2, 10, None), Step(1, 0, 10)),
    ],
)
def test_step_adjustments_that_it_takes(steps: tuple[Step, ...]) -> None:
    assert wrong_steps(steps) is None


# From zero


@pytest.mark.parametrize(("backlog", "desired"), [(0, 0), (1, 1), (5, 1), (6, 2), (10_000, 5)])
def test_on_arrival_the_first_step_follows_the_backlog(backlog: int, desired: int) -> None:
    decision = decide(view(0, tracking=(T,), high=5, backlog=backlog))
    assert decision.desired == desired
    assert decision.cooldown == 0


def test_without_a_policy_on_the_backlog_it_is_one_instance_or_the_minimum() -> None:
    assert decide(view(0, backlog=10_000)).desired == 1
    assert decide(view(0, tracking=(replace(T, backlog=False),), backlog=10_000)).desired == 1
    assert decide(view(0, low=2, backlog=10_000)).desired == 2


def test_what_arrived_during_the_start_counts_at_once() -> None:
    grown = decide(view(1, tracking=(T,), high=5, backlog=9_000, burst=True))
    assert grown.desired == 5
    assert "while the first instances started" in grown.cause
    assert not decide(view(1, tracking=(T,), high=5, backlog=4, burst=True)).scales
    assert not decide(view(1, tracking=(T,), high=5, backlog=9_000)).scales


def test_with_awss_alarms_only_it_needs_a_steady_backlog_above_the_target() -> None:
    assert not decide(view(0, tracking=(T,), backlog=9, on_arrival=False)).scales
    assert not decide(view(0, tracking=(T,), backlog=9, steady_backlog=5, on_arrival=False)).scales
    assert decide(view(0, tracking=(T,), backlog=9, steady_backlog=9, on_arrival=False)).desired == 2
    assert decide(view(0, fires(ADD, 1.0), on_arrival=False)).desired == 1


def test_suspended_or_a_maximum_of_zero_stay_at_zero_and_say_so() -> None:
    suspended = decide(view(0, tracking=(T,), backlog=5, suspended_out=True))
    assert not suspended.scales
    assert "Suspended" in suspended.why
    assert decide(view(0, high=0, backlog=5)).code == AT_MAXIMUM


# Always

_policies = st.sampled_from(
    [
        T,
        Tracking("o", 100.0, 60, 60),
        ADD,
        Stepping("r", CHANGE, (Step(-2, None, 0.0),)),
        TRIPLE,
        Stepping("e", EXACT, (Step(7, None, 0), Step(3, 0, None))),
    ]
)
_firing = st.builds(
    lambda policy, value, side: fires(policy, value, side if isinstance(policy, Tracking) else "step"),
    _policies,
    st.one_of(st.none(), st.floats(-1e9, 1e9)),
    st.sampled_from(["high", "low"]),
)


@given(
    capacity=st.integers(0, 20),
    low=st.integers(0, 10),
    span=st.integers(0, 10),
    firing=st.lists(_firing, max_size=4),
    backlog=st.integers(0, 100_000),
    burst=st.booleans(),
    added=st.integers(0, 5),
    age=st.floats(0, 500),
    suspended=st.tuples(st.booleans(), st.booleans()),
)
def test_invariants(
    capacity: int,
    low: int,
    span: int,
    firing: list[Firing],
    backlog: int,
    burst: bool,
    added: int,
    age: float,
    suspended: tuple[bool, bool],
) -> None:
    window = Window(1000.0 - age, 120, added)
    seen = view(
        capacity,
        *firing,
        low=low,
        high=low + span,
        backlog=backlog,
        burst=burst,
        out={"t": window, "add": window},
        scale_in=window,
        suspended_in=suspended[0],
        suspended_out=suspended[1],
    )
    decision = decide(seen)
    assert decision == decide(seen)
    if low <= capacity <= low + span:
        assert low <= decision.desired <= low + span
        assert not (suspended[0] and decision.desired < capacity)
        assert not (suspended[1] and decision.desired > capacity)
    else:
        assert decision.desired == min(max(capacity, low), low + span)
    if capacity == 0 and backlog and span + low > 0 and not suspended[1]:
        assert decision.desired > 0
    assert decision.why
    assert tracked(3, 10, 5) == 6
