"""Small helpers that scripts import."""

from __future__ import annotations

from collections.abc import Mapping


def read_file(path: str, mode: str = "r") -> str:
    with open(path, mode, encoding="utf-8") as file:
        return str(file.read())


def write_file(path: str, data: str, mode: str = "w") -> None:
    with open(path, mode, encoding="utf-8") as file:
        file.write(data)


def parse_accept(accept: str) -> list[str]:
    """The types of an Accept header, their parameters with them."""
    return accept.replace(" ", "").split(",")


def retrieve_content_type_header(request_property: Mapping[str, str]) -> str | None:
    """The Content-Type among a request's properties, however it is spelled."""
    for name, value in request_property.items():
        if name.lower().replace("-", "").startswith("contenttype"):
            return value
    return None


def remove_crlf(illegal_string: str) -> str:
    """Without line ends, which a status phrase must not have."""
    return illegal_string.replace("\r", " ").replace("\n", " ")
