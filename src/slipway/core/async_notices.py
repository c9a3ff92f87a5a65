"""The words of asynchronous inference: notifications of success and failure, causes, failure objects (hosting.md 4.3, 4.4)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipway.core.asynchronous import INCLUDED_BODY, CauseKind

CANCELLED_TEXT = "Cancelled by the caller."
REASON_BYTES = 2048
"""Of a notification's failureReason; the failure object has the whole cause."""
QUOTED = 512
"""Characters of a model's own words in a failureReason."""


@dataclass(frozen=True, slots=True)
class Told:
    """The request that a notification tells of. Times are epoch seconds."""

    region: str
    endpoint: str
    inference_id: str
    received: float
    finished: float
    input_location: str | None = None
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None


def success_notice(told: Told, output_location: str, content_type: str, answer: bytes | None, *, include: bool) -> str:
    """The Message of a success notification. `include`: with the answer, if it is at hand and short enough."""
    notice = _frame(told, "Completed")
    notice["responseParameters"] = _given(contentType=content_type or None, outputLocation=output_location)
    if include:
        notice["responseBody"] = _included(answer)
    return _text(notice)


def failure_notice(told: Told, reason: str, failure_location: str | None, answer: bytes | None, *, include: bool) -> str:
    """The Message of an error notification.

    Some consumers read the failure object's address as outputLocation, others as failureLocation: both are there.
    """
    notice = _frame(told, "Failed")
    if failure_location is not None:
        notice["responseParameters"] = {"outputLocation": failure_location, "failureLocation": failure_location}
    notice["failureReason"] = reason
    if include and answer is not None:
        notice["responseBody"] = {"content": answer[:INCLUDED_BODY].decode("utf-8", "replace")}
    return _text(notice)


def failure_reason(kind: CauseKind | str, status: int, cause: str, answer: bytes | None) -> str:
    """failureReason: AWS's sentence where the container answered with an error, then what the model said; else the cause."""
    if kind != "model-error":
        return _cut(f"ClientError: {cause}")
    side = "client" if 400 <= status < 500 else "server"
    text = (
        f"ClientError: Received {side} error ({status}) from model. See the SageMaker Endpoint logs in your account for more "
        "information."
    )
    said = (answer or b"")[: 4 * QUOTED].decode("utf-8", "replace").strip()[:QUOTED]
    return _cut(f'{text} The model said: "{said}"' if said else text)


def failure_object(kind: CauseKind | str, cause: str, answer: bytes | None) -> bytes:
    """The content of a failure object: the cause, and the whole of what the model said if the cause has not got it."""
    said = (answer or b"").decode("utf-8", "replace").strip() if kind == "model-error" else ""
    return (f"{cause}\n\n{said}" if said and said not in cause else cause).encode("utf-8", "replace")


def cause_of(kind: CauseKind | str, status: int, endpoint: str, timeout: int) -> str:
    """A cause for an outcome that came without one."""
    if kind == "model-error":
        side = "client" if 400 <= status < 500 else "server"
        return f"Received {side} error ({status}) from the model."
    if kind == "timeout":
        return f"The container did not answer within the request's InvocationTimeoutSeconds of {timeout}."
    if kind == "download":
        return "The input object could not be read."
    if kind == "upload":
        return "The answer could not be written to the output location."
    if kind == "too-large":
        return "The model's answer is larger than the limit."
    return (
        f"Amazon SageMaker could not get a response from the {endpoint} endpoint. This can occur when CPU or memory "
        "utilization is high."
    )


def expired_cause(received: float, expires: float, now: float) -> str:
    return (
        f"The request waited {now - received:.0f} s, longer than its RequestTTLSeconds of {expires - received:.0f}, and was "
        "not sent to the container."
    )


def dead_cause(attempts: int, last: str) -> str:
    times = "once" if attempts == 1 else f"{attempts} times"
    said = f" The last time: {last}" if last else ""
    return f"The worker died {times} while it processed the request, which is not tried again.{said}"


def orphan_cause(*, running: bool, why: str) -> str:
    """`why`: what became of the endpoint, e.g. `deleted`."""
    return f"The endpoint {why} {'while the request was being processed' if running else 'before the request was processed'}."


def output_refused(bucket: str, why: str) -> str:
    return (
        f"The answer could not be written: {why} (bucket {bucket}). Create the bucket, or name another one in S3OutputPath of "
        "the endpoint configuration."
    )


def stamp(at: float) -> str:
    """2022-01-25T22:46:00.608Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def data_log_line(at: float, inference_id: str, cause: str) -> str:
    """One line of the data log for each failed request (hosting.md 4.3)."""
    text = " ".join(cause.split())
    return f"{stamp(at).removesuffix('Z')}:[sagemaker logs] [{inference_id}] {text}"


def _frame(told: Told, status: str) -> dict[str, Any]:
    return {
        "awsRegion": told.region,
        "eventTime": stamp(told.finished),
        "receivedTime": stamp(told.received),
        "invocationStatus": status,
        "requestParameters": _given(
            contentType=told.content_type,
            endpointName=told.endpoint,
            inputLocation=told.input_location,
            accept=told.accept,
            customAttributes=told.custom_attributes,
        ),
        "inferenceId": told.inference_id,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


_ORDER = (
    "awsRegion",
    "eventTime",
    "receivedTime",
    "invocationStatus",
    "failureReason",
    "requestParameters",
    "responseParameters",
    "responseBody",
)
"""Keys of a notification as AWS orders them; the others follow."""


def _text(notice: dict[str, Any]) -> str:
    first = {name: notice[name] for name in _ORDER if name in notice}
    return json.dumps({**first, **{name: value for name, value in notice.items() if name not in first}}, separators=(",", ":"))


def _included(answer: bytes | None) -> dict[str, str]:
    if answer is None or len(answer) > INCLUDED_BODY:
        return {"message": f"The response is not included: it is larger than {INCLUDED_BODY} bytes. Read the output location."}
    return {"content": base64.b64encode(answer).decode(), "encoding": "BASE64"}


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _cut(text: str) -> str:
    return text if len(text) <= REASON_BYTES else f"{text[: REASON_BYTES - 1]}…"
