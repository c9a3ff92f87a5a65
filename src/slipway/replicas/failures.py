"""The one error of this package: a replica cannot run, and why."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.core.replicas import Failure


class CannotRun(Exception):
    """Carries the Failure that control will show."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure


def cannot(kind: str, message: str, mend: str = "", log_tail: Sequence[str] = ()) -> CannotRun:
    """Kinds are those of core/replicas.py Failure."""
    return CannotRun(Failure(kind, message, tuple(log_tail), mend=mend))
