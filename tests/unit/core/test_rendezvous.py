"""Where models go: the same for everybody, evenly, and mostly where they were when a replica comes or goes."""

from __future__ import annotations

from slipway.core.rendezvous import choose, ranking

REPLICAS = ["i-1", "i-2", "i-3", "i-4"]
TARGETS = [f"model-{number}.tar.gz" for number in range(400)]


def test_models_are_spread_and_stay() -> None:
    first = {target: ranking(target, REPLICAS)[0] for target in TARGETS}
    counts = [list(first.values()).count(id) for id in REPLICAS]
    assert min(counts) > 60
    fewer = {target: ranking(target, REPLICAS[:3])[0] for target in TARGETS}
    assert all(fewer[target] == id for target, id in first.items() if id != "i-4")


def test_a_replica_with_far_more_than_its_share_is_passed_over() -> None:
    target = TARGETS[0]
    order = ranking(target, REPLICAS)
    assert choose(target, dict.fromkeys(REPLICAS, 0)) == order[0]
    assert choose(target, {**dict.fromkeys(REPLICAS, 1), order[0]: 50}) == order[1]
    assert choose(target, {}) is None
