"""FailureReason: AWS's sentence, cause, mend, log lines, 1024 characters."""

from __future__ import annotations

import pytest

from slipway.core.endpoints import Trouble
from slipway.core.reasons import MAX_REASON, failure_reason
from slipway.core.replicas import Failure

PING = "The primary container for production variant AllTraffic did not pass the ping health check."


def trouble(failure: Failure, was_ready: bool = False, crashes: int = 1) -> Trouble:
    return Trouble("AllTraffic", failure, crashes, was_ready)


@pytest.mark.parametrize(
    ("kind", "opening"),
    [
        ("import-error", PING),
        ("exited", PING),
        ("fetch-missing", 'Failed to download model data for container "container_1" from URL: "s3://b/k".'),
        ("not-an-archive", 'Failed to extract model data archive from URL "s3://b/k".'),
        ("hostile-archive", 'Failed to extract model data archive from URL "s3://b/k".'),
        ("archive-too-large", "The model data archive is too large."),
        ("unknown-image", "The primary container for production variant AllTraffic could not be started."),
    ],
)
def test_the_opening_is_awss(kind: str, opening: str) -> None:
    assert failure_reason(trouble(Failure(kind, "cause")), "s3://b/k").startswith(opening)


def test_cause_mend_and_log_lines_in_order() -> None:
    failure = Failure(
        "import-error", "inference.py line 3: No module named 'nope'", ("one", "two"), mend="Add nope to requirements"
    )
    text = failure_reason(trouble(failure))
    assert text.endswith("'nope'. Add nope to requirements. Last log lines: one | two")


def test_long_logs_are_cut_and_the_newest_stay() -> None:
    failure = Failure("exited", "It ended with status 1.", (*(f"line {n} " + "x" * 90 for n in range(50)), "the cause"))
    text = failure_reason(trouble(failure))
    assert len(text) <= MAX_REASON
    assert text.endswith("the cause")
    one = failure_reason(trouble(Failure("exited", "It ended.", ("y" * 5000,))))
    assert len(one) == MAX_REASON
    assert len(failure_reason(trouble(Failure("exited", "z" * 5000, ("tail",))))) == MAX_REASON


def test_a_rollback_names_what_serves() -> None:
    text = failure_reason(trouble(Failure("exited", "gone"), was_ready=True, crashes=3), rolled_back_to="old")
    assert "It started, and then ended 3 times." in text
    assert 'goes on serving with endpoint configuration "old".' in text


def test_sentences_are_sentences() -> None:
    text = failure_reason(
        trouble(Failure("import-error", "SAGEMAKER_PROGRAM names a.py (which is not there)", mend="put it there"))
    )
    assert text.endswith("(which is not there). Put it there.")
    assert failure_reason(trouble(Failure("x", "it ended", mend="requirements.txt is wrong"))).endswith(
        "It ended. requirements.txt is wrong."
    )


def test_the_address_is_said_once() -> None:
    text = failure_reason(trouble(Failure("not-an-archive", "s3://b/k: the file is empty.", mend="pack it again")), "s3://b/k")
    assert text.count("s3://b/k") == 1
    assert text.endswith("archive. The file is empty. Pack it again.")


def test_log_lines_that_say_nothing_new_are_left_out() -> None:
    ours = ("[slipway] inference.py defines no model_fn", "[slipway] mend: define it")
    assert failure_reason(trouble(Failure("exited", "It ended.", ours))).endswith("It ended.")
    repeated = ("Traceback (most recent call last):", "ValueError: no", "    ~~~^^^^")
    assert failure_reason(trouble(Failure("exited", "model_fn raised ValueError: no.", repeated))).endswith("ValueError: no.")
    text = failure_reason(trouble(Failure("exited", "It ended.", ("loading", "  ^^^^", *ours))))
    assert text.endswith("It ended. Last log lines: loading")


def test_what_a_program_prints_cannot_break_it() -> None:
    failure = Failure("exited", "It ended\0 badly", ("\x1b[31mred\x00\x07", "tab\there"))
    reason = failure_reason(Trouble("A", failure, 1, was_ready=False))
    assert reason.isprintable()
    assert "tab here" in reason


def test_a_failed_change_of_capacities_says_what_is_kept() -> None:
    text = failure_reason(trouble(Failure("exited", "It ended with status 1.")), rolled_back_to="c", kept=1)
    assert text.endswith("It ended with status 1. The variant keeps its 1 instance.")
