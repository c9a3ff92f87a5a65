"""The answer object of a script: `worker.Response(body, mimetype=accept)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slipway_host.service import with_charset


class Response:
    """An answer with its type, status and headers. Like Flask's, as far as scripts and this host use it."""

    def __init__(
        self,
        response: str | bytes | Iterable[str | bytes] | None = None,
        accept: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        mimetype: str | None = None,
        direct_passthrough: bool = False,
    ) -> None:
        self._data = _joined(response)
        self.status_code = int(status)
        self.mimetype = mimetype or "application/json"  # `accept` is ignored, as on AWS
        self.headers: dict[str, str] = dict(headers or {})
        if self.mimetype and not any(name.lower() == "content-type" for name in self.headers):
            self.headers["Content-Type"] = with_charset(self.mimetype)

    @property
    def content_type(self) -> str | None:
        return self.headers.get("Content-Type", self.mimetype)

    @property
    def data(self) -> bytes:
        return self._data

    @property
    def response(self) -> list[bytes]:
        return [self._data]

    def get_data(self) -> bytes:
        return self._data


def _joined(response: str | bytes | Iterable[str | bytes] | None) -> bytes:
    if response is None:
        return b""
    if isinstance(response, str):
        return response.encode()
    if isinstance(response, (bytes, bytearray)):
        return bytes(response)
    return b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in response)
