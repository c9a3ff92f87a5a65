"""The words of a FailureReason: AWS's sentence first where one is known, then cause, mend and the last log lines.

Clients look into it (the SDK raises its CapacityError on a word, scripts grep for "ping health check"), people read it: it
must say what to do. At most 1024 characters (hosting.md 2.1, 2.9; containers.md 1.6).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from slipway.core.endpoints import Trouble
from slipway.core.replicas import Failure

MAX_REASON = 1024

_DOWNLOAD = frozenset({"fetch-missing", "fetch-failed"})
_EXTRACT = frozenset({"not-an-archive", "hostile-archive"})
_OUR_OWN = frozenset({"unknown-image", "isolation", "disk-full", "gpu", "environment", "internal"})
"""Kinds for which AWS has no sentence that fits: the cause speaks for itself."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOISE = re.compile(r"\[slipway\] |[~^ ]+$|Traceback \(most recent call last\):$")


def failure_reason(
    trouble: Trouble,
    url: str | Mapping[str, str] = "",
    rolled_back_to: str | None = None,
    kept: int | None = None,
    *,
    job: bool = False,
) -> str:
    """FailureReason of a deployment that ended with `trouble`: of every container that failed.

    `url`: the model data's address, as the user gave it; of several containers by name. `rolled_back_to`: the endpoint
    configuration that goes on serving, where there is one. `kept`: after a change of capacities that failed, the instances that
    the variant has as before. `job`: they are a transform job's instances.
    """
    failures = (trouble.failure, *trouble.failure.others)
    parts = []
    most = MAX_REASON if len(failures) == 1 else MAX_REASON // len(failures) - 1
    for number, failure in enumerate(failures):
        address = url if isinstance(url, str) else url.get(failure.container, "")
        opening = _opening(failure, trouble.variant, address)
        told = [_for_job(opening, trouble.variant) if job else opening]
        if trouble.was_ready and number == 0:
            told.append(f"It started, and then ended {trouble.crashes} times.")
        told.append(sentence(failure.message.removeprefix(f"{address}: ") if address else failure.message))
        told.append(sentence(failure.mend))
        # Each is heard, also beside one that has much to say.
        parts.append(" ".join(part for part in told if part)[:most])
    if kept is not None:
        parts.append(f"The variant keeps its {kept} instance{'' if kept == 1 else 's'}.")
    elif rolled_back_to is not None:
        parts.append(f'The endpoint goes on serving with endpoint configuration "{rolled_back_to}".')
    text = " ".join(part for part in parts if part)[:MAX_REASON]
    # A program may print anything, and PostgreSQL, for one, keeps no text with a null character.
    tails = [line for failure in failures for line in (failure.log_tail if len(failures) == 1 else failure.log_tail[-2:])]
    return _CONTROL.sub(" ", text + _tail(tuple(tails), text))


def _for_job(opening: str, variant: str) -> str:
    opening = opening.replace(f" for production variant {variant}", "")
    return f"AlgorithmError: {opening.replace('logs for this endpoint', 'logs for this transform job')}"


def _opening(failure: Failure, variant: str, url: str) -> str:
    container = failure.container or "primary"
    if failure.kind in _DOWNLOAD:
        return (
            f'Failed to download model data for container "{failure.container or "container_1"}" from URL: "{url}". Please '
            "ensure that there is an object located at the URL and that the role passed to CreateModel has permissions to "
            "download the object."
        )
    if failure.kind in _EXTRACT:
        whose = f'for container "{failure.container}" ' if failure.container else ""
        return (
            f'Failed to extract model data archive {whose}from URL "{url}". Please ensure that the object located at '
            "the URL is a valid tar.gz archive."
        )
    if failure.kind == "archive-too-large":
        return (
            "The model data archive is too large. Please reduce the size of the model data archive or move to an instance type "
            "with more memory."
        )
    if failure.kind in _OUR_OWN:
        return f"The {container} container for production variant {variant} could not be started."
    return (
        f"The {container} container for production variant {variant} did not pass the ping health check. Please check "
        "CloudWatch logs for this endpoint."
    )


def sentence(text: str) -> str:
    """With a capital letter, unless it begins with a name (`requirements.txt`, `model_fn`), and a full stop."""
    text = text.strip()
    if re.match(r"[a-z]+[ ,]", text):
        text = text[0].upper() + text[1:]
    return text if not text or text[-1] in ".!?:" else f"{text}."


def _tail(lines: tuple[str, ...], told: str) -> str:
    """As many of the last log lines as fit, in their order; the newest is cut short rather than left out.

    Nothing when `told` says it all: our own lines are its words, and marks under a traceback's code mean nothing here.
    """
    opening = " Last log lines: "
    room = MAX_REASON - len(told) - len(opening)
    lines = tuple(line for line in map(str.strip, lines) if line and not _NOISE.match(line))
    if all(line in told for line in lines):
        return ""
    kept: list[str] = []
    for line in reversed(lines):
        need = len(line) + (3 if kept else 0)
        if need > room:
            if not kept and room > 40:
                kept.append(line[:room])
            break
        kept.append(line)
        room -= need
    return opening + " | ".join(reversed(kept)) if kept else ""
