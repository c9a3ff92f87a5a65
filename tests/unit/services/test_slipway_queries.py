"""Requests to our own routes: signed, with a bounded number of parameters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from slipway.services.slipway_queries import MOST_PARAMETERS, parameters, signer
from slipway.wire.errors import AwsError


def asked(target: bytes) -> Any:
    return SimpleNamespace(target=target)


def test_parameters_are_read_as_forms_are() -> None:
    assert parameters(asked(b"/_slipway/async")) == {}
    assert parameters(asked(b"/_slipway/async?a=1&b=&a=x%20y+z")) == {"a": "x y z", "b": ""}


def test_too_many_are_refused() -> None:
    query = b"&".join(b"a=1" for _ in range(MOST_PARAMETERS))
    assert parameters(asked(b"/?" + query)) == {"a": "1"}
    with pytest.raises(AwsError, match="too many parameters") as caught:
        parameters(asked(b"/?b=2&" + query))
    assert (caught.value.code, caught.value.status) == ("ValidationError", 400)


def test_nobody_is_refused() -> None:
    caller = cast("Any", SimpleNamespace())
    assert signer(caller) is caller
    with pytest.raises(AwsError) as caught:
        signer(None)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)
