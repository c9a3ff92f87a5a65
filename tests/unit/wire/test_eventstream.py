from __future__ import annotations

import json
import subprocess
import sys

import pytest
from botocore.eventstream import EventStreamBuffer

from slipway.wire.eventstream import encode_event, exception_frame, payload_part


def test_frames_are_read_by_botocore() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(payload_part(b"") + payload_part(b"\x00\xff" * 50_000) + exception_frame("InternalStreamFailure", "Wröng"))
    empty, large, failure = buffer
    assert empty.headers == {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    assert (empty.payload, large.payload) == (b"", b"\x00\xff" * 50_000)
    assert failure.headers[":exception-type"] == "InternalStreamFailure"
    assert json.loads(failure.payload) == {"Message": "Wröng"}


def test_an_exceptions_code() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(exception_frame("ModelStreamError", "m", "StreamBroken"))
    (event,) = buffer
    assert json.loads(event.payload) == {"Message": "m", "ErrorCode": "StreamBroken"}


@pytest.mark.parametrize("header", [("", "v"), ("n" * 256, "v"), ("n", "v" * 40_000)])
def test_headers_that_do_not_fit(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        encode_event([header], b"")


def test_it_loads_no_models() -> None:
    script = "import sys; import slipway.wire.eventstream; print([m for m in sys.modules if m.startswith('botocore')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
