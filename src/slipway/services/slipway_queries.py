"""What a request to one of our own routes brings: who signed it, and its parameters; and the error where it makes no sense."""

from __future__ import annotations

from urllib.parse import parse_qsl

from slipway.http.messages import Request
from slipway.services.authenticate import Caller
from slipway.wire.errors import AwsError

MOST_BYTES = 8192
MOST_PARAMETERS = 20


def signer(caller: Caller | None) -> Caller:
    """AwsError (403) where nobody signed."""
    if caller is None:
        raise AwsError("AccessDenied", "The request is not signed.", status=403)
    return caller


def parameters(request: Request) -> dict[str, str]:
    """By name; of several of one name the last. AwsError (400) where there are too many."""
    text = request.target.partition(b"?")[2][:MOST_BYTES].decode("latin-1")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_PARAMETERS))
    except ValueError:
        raise invalid("too many parameters") from None


def invalid(why: str) -> AwsError:
    return AwsError("ValidationError", f"The request is not understood: {why}.", status=400)
