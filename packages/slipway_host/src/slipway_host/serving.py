"""What a forked child does: load the model, or say why that failed; serve it."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Callable

from . import crew, flavours, server_variables
from .contract import Place
from .service import Service
from .slots import WIDTH, Slots
from .worker import Limits, Worker

if TYPE_CHECKING:
    from .parent import Config


def import_ahead(config: Config) -> bool:
    """True: the framework is imported, and the model is to be loaded after the fork."""
    if config.debugger:
        return False
    try:
        return flavours.import_ahead(config.flavour, Place(config.model_dir, config.code_dir, os.environ))
    except Exception as error:  # noqa: BLE001  whatever it is, loading the model meets it again and explains it
        crew.log(f"the workers share nothing: {type(error).__name__}: {error}")
        return False


def load(config: Config) -> Service | None:
    """The loaded model; None after a failure, which is then in the log and in a report."""
    place = Place(config.model_dir, config.code_dir, os.environ)
    sys.path.append(os.path.join(os.path.dirname(__file__), "shims"))  # last: the real packages win
    server_variables.set_up_logging(os.environ)
    try:
        if config.debugger:
            from . import debugger  # noqa: PLC0415  only where it is asked for

            debugger.listen(config.debugger)
        service = flavours.load(config.flavour, place)
        if config.profile:
            from . import timing  # noqa: PLC0415  only where it is asked for

            timing.Timing(service)
        return service
    except BaseException as error:  # noqa: BLE001  whatever stops a model from loading is explained, never passed on
        if isinstance(error, MemoryError):
            traceback.clear_frames(error.__traceback__)  # lets go of what the user's code had allocated
        from . import failures  # noqa: PLC0415  what explains failures is not part of a start that succeeds

        report = failures.explain(error, place)
        failures.tell(report)
        failures.write(report, config.run_dir, config.report)
        return None


def limits_of(config: Config) -> Limits:
    """Of every worker of this host."""
    server_seconds = server_variables.request_seconds(os.environ)
    return Limits(config.invoke_seconds, config.grace_seconds, config.request_bytes, config.response_bytes, server_seconds)


def serve(
    config: Config,
    service: Service,
    listener: socket.socket,
    shared: Slots,
    index: int,
    ready: Callable[[], None],
) -> None:
    """Until SIGTERM."""
    limits = limits_of(config)
    arguments = (listener, service, shared.cells, index * WIDTH, limits)
    if service.batch is None:
        Worker(*arguments).run(ready)
        return
    from .gathering import GatheringWorker  # noqa: PLC0415  few models ask for batches

    GatheringWorker(*arguments, shared.names(index)).run(ready)
