"""A debugger's port in a worker: debugpy, where the environment has it (`slipway serve --debugger PORT`)."""

from __future__ import annotations

import sys
import time

from .contract import LoadError

_TRIES_SECONDS = 10.0
"""The port of the worker before may take a moment to become free."""


def listen(port: int) -> None:
    """Before the model is loaded, so that model_fn can be stepped through by a client that attaches later. LoadError."""
    try:
        import debugpy  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  only where it is asked for
    except ImportError:
        mend = "start it by `slipway serve --debugger`, which adds debugpy, or add debugpy to requirements.txt"
        raise LoadError("import-error", "A debugger was asked for, and debugpy is not installed", mend) from None
    until = time.monotonic() + _TRIES_SECONDS
    while True:
        try:
            debugpy.listen(("127.0.0.1", port))
        except (OSError, RuntimeError) as error:
            if time.monotonic() > until:
                raise LoadError("internal", f"The debugger's port {port} cannot be opened: {error}", "name another") from None
            time.sleep(0.2)
        else:
            break
    sys.stderr.write(f"[slipway] a debugger may attach to 127.0.0.1:{port} (debugpy)\n")
    sys.stderr.flush()
