"""The context that toolkits of the MMS family pass as a last argument to a script's functions (containers.md 3.2)."""

from __future__ import annotations

from typing import Any


class _Request:
    """What `context.request_processor[0]` offers."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}

    def get_request_properties(self) -> dict[str, str]:
        return dict(self._headers)

    def get_request_property(self, key: str) -> str | None:
        return self._headers.get(key.lower())


class Context:
    """One request's context. What it is told about the answer is kept in `status`, `content_type` and `headers`."""

    def __init__(self, model_dir: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": None,
            "batch_size": 1,
            "server_name": "slipway_host",
            "server_version": "1",
        }
        self.model_name = "model"
        self.manifest: dict[str, Any] = {}
        self.metrics = None
        self.request_processor = [_Request(headers)]
        self.status: int | None = None
        self.content_type: str | None = None
        self.headers: list[tuple[str, str]] = []

    def get_request_id(self, index: int = 0) -> str | None:
        return self.request_processor[index].get_request_property("x-amzn-sagemaker-inference-id")

    def get_request_header(self, index: int, key: str) -> str | None:
        return self.request_processor[index].get_request_property(key)

    def get_all_request_header(self, index: int) -> dict[str, str]:
        return self.request_processor[index].get_request_properties()

    def set_response_content_type(self, _index: int, value: str) -> None:
        self.content_type = value

    def set_response_header(self, _index: int, key: str, value: str) -> None:
        self.headers.append((key, value))

    def set_response_status(self, code: int = 200, _phrase: str = "", _index: int = 0) -> None:
        self.status = code
