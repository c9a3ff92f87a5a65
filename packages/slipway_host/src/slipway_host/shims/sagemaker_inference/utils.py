"""Small helpers that scripts import."""

from __future__ import annotations


def read_file(path: str, mode: str = "r") -> str:
    with open(path, mode, encoding="utf-8") as file:
        return str(file.read())


def write_file(path: str, data: str, mode: str = "w") -> None:
    with open(path, mode, encoding="utf-8") as file:
        file.write(data)


def parse_accept(accept: str | None) -> list[str]:
    """The types of an Accept header, without parameters."""
    if not accept:
        return []
    return [item.split(";")[0].strip() for item in accept.split(",")]
