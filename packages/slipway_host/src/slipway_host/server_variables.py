"""Variables of AWS's model servers that hold for every framework here: how long a request may take, and what is logged."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping

_TIMEOUTS = (
    "SAGEMAKER_MODEL_SERVER_TIMEOUT",
    "SAGEMAKER_TS_RESPONSE_TIMEOUT",
    "MMS_DEFAULT_RESPONSE_TIMEOUT",
    "TS_DEFAULT_RESPONSE_TIMEOUT",
    "SAGEMAKER_GUNICORN_TIMEOUT_SECONDS",
)
"""Seconds after which AWS's servers end a worker that has not answered; the first that is set holds."""
_LEVEL = "SAGEMAKER_CONTAINER_LOG_LEVEL"
_FORMAT = "%(asctime)s %(levelname)s - %(name)s - %(message)s"


def request_seconds(environment: Mapping[str, str]) -> float:
    """After which a worker is killed whatever its caller's patience; infinite where the user says nothing.

    AWS's servers have defaults of 60 and 120 s: here the endpoint's own limit holds.
    """
    for name in _TIMEOUTS:
        text = environment.get(name, "").strip()
        if text.isdecimal() and text.isascii() and len(text) < 9 and int(text):
            return float(text)
    return math.inf


def set_up_logging(environment: Mapping[str, str]) -> None:
    """`logging` of scripts and libraries goes to the log from INFO on, as in AWS's images, or from the level that is named."""
    text = environment.get(_LEVEL, "").strip()
    level = int(text) if text.isdecimal() and len(text) < 4 else getattr(logging, text.upper(), None)
    logging.basicConfig(stream=sys.stderr, format=_FORMAT, level=level if isinstance(level, int) else logging.INFO)
