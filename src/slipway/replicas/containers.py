"""How a directory image's server is started: its command, variables, network and port, under containers.md 1.

In a sandbox every container has a network of its own, and with it port 8080, unless it declared that it listens on
$SAGEMAKER_BIND_TO_PORT. `slipway_host.container` starts it in there and leads requests to it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from slipway.core.dockerfile import BIND_TO_PORT as LABEL
from slipway.core.replicas import ReplicaSpec
from slipway.replicas.directory_images import DirectoryImage
from slipway.replicas.failures import cannot
from slipway.replicas.images import own_interpreter
from slipway.replicas.ports import BIND_TO_PORT, Ports
from slipway.replicas.sandbox import MODEL

PORT = 8080
"""The one port of the contract (containers.md 1.2)."""
BATCH_SIZE = "SLIPWAY_MAX_BATCH_SIZE"
WRITABLE = ("/run", "/var/cache", "/var/lib/nginx", "/var/log", "/var/log/nginx")
"""What a container's server may write to beside /tmp: nginx needs its folders, and others log below /var/log."""
_FILES = ("/etc/nginx/mime.types", "/etc/nginx/fastcgi_params", "/etc/nginx/uwsgi_params", "/etc/nginx/proxy_params")
"""Of this machine's configuration, what servers include by name; nothing that an operator would write."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `launch` needs to know of a directory image's server."""

    config: dict[str, object]
    variables: dict[str, str]
    binds: dict[str, str]
    readable: tuple[str, ...]
    working_dir: str
    python: str
    """Of the process beside the server: slipway's own interpreter, whatever the image brings."""
    own_network: bool


def plan(
    image: DirectoryImage,
    spec: ReplicaSpec,
    python_path: str,
    trees: Mapping[str, str],
    *,
    run_dir: str,
    sandboxed: bool,
    ports: Ports | None = None,
) -> Plan:
    """Everything but descriptors. `ports`: of a container among several. OSError when no port is free."""
    own_network = sandboxed and (spec.isolated or not image.bind_to_port)
    port = PORT if own_network else ports.bind if ports is not None else _free_port()
    folder = image.working_dir if sandboxed else image.folder
    own = own_interpreter()
    variables = {
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108  private to the sandbox, and writable
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **image.variables(python_path, folder),
        **({} if sandboxed else {"SM_MODEL_DIR": trees.get(MODEL, "")}),
        **spec.platform,
        **spec.environment,
        **(ports.variables() if ports is not None else {}),
        BIND_TO_PORT: str(port),
    }
    config = {
        "command": image.command,
        "folder": folder,
        "port": port,
        "own_network": own_network,
        "sandboxed": sandboxed,
        "start_seconds": spec.start_timeout,
        "run_dir": run_dir,
    }
    binds = {**trees, image.working_dir: image.folder, **{file: file for file in _FILES if os.path.isfile(file)}}
    readable = (os.path.dirname(os.path.dirname(own.path)),)
    return Plan(config, variables, binds, readable, folder, own.path, own_network)


def check(spec: ReplicaSpec) -> None:
    """Refuse what only our own host does. CannotRun."""
    if spec.environment.get(BATCH_SIZE, "").strip() not in ("", "1"):
        who = "the models of a multi-model container take their" if spec.models else "the container's own server takes its"
        mend = f"remove {BATCH_SIZE} from the model's Environment" + ("" if spec.models else ", and batch in the server")
        raise cannot("no-serve", f"{BATCH_SIZE} is set, and {who} requests one by one.", mend)


def notes(image: DirectoryImage, *, isolated: bool, sandboxed: bool, several: bool = False) -> list[str]:
    """What its user should know beforehand, for the endpoint's log. `several`: it stands beside other containers."""
    found = []
    if several and not image.bind_to_port:
        found.append(
            f"on AWS this image could not stand beside other containers: it lacks the label {LABEL}=true "
            "(slipway images add --bind-to-port says that it listens on $SAGEMAKER_BIND_TO_PORT)"
        )
    if not sandboxed:
        return [
            *found,
            f"without a sandbox the container's server must listen on $SAGEMAKER_BIND_TO_PORT: {PORT} is not its own",
        ]
    if isolated or image.bind_to_port:
        return found
    return [
        *found,
        "the container has a network of its own, without a way out; an image that listens on $SAGEMAKER_BIND_TO_PORT and says "
        "so (slipway images add --bind-to-port, or the label accept-bind-to-port) shares the machine's",
    ]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
