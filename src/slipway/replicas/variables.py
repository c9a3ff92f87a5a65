"""Variables of AWS's framework images that change nothing here, each with what holds instead (containers.md 1.9).

Those that act are read where they act; what a framework's own variables do is said by its flavour in the host.
"""

from __future__ import annotations

from collections.abc import Mapping

WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"
WORKERS_OF_SERVERS = ("MMS_DEFAULT_WORKERS_PER_MODEL", "TS_DEFAULT_WORKERS_PER_MODEL")
"""Of AWS's model servers, for the same number; WORKERS goes first."""
_TIMEOUTS = ("MMS_DEFAULT_RESPONSE_TIMEOUT", "TS_DEFAULT_RESPONSE_TIMEOUT")
_SERVERS = {"MMS_": "multi-model-server", "TS_": "TorchServe"}
_NO_EFFECT = {
    "SAGEMAKER_MODEL_SERVER_VMARGS": "no Java runs here",
    "SAGEMAKER_MAX_HEAP_SIZE": "no Java runs here",
    "SAGEMAKER_STARTUP_TIMEOUT": "ContainerStartupHealthCheckTimeoutInSeconds bounds the start",
    "SAGEMAKER_USE_NGINX": "neither nginx nor gunicorn runs here",
    "SAGEMAKER_SERVING_MODULE": "neither nginx nor gunicorn runs here",
    "SAGEMAKER_NUM_MODEL_WORKERS": f"it is for multi-model containers; {WORKERS} says how many workers there are",
    "SAGEMAKER_MODEL_JOB_QUEUE_SIZE": "requests wait in the gateway",
    "SAGEMAKER_GUNICORN_WORKERS": f"{WORKERS} says how many workers there are",
    "SAGEMAKER_GUNICORN_THREADS": "a worker runs one request at a time",
    "SAGEMAKER_GUNICORN_LOGLEVEL": "neither nginx nor gunicorn runs here",
    "SAGEMAKER_TFS_NGINX_LOGLEVEL": "neither nginx nor gunicorn runs here",
    "SAGEMAKER_NGINX_PROXY_READ_TIMEOUT_SECONDS": "neither nginx nor gunicorn runs here",
    "CA_REPOSITORY_ARN": "packages come from the index that this machine is set up for",
}
_ONE_PROCESS = "each loaded model of a multi-model container has one process"
_ONE_BY_ONE = "models of a multi-model container get their requests one by one"
_NO_EFFECT_ON_MANY = {
    WORKERS: _ONE_PROCESS,
    **dict.fromkeys(WORKERS_OF_SERVERS, _ONE_PROCESS),
    "SAGEMAKER_NUM_MODEL_WORKERS": _ONE_PROCESS,
    "SAGEMAKER_MODEL_JOB_QUEUE_SIZE": "requests wait in the gateway, for all models of an endpoint together",
    "SLIPWAY_MAX_BATCH_SIZE": _ONE_BY_ONE,
    "SLIPWAY_MAX_BATCH_DELAY_MS": _ONE_BY_ONE,
    "SAGEMAKER_TS_BATCH_SIZE": f"{_ONE_BY_ONE}, as on AWS",
    "SAGEMAKER_TS_MAX_BATCH_DELAY": f"{_ONE_BY_ONE}, as on AWS",
}
"""Of a multi-model container, beside those above. A SLIPWAY_MAX_BATCH_SIZE of more than 1 is refused (`containers.check`)."""
MAX_NOTES = 10


def notes(environment: Mapping[str, str], *, many: bool = False) -> list[str]:
    """A line for each variable of a container's Environment that has no effect; they go to the endpoint's log.

    `many`: of a multi-model container.
    """
    found = []
    without = _NO_EFFECT | _NO_EFFECT_ON_MANY if many else _NO_EFFECT
    for name in environment:
        if name in without:
            found.append(f"{name} has no effect: {without[name]}")
            continue
        for prefix, server in _SERVERS.items():
            if name.startswith(prefix) and name not in (*WORKERS_OF_SERVERS, *_TIMEOUTS):
                found.append(f"{name} has no effect: {server} does not run here")
    return found[:MAX_NOTES]


def wanted_workers(environment: Mapping[str, str]) -> int:
    """How many workers the user asks for; 0: nothing, or nonsense."""
    for name in (WORKERS, *WORKERS_OF_SERVERS):
        text = environment.get(name, "").strip()
        if text.isdecimal() and text.isascii() and len(text) < 5 and int(text):
            return int(text)
    return 0
