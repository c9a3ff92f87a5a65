"""A process that has loaded the model (or only imported its framework) and forks the workers, which share its memory."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import Callable

from . import crew, guard, slots
from .slots import Slots


def share(serve: Callable[[int], int], shared: Slots, count: int, stop_seconds: float, *, loaded: bool) -> int:
    """Fork `count` workers, each of which runs `serve(index)`, and replace those that die, until SIGTERM; the exit status.

    `loaded`: the model is in this process. Where it is not, each worker loads it, and one that fails at first ends
    everything: this process then ends as it did.
    """
    receive, send = socket.socketpair()
    stopped: list[bool] = []
    owner = os.getpid()

    def work(index: int) -> int:
        guard.become_child(owner)
        receive.close()
        return serve(index)

    workers = crew.Crew(work, shared, watch=True)
    guard.watch_signals(receive, send, lambda _number, _frame: stopped.append(True))
    for index in range(count):
        shared.clear(index)
        workers.start(index)
    poller = select.poll()
    poller.register(receive.fileno(), select.POLLIN)
    while not stopped:
        wait = workers.tend(time.monotonic())
        if poller.poll(max(1, int(wait * 1000))):
            receive.recv(4096)
        loaded = loaded or shared.ready() == count
        for index, status in workers.reap():
            told = shared.state(index) == slots.TOLD
            shared.clear(index)
            if stopped:
                continue
            if not loaded:
                workers.stop(0.2)
                return _end_alike(shared, status, told)
            crew.log(f"worker {index} ended ({crew.describe(status)}); a new one takes its place")
            workers.replace(index, time.monotonic())
    workers.stop(stop_seconds)
    return 0


def _end_alike(shared: Slots, status: int, told: bool) -> int:
    """The end of a worker that could not load the model, as this process's own: the parent explains it."""
    if told:
        shared.enter(0, slots.TOLD, os.getpid())
        return 1
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return os.WEXITSTATUS(status) or 1
