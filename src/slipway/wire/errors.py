"""The one error that operations raise towards a caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AwsError(Exception):
    """An error in AWS's own terms; `wire.serialize` renders it in the caller's protocol.

    `code` is the wire code (`ValidationException`), `message` AWS's wording. `status` is an HTTP status; None means:
    the one that botocore's model gives the shape of that code for the operation, else 400.
    `members` are further modelled members of the error shape (`OriginalStatusCode` of ModelError).
    """

    def __init__(self, code: str, message: str, *, status: int | None = None, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members: Mapping[str, Any] = members


def validation_exception(message: str) -> AwsError:
    """SageMaker's answer to nearly every bad call of the control plane, "not found" included (hosting.md 2.9)."""
    return AwsError("ValidationException", message, status=400)
