"""Log groups and streams: append-only files, written by keepers and by PutLogEvents, read by the logs service."""

from __future__ import annotations


class Logs:
    """Log groups of all accounts and regions, under one directory."""
