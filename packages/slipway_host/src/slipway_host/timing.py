"""Where the time of a request goes, handler by handler: a line in the log for each, for whoever develops a model."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable

from .service import Service

_HANDLERS = ("input", "predict", "output", "transform")
"""Of a ScriptService, as its attributes `_input`, …; other services are timed as a whole."""


class Timing:
    """Wraps a loaded service's handlers in place. One worker runs one request at a time: no lock."""

    def __init__(self, service: Service) -> None:
        self._parts: list[tuple[str, float]] = []
        self._calls = 0
        self._seconds = 0.0
        for name in _HANDLERS:
            handler = getattr(service, f"_{name}", None)
            if handler is not None:
                setattr(service, f"_{name}", self._timed(f"{name}_fn", handler))
        self._invoke = service.invoke
        service.invoke = self.invoke  # type: ignore[method-assign]

    def _timed(self, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return handler(*args)
            finally:
                self._parts.append((name, time.perf_counter() - began))

        return timed

    def invoke(self, call: Any, body: bytes) -> Any:
        """The service's own, timed."""
        self._parts.clear()
        began = time.perf_counter()
        try:
            return self._invoke(call, body)
        finally:
            self._tell(time.perf_counter() - began, len(body))

    def _tell(self, seconds: float, size: int) -> None:
        self._calls += 1
        self._seconds += seconds
        parts = "".join(f", {name} {_ms(part)}" for name, part in self._parts)
        mean = _ms(self._seconds / self._calls)
        sys.stderr.write(f"[slipway] {_ms(seconds)} for {size} bytes{parts} (request {self._calls}, mean {mean})\n")
        sys.stderr.flush()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f} ms"
