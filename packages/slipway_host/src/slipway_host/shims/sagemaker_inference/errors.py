"""Errors that scripts raise or catch. One that carries a status becomes that status."""

from __future__ import annotations

from slipway_host.codecs import UnsupportedFormat as UnsupportedFormatError

__all__ = ["BaseInferenceToolkitError", "GenericInferenceToolkitError", "UnsupportedFormatError"]


class BaseInferenceToolkitError(Exception):
    """An answer other than success: `status_code`, `message`, `phrase`."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message
        self.phrase = phrase


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """The same, its message optional."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        text = message or "Invalid Request"
        super().__init__(status_code, text, phrase or text)
