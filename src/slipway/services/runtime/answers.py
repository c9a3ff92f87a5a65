"""The runtime's errors and ModelErrors as rest-json: code in a header, modelled members in the body (hosting.md 3.3)."""

from __future__ import annotations

import json
from typing import NamedTuple

from slipway.core.models import ModelAnswer
from slipway.data import invoke
from slipway.names import endpoint_log_group, log_group_arn
from slipway.wire.errors import AwsError

MAX_MESSAGE = 2048
"""Characters of Message and of OriginalMessage."""

_STATUS = {"InternalFailure": 500, "ServiceUnavailable": 503, "ModelError": 424}

TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container {container}. Review the latency metrics for each "
    "container in Amazon CloudWatch, resolve the issue, and try again."
)
_CAUSES = {
    invoke.TIMEOUT: TIMED_OUT,
    invoke.DIED: "An error occurred while handling request as the model process exited.",
    invoke.BROKEN: "The model's handler failed in the middle of its answer.",
    invoke.TOO_LARGE: "The model's answer is larger than the limit of {limit} bytes.",
}
"""What stands in for the container's body when there is none, by `data.invoke`'s reasons."""


class Answer(NamedTuple):
    status: int
    block: bytes
    """Header lines."""
    body: bytes


class Where(NamedTuple):
    """What a ModelError names beside the model's words."""

    account: str
    region: str
    endpoint: str
    container: str
    base_url: str
    """Of our own log address, in the place where AWS has its console's."""


def error_answer(error: AwsError, request_id: bytes) -> Answer:
    """Any error but a ModelError."""
    status = error.status or _STATUS.get(error.code, 400)
    members = {"Message": error.message, **error.members}
    return Answer(status, _block(error.code, request_id), json.dumps(members).encode())


def model_error(where: Where, status: int, original: str, code: str, request_id: bytes) -> Answer:
    """ModelError: `status` is the container's own (0: none came), `original` what it said."""
    kind = "client" if 400 <= status < 500 else "server"
    start = f'Received {kind} error ({status}) from {where.container} with message "'
    end = f'". {_see(where)}'
    room = max(0, MAX_MESSAGE - len(start) - len(end))
    return _model_error(where, f"{start}{original[:room]}{end}", status, original, code, request_id)


def oversize_between(where: Where, why: invoke.Oversize, request_id: bytes) -> Answer:
    """A container's answer is too large for the next one (containers.md 6.2)."""
    limit = f"{why.limit / 2**20:g} MB"
    text = (
        f"Received response from {why.container} with status code 200. However, the request payload from {why.container} to "
        f"{why.following} is {why.size} bytes, which has exceeded the maximum limit of {limit}."
    )
    return _model_error(where, f"{text} {_see(where)}", 200, text, "INTERNAL_FAILURE_FROM_MODEL", request_id)


def _see(where: Where) -> str:
    group = endpoint_log_group(where.endpoint)
    link = f"{where.base_url}/cloudwatch/home?region={where.region}#logEventViewer:group={group}"
    return f"See {link} in account {where.account} for more information."


def _model_error(where: Where, message: str, status: int, original: str, code: str, request_id: bytes) -> Answer:
    members = {
        "ErrorCode": code,
        "LogStreamArn": log_group_arn(where.region, where.account, endpoint_log_group(where.endpoint)),
        "Message": message[:MAX_MESSAGE],
        "OriginalMessage": original[:MAX_MESSAGE],
        "OriginalStatusCode": status,
    }
    return Answer(424, _block("ModelError", request_id), json.dumps(members).encode())


def model_answered(where: Where, status: int, body: bytes, request_id: bytes) -> Answer:
    """The container answered outside 2xx."""
    original = body[: 4 * MAX_MESSAGE].decode("utf-8", "replace")[:MAX_MESSAGE]
    code = "CLIENT_ERROR_FROM_MODEL" if 400 <= status < 500 else "SERVER_ERROR_FROM_MODEL"
    return model_error(where, status, original, code, request_id)


def model_silent(where: Where, why: str, limit: int, request_id: bytes) -> Answer:
    """No answer came from the container; `why` as in `data.invoke`."""
    original = _CAUSES[why].format(container=where.container, limit=limit)
    return model_error(where, 0, original, "INTERNAL_FAILURE_FROM_MODEL", request_id)


def no_place(why: str, endpoint: str, variant: str) -> AwsError:
    """It reached no model."""
    if why == invoke.NO_CAPACITY:
        text = f"Variant {variant} of endpoint {endpoint} has no replica that is ready to take the request."
    else:
        text = f"Too many requests are waiting for variant {variant} of endpoint {endpoint}."
    return AwsError("ServiceUnavailable", text, status=503)


def no_model(why: str, answer: ModelAnswer | None, endpoint: str, target: str) -> AwsError:
    """There is no such model to ask, or not yet (containers.md 5.3, 5.4); a container's own refusal is a ModelError."""
    if answer is None:
        text = f"Model {target} of endpoint {endpoint} is not ready for inference yet: it is being loaded. Try again."
        return AwsError("ModelNotReadyException", text, status=429)
    return AwsError("ValidationError", answer.message or f"Model {target} cannot be loaded ({why}).", status=400)


def oversize(request_id: bytes) -> AwsError:
    return AwsError("ValidationError", f"Request {request_id.decode()} has oversize body.", status=400)


def body_refused(why: str, request_id: bytes) -> AwsError:
    """`why` as the server's claimants get it."""
    if why == "too-large":
        return oversize(request_id)
    return AwsError("ServiceUnavailable", "Too many bytes of request bodies are in memory; try again.", status=503)


def _block(code: str, request_id: bytes) -> bytes:
    return b"content-type: application/json\r\nx-amzn-ErrorType: %b\r\nx-amzn-RequestId: %b\r\n" % (code.encode(), request_id)
