"""An invocation from its head to its proven body: what was admitted, and what waits for the body's hash to be told.

Callers sign the body but do not state its hash, so until it is here they are only claimed: whoever merely knows a key's id
must not learn from an answer which endpoints there are.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from slipway.services.runtime import answers
from slipway.services.runtime.callers import Unproven, signature_refused
from slipway.wire.claims import Claim, SignatureError
from slipway.wire.errors import AwsError

if TYPE_CHECKING:
    from slipway.http.exchange import Exchange

_HASH_INLINE = 1024 * 1024
"""Bytes: hashing more than this would hold up the event loop, and goes to a thread."""


class Refusal:
    """An `http.exchange.Claimant` that answers with an error once the caller is proven, and until then as for any endpoint."""

    def __init__(self, exchange: Exchange, unproven: Unproven, request_id: bytes) -> None:
        self._exchange = exchange
        self._unproven = unproven
        self._request_id = request_id

    def whole(self, body: bytes) -> None:
        prove(self._unproven.claim, body, self._answer)

    def refused(self, why: str) -> None:
        self._answer(answers.body_refused(why, self._request_id))

    def gone(self) -> None:
        """An answer is dropped by the exchange."""

    def _answer(self, error: AwsError | None) -> None:
        self._exchange.respond_block(*answers.error_answer(error or self._unproven.error, self._request_id))


def prove(claim: Claim | None, body: bytes, told: Callable[[AwsError | None], None]) -> None:
    """Call `told` with None if this is the body that was signed, else with the refusal; later, where hashing takes long."""
    if claim is None or not claim.needs_body_hash:
        told(None)
    elif len(body) <= _HASH_INLINE:
        told(_refusal(claim, hashlib.sha256(body).hexdigest()))
    else:
        hashing = asyncio.get_running_loop().run_in_executor(None, _sha256, body)
        hashing.add_done_callback(functools.partial(_hashed, claim, told))


def _hashed(claim: Claim, told: Callable[[AwsError | None], None], hashing: asyncio.Future[str]) -> None:
    if not hashing.cancelled():
        told(_refusal(claim, hashing.result()))


def _refusal(claim: Claim, digest: str) -> AwsError | None:
    try:
        claim.check_body(digest)
    except SignatureError as error:
        return signature_refused(error)
    return None


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
