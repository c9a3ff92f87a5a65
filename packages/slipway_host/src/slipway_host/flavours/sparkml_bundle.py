"""Reading an MLeap bundle: its files, from a folder or a zip, and the typed attributes of a stage. Whatever is wrong is a
LoadError that names the file. The format is MLeap's own (combust/mleap, bundle-ml: JsonSupport, ModelSerializer).
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from typing import Any, Callable, NamedTuple

from ..contract import LoadError

MOST_BYTES = 1024**3
"""Of all files that are read."""
MOST_STAGES = 5_000
DEEPEST = 20
"""Pipelines within pipelines."""
_NUMBERS = ("double", "float", "long", "int", "short", "byte")
_MEND = "export the pipeline anew with MLeap (SerializationFormat.Json)"


def broken(message: str, mend: str = _MEND) -> LoadError:
    return LoadError("no-model", f"The MLeap bundle cannot be read: {message}.", mend)


class Files:
    """The bundle's files by path; folder and zip alike."""

    def __init__(self, path: str) -> None:
        """`path`: a folder, or a zip. Raises LoadError."""
        self._folder = path
        self._zip: zipfile.ZipFile | None = None
        self._read = 0
        if not os.path.isdir(path):
            try:
                self._zip = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError, ValueError) as error:
                raise broken(f"{os.path.basename(path)} is no zip file ({error})") from error

    def text(self, path: str) -> str:
        """Raises LoadError."""
        try:
            data = self._from_folder(path) if self._zip is None else self._from_zip(self._zip, path)
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise broken(f"{path} is not UTF-8") from error

    def _from_folder(self, path: str) -> bytes:
        try:
            with open(os.path.join(self._folder, path), "rb") as file:
                self._count(os.fstat(file.fileno()).st_size, path)
                return file.read()
        except (OSError, ValueError) as error:
            raise self._missing(path) from error

    def _from_zip(self, archive: zipfile.ZipFile, path: str) -> bytes:
        try:
            entry = archive.getinfo(path)
            self._count(entry.file_size, path)
            with archive.open(entry) as file:
                data = file.read(entry.file_size + 1)
        except KeyError as error:
            raise self._missing(path) from error
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
            raise broken(f"{path} cannot be taken out of the zip ({error})") from error
        if len(data) > entry.file_size:
            raise broken(f"{path} is longer than the zip says")
        return data

    def _count(self, size: int, path: str) -> None:
        self._read += size
        if self._read > MOST_BYTES:
            raise broken(f"with {path} it has more than {MOST_BYTES >> 20} MiB", "train a smaller model")

    def _missing(self, path: str) -> LoadError:
        return broken(f"there is no {path}")

    def json(self, path: str) -> dict[str, Any]:
        """An object. Raises LoadError."""
        try:
            value = json.loads(self.text(path))
        except (ValueError, RecursionError) as error:
            raise broken(f"{path} is no JSON ({str(error)[:100] or type(error).__name__})") from error
        if not isinstance(value, dict):
            raise broken(f"{path} holds no JSON object")
        return value


def entry_name(name: Any, where: str) -> str:
    """The name of a stage or a tree, which becomes part of a path. Raises LoadError."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or name in (".", "..") or set(name) & set("/\\\0"):
        raise broken(f"{where} names {str(name)[:80]!r}, which cannot be a folder of it")
    return name


class Attributes:
    """The `attributes` of one model.json. MLeap leaves out what is zero, false or empty, and writes NaN as null."""

    def __init__(self, values: Any, where: str, op: str) -> None:
        if values is not None and not isinstance(values, dict):
            raise broken(f"{where} has attributes that are no object")
        self._values: dict[str, Any] = values or {}
        self.where = where
        self.op = op

    def wrong(self, why: str) -> LoadError:
        return broken(f"{self.where} ({self.op}): {why}")

    def has(self, name: str) -> bool:
        return name in self._values

    def _value(self, name: str, kind: str) -> dict[str, Any]:
        value = self._values.get(name)
        if not isinstance(value, dict) or value.get("type", "scalar") not in kind.split("|"):
            raise self.wrong(f"attribute {name} is missing" if value is None else f"attribute {name} is no {kind}")
        return value

    def number(self, name: str) -> float:
        value = self._value(name, "scalar")
        found = [value[key] for key in _NUMBERS if key in value]
        return self._double(found[0], name) if found else 0.0

    def _double(self, value: Any, name: str) -> float:
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(f"attribute {name} holds {str(value)[:40]!r}, which is no number")
        try:
            return float(value)
        except OverflowError as error:
            raise self.wrong(f"attribute {name} holds a number beyond every double") from error

    def integer(self, name: str, least: int = 0, most: int = 2**31 - 1) -> int:
        number = self.number(name)
        if not least <= number <= most or number != int(number):
            raise self.wrong(f"attribute {name} is {number}, not a whole number from {least} to {most}")
        return int(number)

    def flag(self, name: str) -> bool:
        value = self._value(name, "scalar").get("boolean", False)
        if not isinstance(value, bool):
            raise self.wrong(f"attribute {name} is no boolean")
        return value

    def word(self, name: str, default: str | None = None) -> str:
        if default is not None and not self.has(name):
            return default
        value = self._value(name, "scalar").get("string", "")
        if not isinstance(value, str):
            raise self.wrong(f"attribute {name} is no string")
        return value

    def words(self, name: str) -> list[str]:
        value = self._value(name, "list").get("string", [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(f"attribute {name} is no list of strings")
        return value

    def numbers(self, name: str) -> list[float]:
        """A list, or a tensor of one dimension."""
        return self._doubles(self._value(name, "list|tensor"), name)

    def _doubles(self, value: Any, name: str) -> list[float]:
        found = [value[key] for key in _NUMBERS if key in value] if isinstance(value, dict) else [None]
        items = found[0] if found else []
        if not isinstance(items, list):
            raise self.wrong(f"attribute {name} is no list of numbers")
        return [self._double(item, name) for item in items]

    def integers(self, name: str) -> list[int]:
        numbers = self.numbers(name)
        if not all(abs(number) < 2**31 and number == int(number) for number in numbers):
            raise self.wrong(f"attribute {name} is no list of whole numbers")
        return [int(number) for number in numbers]

    def tensors(self, name: str) -> list[list[float]]:
        """The values of a list of tensors."""
        items = self._value(name, "list").get("tensor", [])
        if not isinstance(items, list):
            raise self.wrong(f"attribute {name} is no list of tensors")
        return [self._doubles(item, name) for item in items]

    def matrix(self, name: str) -> list[list[float]]:
        """Rows of a tensor of two dimensions; MLeap stores it column by column, as Spark's DenseMatrix."""
        value = self._value(name, "tensor")
        shape = value.get("shape")
        dimensions = shape.get("dimensions") if isinstance(shape, dict) else None
        sizes = [item.get("size", 0) for item in dimensions or [] if isinstance(item, dict)]
        values = self._doubles(value, name)
        if len(sizes) != 2 or not all(type(size) is int and size > 0 for size in sizes) or sizes[0] * sizes[1] != len(values):
            raise self.wrong(f"attribute {name} is no matrix: {len(values)} values of shape {str(sizes)[:60]}")
        return [values[row :: sizes[0]] for row in range(sizes[0])]

    def scalars_only(self, name: str) -> bool:
        """Whether a data shape, or each of a list of them, is a scalar's."""
        value = self._values.get(name)
        shapes = value.get("data_shape") if isinstance(value, dict) else None
        found = shapes if isinstance(shapes, list) else [shapes]
        return all(isinstance(shape, dict) and shape.get("base", "scalar") == "scalar" for shape in found)


class Source(NamedTuple):
    """What a stage is made from."""

    files: Files
    folder: str
    attributes: Attributes
    inputs: dict[str, str]
    """Port → column."""
    outputs: dict[str, str]

    def columns(self, count: int) -> None:
        """There must be so many columns in and out. Raises LoadError."""
        if len(self.inputs) != count or len(self.outputs) != count:
            raise self.attributes.wrong(
                f"{len(self.inputs)} columns in and {len(self.outputs)} out, where there must be {count}"
            )


Step = Callable[..., Any]
"""From the values of a stage's input columns, in the order of ports, to the value of its output (a tuple of several)."""
