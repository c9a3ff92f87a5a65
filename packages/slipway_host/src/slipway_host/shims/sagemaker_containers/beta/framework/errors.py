"""Errors that scripts raise or catch."""

from __future__ import annotations

from slipway_host.codecs import UnsupportedFormat as UnsupportedFormatError

__all__ = ["ClientError", "UnsupportedFormatError"]


class ClientError(Exception):
    """The request cannot be served."""
