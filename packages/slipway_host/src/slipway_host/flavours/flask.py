"""What scikit-learn's and XGBoost's images share: a script behind Flask (containers.md 3.6, 3.7).

Results become answers as Flask makes them; SLIPWAY_STRICT_AWS_ERRORS=1 restores the images' pages and types where ours say
more.
"""

from __future__ import annotations

import json
from typing import Any

from .. import codecs, frames
from ..contract import Place
from ..service import Answer, Defaults, failure

_PAGE = (
    b"<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal Server Error</h1>\n"
    b"<p>The server encountered an internal error and was unable to complete your request. Either the server is overloaded "
    b"or there is an error in the application.</p>\n"
)
_HTML = "text/html; charset=utf-8"


class FlaskDefaults(Defaults):
    charset = True
    text_errors = "replace"

    def __init__(self, place: Place) -> None:
        self.strict = switch(place, "SLIPWAY_STRICT_AWS_ERRORS")
        self.pickle = switch(place, "SLIPWAY_ALLOW_PICKLE")
        self.accept = place.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "") or codecs.JSON

    def untyped(self, accept: str) -> str:
        return _HTML if self.strict else super().untyped(accept)

    def other(self, result: Any, content_type: str) -> tuple[str | bytes, str]:
        """Objects and lists as JSON, whatever was asked for."""
        if isinstance(result, (dict, list)):
            return json.dumps(result, sort_keys=True, separators=(",", ":")) + "\n", codecs.JSON
        return super().other(result, content_type)

    def unsupported(self, error: codecs.UnsupportedFormat) -> Answer:
        if self.strict:
            return self.failed(error)
        body = json.dumps({"error": "UnsupportedFormatError", "error-message": error.message}).encode()
        return 406 if error.accept else 415, frames.pack_head([(b"Content-Type", b"application/json")]), body

    def failed(self, error: BaseException) -> Answer:
        answer = failure(error)
        if not self.strict:
            return answer
        return 500, frames.pack_head([(b"Content-Type", _HTML.encode())]), _PAGE


def switch(place: Place, name: str) -> bool:
    return place.environment.get(name, "").lower() in ("1", "true", "yes", "on")
