"""Variables of AWS's model servers: the time a request may take, the level of the log."""

from __future__ import annotations

import math

import pytest

from slipway_host.server_variables import request_seconds
from tests.deadlines import Watch

from .running import Host

SLOW = """
import logging, time
logging.getLogger("mine").info("being imported")
logging.getLogger("mine").warning("also a warning")
def model_fn(model_dir): return 1
def transform_fn(model, data, content_type, accept):
    time.sleep(float(data))
    return b"slept"
"""


@pytest.mark.parametrize("framed", [True, False], ids=["frames", "http"])
def test_a_request_that_outlives_the_servers_timeout_ends_its_worker(host: Host, framed: bool) -> None:
    host.script(SLOW)
    host.start({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"})
    before = Watch()
    if framed:
        client = host.frames()
        client.send(1, b"30", timeout=60_000)
    with pytest.raises(ConnectionError):
        client.frame() if framed else host.invoke(b"30")
    assert before.seconds > 0.9
    assert before.free < 5
    assert "did not end its request in time: killed" in host.output()
    assert host.invoke(b"0.2").text == "slept"


def test_scripts_log_from_info_on_or_from_the_level_that_is_named(host: Host) -> None:
    host.script(SLOW)
    host.start()
    assert "INFO - mine - being imported" in host.output()
    assert host.stop() == 0
    host.start({"SAGEMAKER_CONTAINER_LOG_LEVEL": "30"})
    assert "being imported" not in host.output()
    assert "WARNING - mine - also a warning" in host.output()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, math.inf),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "90", "MMS_DEFAULT_RESPONSE_TIMEOUT": "5"}, 90),
        ({"SAGEMAKER_TS_RESPONSE_TIMEOUT": "7"}, 7),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "soon"}, math.inf),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "0"}, math.inf),
    ],
)
def test_which_timeout_holds(environment: dict[str, str], seconds: float) -> None:
    assert request_seconds(environment) == seconds
