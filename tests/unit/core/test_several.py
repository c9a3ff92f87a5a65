"""An instance of several containers as one."""

from __future__ import annotations

import pytest

from slipway.core.endpoints import Trouble
from slipway.core.reasons import MAX_REASON, failure_reason
from slipway.core.replicas import Failure, ReplicaState, container_id, instance_of
from slipway.core.several import BROKEN, whole

NAMES = ("front", "back")


def state(phase: str, **more: object) -> ReplicaState:
    return ReplicaState("i-1.1", "arn", phase, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ((None, None), "planned"),
        (("ready", None), "planned"),
        (("preparing", "ready"), "preparing"),
        (("starting", "ready"), "starting"),
        (("ready", "unready"), "unready"),
        (("ready", "ready"), "ready"),
        (("ready", "exited"), BROKEN),
        (("starting", "exited"), BROKEN),
        (("stopping", "exited"), "stopping"),
        (("stopping", "ready"), "stopping"),
        (("exited", "exited"), "exited"),
        (("exited", None), "exited"),
    ],
)
def test_phases(phases: tuple[str | None, ...], expected: str) -> None:
    states = [None if phase is None else state(phase) for phase in phases]
    assert whole(states, NAMES).phase == expected


def test_only_what_still_starts_is_waited_for() -> None:
    assert whole([state("exited"), state("starting")], NAMES).undecided
    assert not whole([state("exited"), state("ready")], NAMES).undecided


def test_every_failure_is_kept_and_the_most_missed_pings_count() -> None:
    failures = [Failure("import-error", "one"), Failure("exited", "two")]
    found = whole([state("exited", failure=each) for each in failures], NAMES).failure
    assert found is not None
    assert [(each.container, each.message) for each in (found, *found.others)] == [("front", "one"), ("back", "two")]
    assert whole([state("unready", missed_pings=1), state("unready", missed_pings=3)], NAMES).missed_pings == 3


def test_the_reason_names_every_container_that_failed() -> None:
    second = Failure("not-an-archive", "It is no gzip file", container="back")
    first = Failure("import-error", "No module named 'nope'", ("x" * 3000,), mend="Add it", container="front", others=(second,))
    reason = failure_reason(Trouble("A", first, 1, False), {"front": "s3://b/1", "back": "s3://b/2"})
    assert "The front container for production variant A did not pass the ping health check." in reason
    assert 'Failed to extract model data archive for container "back" from URL "s3://b/2".' in reason
    assert "No module named 'nope'. Add it." in reason
    assert len(reason) <= MAX_REASON
    long = Failure("exited", "y" * 5000, container="front", others=(second,))
    assert '"s3://b/2"' in failure_reason(Trouble("A", long, 1, False), {"back": "s3://b/2"})


def test_ids() -> None:
    assert (container_id("i-1", 2), instance_of("i-1.2"), instance_of("i-1")) == ("i-1.2", "i-1", "i-1")
