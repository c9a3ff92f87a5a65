"""The error that a handler raises for a status of its own."""

from __future__ import annotations


class PredictionException(Exception):
    """`error_code` becomes the answer's status."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code
