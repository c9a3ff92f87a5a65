"""How a process writes its log: one line for each event, its fields behind it, on standard error (the keeper's, in the end)."""

from __future__ import annotations

import logging

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MOST_KINDS = 1000


class Events(logging.Formatter):
    """`time role LEVEL logger action key=value …`; a traceback follows where there is one."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s {role} %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = {name: value for name, value in vars(record).items() if name not in _KNOWN}
        return " ".join([super().formatMessage(record), *(f"{name}={_shown(value)}" for name, value in fields.items())])


class Repeats(logging.Filter):
    """Of warnings and errors with the same words, so many in so many seconds; the next one says how many were left out.

    A store that goes away breaks everything at once, many times a second; whoever looks at the terminal should still see
    what else is said there.
    """

    def __init__(self, most: int = 10, seconds: float = 10.0) -> None:
        super().__init__()
        self._most = most
        self._seconds = seconds
        self._counts: dict[tuple[str, object], tuple[float, int]] = {}
        """Since when, and how many, by logger and message."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        what = (record.name, record.msg)
        since, count = self._counts.get(what, (record.created, 0))
        if record.created - since >= self._seconds:
            if count > self._most:
                record.left_out = count - self._most
            since, count = record.created, 0
        if len(self._counts) >= _MOST_KINDS:
            self._counts.clear()
        self._counts[what] = (since, count + 1)
        return count < self._most


def _shown(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


def configure(role: str, level: str) -> None:
    """Once, by the process that is the role."""
    handler = logging.StreamHandler()
    handler.setFormatter(Events(role))
    handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler])
