"""slipway_host called directly: the same model server that the gateway has behind it, listening on TCP for wrk."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import slipway_host
from bench.contenders import ONE_THREAD
from bench.load import Server


def start(folder: Path, name: str, python: str, script: str, model: Path | None) -> tuple[Server, str]:
    """One worker with `script` as inference.py; the server and its URL."""
    place = folder / f"host-{name}"
    (place / "model" / "code").mkdir(parents=True)
    (place / "model" / "code" / "inference.py").write_text(script)
    if model is not None:
        (place / "model" / "model.joblib").write_bytes(model.read_bytes())
    ping = socket.socket(socket.AF_UNIX)
    ping.bind(str(place / "host.sock"))
    ping.listen()
    worker = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = place / "config.json"
    config.write_text(
        json.dumps(
            {
                "flavour": "sklearn",
                "model_dir": str(place / "model"),
                "code_dir": None,
                "run_dir": str(place),
                "workers": 1,
                "sockets": [ping.fileno(), worker.fileno()],
            }
        )
    )
    port = worker.getsockname()[1]
    command = [python, f"{Path(slipway_host.__file__).parent}/__main__.py", "--config", str(config)]
    environment = {**ONE_THREAD, "SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": f"{place}/model/code"}
    server = Server(f"host-{name}", command, env={**os.environ, **environment}, pass_fds=(ping.fileno(), worker.fileno()))
    ping.close()
    worker.close()
    return server, f"http://127.0.0.1:{port}/invocations"
