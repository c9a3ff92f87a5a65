"""The context that toolkits of the MMS family pass as a last argument to a script's functions (containers.md 3.2)."""

from __future__ import annotations

import os
import sys
from typing import Any

_TYPE = "content-type"


class _Properties(dict[str, str]):
    """Header names as they are asked for: `Accept`, `accept`."""

    def __getitem__(self, key: str) -> str:
        return super().__getitem__(key.lower())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and super().__contains__(key.lower())

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.lower(), default)


class _Request:
    """What `context.request_processor[0]` offers."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = _Properties({name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers})

    def get_request_properties(self) -> dict[str, str]:
        return _Properties(self._headers)

    def get_request_property(self, key: str) -> str | None:
        value: str | None = self._headers.get(key)
        return value


class _Metrics:
    """The model server's metrics: a line in the log for each."""

    def _tell(self, name: str, value: Any, unit: str) -> None:
        sys.stdout.write(f"[METRICS]{name}.{unit}:{value}\n")

    def add_counter(self, name: str, value: Any, idx: int | None = None, dimensions: Any = None) -> None:
        self._tell(name, value, "Count")

    def add_time(self, name: str, value: Any, idx: int | None = None, unit: str = "ms", dimensions: Any = None) -> None:
        self._tell(name, value, "Seconds" if unit == "s" else "Milliseconds")

    def add_size(self, name: str, value: Any, idx: int | None = None, unit: str = "MB", dimensions: Any = None) -> None:
        self._tell(name, value, unit)

    def add_percent(self, name: str, value: Any, idx: int | None = None, dimensions: Any = None) -> None:
        self._tell(name, value, "Percent")

    def add_error(self, name: str, value: Any, dimensions: Any = None) -> None:
        self._tell(name, value, "Error")

    def add_metric(self, name: str, value: Any, idx: int | None = None, unit: str = "", dimensions: Any = None) -> None:
        self._tell(name, value, unit or "None")


class Context:
    """One request's context. What it is told about the answer is kept in `status`, `content_type` and `headers`."""

    def __init__(self, model_dir: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": 0 if os.environ.get("CUDA_VISIBLE_DEVICES") else None,
            "batch_size": 1,
            "server_name": "slipway_host",
            "server_version": "1",
        }
        self.model_name = "model"
        self.manifest: dict[str, Any] = {}
        self.metrics = _Metrics()
        self.begin(headers)

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """The next request: toolkits keep the context that they were initialized with, and expect it to be of this one."""
        self.request_processor = [_Request(headers)]
        self._id = ""
        self.status: int | None = None
        self.content_type: str | None = None
        self.headers: list[tuple[str, str]] = []

    def get_request_id(self, idx: int = 0) -> str:
        """The caller's InferenceId, else one made up."""
        if not self._id:
            self._id = self.request_processor[idx].get_request_property("x-amzn-sagemaker-inference-id") or os.urandom(16).hex()
        return self._id

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.content_type = value

    def get_response_content_type(self, idx: int) -> str | None:
        return self.content_type

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        if key.lower() == _TYPE:
            self.content_type = value
            return
        self.headers = [pair for pair in self.headers if pair[0] != key]
        self.headers.append((key, value))

    def get_response_headers(self, idx: int) -> dict[str, str]:
        typed = {_TYPE: self.content_type} if self.content_type else {}
        return {**typed, **dict(self.headers)}

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.status = code

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        self.status = code

    def get_response_status(self, idx: int) -> tuple[int, str]:
        return self.status or 200, ""


class Together(Context):
    """The context of several requests that one call answers: index i is the i-th of them."""

    def __init__(self, members: list[Context]) -> None:
        super().__init__(str(members[0].system_properties["model_dir"]), [])
        self.system_properties["batch_size"] = len(members)
        self.request_processor = [member.request_processor[0] for member in members]
        self._members = members

    def get_request_id(self, idx: int = 0) -> str:
        return self._members[idx].get_request_id()

    def set_response_content_type(self, idx: int, value: str) -> None:
        self._members[idx].set_response_content_type(0, value)

    def get_response_content_type(self, idx: int) -> str | None:
        return self._members[idx].get_response_content_type(0)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self._members[idx].set_response_header(0, key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return self._members[idx].get_response_headers(0)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self._members[idx].set_response_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        for member in self._members:
            member.set_response_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str]:
        return self._members[idx].get_response_status(0)
