"""How a process writes its log: one line for each event, its fields behind it, on standard error (the keeper's, in the end)."""

from __future__ import annotations

import logging

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Events(logging.Formatter):
    """`time role LEVEL logger action key=value …`; a traceback follows where there is one."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s {role} %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = {name: value for name, value in vars(record).items() if name not in _KNOWN}
        return " ".join([super().formatMessage(record), *(f"{name}={_shown(value)}" for name, value in fields.items())])


def _shown(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


def configure(role: str, level: str) -> None:
    """Once, by the process that is the role."""
    handler = logging.StreamHandler()
    handler.setFormatter(Events(role))
    logging.basicConfig(level=level.upper(), handlers=[handler])
