"""Requests and answers as AWS's sparkml-serving container reads and writes them (containers.md 3.10): schema, rows, types.

Values have the types that Java would give them there: what it refuses as a wrong type is refused here.
"""

from __future__ import annotations

import csv
import io
import json
import struct
from typing import Any, NamedTuple

from .sparkml_values import Refused, Vector, java_double, parse_double, parse_integer

CSV = "text/csv"
JSONLINES = "application/jsonlines"
TEXT_JSONLINES = "application/jsonlines;data=text"
ACCEPTED = (CSV, JSONLINES, TEXT_JSONLINES)
BITS = {"byte": 8, "short": 16, "int": 32, "long": 64}
TYPES = ("boolean", "byte", "short", "int", "float", "long", "double", "string")
STRUCTS = ("basic", "vector", "array")
SCHEMA = "SAGEMAKER_SPARKML_SCHEMA"
_JAVA = {"boolean": bool, "int": int, "long": int, "float": float, "double": float, "string": str}
_NAMES = {bool: "Boolean", int: "Integer", float: "Double", str: "String", list: "util.ArrayList", dict: "util.LinkedHashMap"}


class Column(NamedTuple):
    name: str
    type: str
    struct: str


class Schema(NamedTuple):
    input: tuple[Column, ...]
    output: Column


class Request(NamedTuple):
    """Rows of raw values. `lines`: it came as json lines, and is answered as a list."""

    schema: Schema
    rows: list[list[Any]]
    lines: bool


def schema_of(value: Any) -> Schema:
    """Raises Refused."""
    columns = value.get("input") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not isinstance(value.get("output"), dict):
        raise Refused('The schema must be {"input": [{"name": …, "type": …, "struct": …}, …], "output": {…}}')
    return Schema(tuple(_column(column) for column in columns), _column(value["output"]))


def _column(value: Any) -> Column:
    name, kind = (value.get("name"), value.get("type")) if isinstance(value, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(kind, str):
        raise Refused("Each column of the schema must have a name and a type")
    struct_ = value.get("struct") or "basic"
    if kind not in TYPES:
        raise Refused(f"Data type passed in the request is wrong for one or more columns: {name} has {kind[:40]!r}")
    if struct_ not in STRUCTS:
        raise Refused(f"The struct of column {name} is {str(struct_)[:40]!r}, not one of {', '.join(STRUCTS)}")
    return Column(name, kind, struct_)


class Reader:
    """Reads requests; keeps the schema of the environment."""

    def __init__(self, schema: str | None) -> None:
        """`schema`: of SAGEMAKER_SPARKML_SCHEMA, None where that is not set. What is wrong with it is told to each request
        that needs it, as in the container."""
        self.fault = ""
        self.schema: Schema | None = None
        try:
            self.schema = schema_of(_json(schema)) if schema is not None else None
        except Refused as error:
            self.fault = f"{SCHEMA} cannot be used: {error}"

    def _chosen(self, own: Any) -> Schema:
        if own is not None:
            return schema_of(own)
        if self.schema is not None:
            return self.schema
        raise Refused(self.fault or "Input schema has to be provided either via environment variable or via the request")

    def csv(self, text: str) -> Request:
        """The first line; every column is basic. Raises Refused."""
        schema = self._chosen(None)
        schema = Schema(tuple(column._replace(struct="basic") for column in schema.input), schema.output)
        try:
            row = next((row for row in csv.reader(io.StringIO(text, newline="")) if row), None)
        except csv.Error as error:
            raise Refused(f"The line cannot be read as csv: {error}") from error
        if row is None:
            raise Refused("Index: 0, Size: 0 (there is no line)")
        return Request(schema, [list(row)], False)

    def json(self, text: str) -> Request:
        """Raises Refused."""
        value = _object(text)
        return Request(self._chosen(value.get("schema")), [value["data"]], False)

    def lines(self, text: str) -> Request:
        """A schema in the first line counts for all. Raises Refused."""
        rows: list[list[Any]] = []
        values = [_object(line) for line in text.rstrip("\r\n").split("\n")]
        for value in values:
            data = value["data"]
            rows += data if data and all(isinstance(row, list) for row in data) else [data]
        return Request(self._chosen(values[0].get("schema")), rows, True)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"it is no JSON: {str(error)[:200] or type(error).__name__}") from error


def _object(text: str) -> dict[str, Any]:
    value = _json(text)
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise Refused('The request must be {"data": [value, value, …]}')
    return value


def columns(schema: Schema, row: list[Any]) -> dict[str, Any]:
    """The row's values by column, typed. Raises Refused."""
    if len(row) < len(schema.input):
        raise Refused(f"Index: {len(row)}, Size: {len(row)} (the schema has {len(schema.input)} columns)")
    found = {}
    for column, value in zip(schema.input, row):
        try:
            found[column.name] = _value(column, value)
        except Refused as error:
            raise Refused(f"{error} (column {column.name})") from error
    return found


def _value(column: Column, value: Any) -> Any:
    if column.struct == "basic":
        return _basic(column.type, value)
    if not isinstance(value, list):
        raise Refused(f"Input val is not a list but struct passed is {column.struct}")
    if column.struct == "vector":
        if column.type != "double":
            raise Refused("Only Double type is supported for vector")
        return Vector(len(value), None, _elements("double", value))
    return _elements(column.type, value)


def _elements(kind: str, values: list[Any]) -> list[Any]:
    """Elements as Java casts them, which converts nothing: 1 is an Integer and no Double."""
    wanted = _JAVA.get(kind)
    for value in values:
        if type(value) is not wanted:
            shown = kind.capitalize() if kind in ("byte", "short", "long") else _NAMES[wanted or int]
            mend = "; write 1.0 for 1" if wanted is float and type(value) is int else ""
            raise Refused(f"java.lang.{_NAMES.get(type(value), 'Object')} cannot be cast to java.lang.{shown}{mend}")
    return values


def _basic(kind: str, value: Any) -> Any:
    if kind == "double" and type(value) is float:
        return value
    text = _java_text(value)
    if kind == "string":
        return text
    if kind == "double":
        return parse_double(text)
    if kind == "float":
        return _single(parse_double(text))
    if kind == "boolean":
        return text.lower() == "true"
    return parse_integer(text, BITS[kind])


def _single(value: float) -> float:
    try:
        rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded


def _java_text(value: Any) -> str:
    """`toString` of a value that Jackson read. Raises Refused for null."""
    if type(value) is str:
        return value
    if value is None:
        raise Refused("the value is null")
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return java_double(value)
    if isinstance(value, list):
        return "[" + ", ".join("null" if item is None else _java_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}={'null' if v is None else _java_text(v)}" for k, v in value.items()) + "}"
    return str(value)


def checked(output: Column, value: Any) -> Any:
    """An output's value, if it is of the type that the schema says. Raises Refused."""
    if output.struct == "vector":
        fits = type(value) is Vector
    elif output.struct == "array":
        fits = type(value) is list
    elif output.type in ("double", "float"):
        fits = type(value) is float
    elif output.type in BITS:
        fits = type(value) is int
    else:
        fits = type(value) is (bool if output.type == "boolean" else str)
    if not fits:
        names = {float: "a double", int: "an int", bool: "a boolean", str: "a string", list: "an array", Vector: "a vector"}
        kind = output.type if output.struct == "basic" else output.struct
        raise Refused(f"The column {output.name} is {names.get(type(value), 'nothing')}; the schema's output says {kind}")
    return value


def answer(output: Column, value: Any, accept: str) -> str:
    """The text of one row's answer."""
    if output.struct == "basic":
        return _shown(value)
    values = [_shown(item) for item in value]
    if accept == CSV:
        return ",".join(values)
    if accept == TEXT_JSONLINES:
        return json.dumps({"source": " ".join(values)}, ensure_ascii=False, separators=(",", ":"))
    return '{"features":[' + ",".join(map(_in_json, value)) + "]}"


def joined(answers: list[str]) -> str:
    """The answers to json lines, as Java prints a list of lists."""
    return "[" + ", ".join(f"[{one}]" for one in answers) + "]"


def _shown(value: Any) -> str:
    return value if type(value) is str else _java_text(value)


def _in_json(value: Any) -> str:
    """As Jackson writes it: numbers that JSON does not have are strings."""
    if type(value) is float and value - value != 0.0:
        return f'"{java_double(value)}"'
    return json.dumps(value, ensure_ascii=False) if type(value) is str else _java_text(value)
