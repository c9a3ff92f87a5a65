"""What the model demands of parameters: required, length, range, pattern, enum; in the frame of AWS's own answer.

`2 validation errors detected: Value 'x y' at 'modelName' failed to satisfy constraint: Member must satisfy regular
expression pattern: …; Value null at 'primaryContainer.image' failed to satisfy constraint: Member must not be null`
(hosting.md 2.9). In the order of the model's members, depth first. botocore checks required members and minimums on the
client's side; maxima, patterns and enums come first here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from .corrections import CASELESS_ENUMS, FOREIGN_ENUMS, S3_VALIDATION, VALIDATION_CODES
from .errors import AwsError
from .models import streaming_input
from .parse_xml import malformed_xml
from .patterns import MAX_CHECKED, compiled
from .shapes import OperationModel

_MAX_REPORTED = 100
_MAX_SHOWN = 1024
"""Characters of a value that an error repeats."""

Violation = tuple[str, str]
"""Where and what, worded."""


def validate(operation: OperationModel, params: dict[str, Any]) -> None:
    """AwsError with the service's code (mostly ValidationException), HTTP 400, naming every violation, 100 at most."""
    shape = operation.input_shape
    if shape is None:
        return
    service = operation.service_model.service_name
    params = {name: value for name, value in params.items() if (service, operation.name, name) not in FOREIGN_ENUMS}
    found = list(islice(_structure(shape, params, "", streaming_input(operation)), _MAX_REPORTED))
    if not found:
        return
    if service == "s3":
        _refuse_as_s3(found)
    if service == "sqs":
        _refuse_as_sqs(shape, params, found)
    errors = "error" if len(found) == 1 else "errors"
    text = f"{len(found)} validation {errors} detected: {'; '.join(what for _, what in found)}"
    raise AwsError(VALIDATION_CODES.get(service, "ValidationException"), text, status=400)


def _refuse_as_s3(found: list[Violation]) -> None:
    """S3's own words, where it has any."""
    for path, what in found:
        if path.count(".") and what.startswith("Value null"):
            raise malformed_xml()  # a body that lacks an element; the schema is all that S3 speaks of
        own = S3_VALIDATION.get(path.rpartition(".")[2])
        if own is not None:
            raise AwsError(*own, status=400)


def _refuse_as_sqs(shape: Any, params: dict[str, Any], found: list[Violation]) -> None:
    """SQS's own words for what is missing, and for the names of attributes that it does not know."""
    for path, what in found:
        if what.startswith("Value null") and "." not in path:
            name = path[:1].upper() + path[1:]
            raise AwsError("MissingParameter", f"The request must contain the parameter {name}.", status=400)
    for name, member in shape.members.items():
        names = member.member if member.type_name == "list" else member.key if member.type_name == "map" else None
        known = names.metadata.get("enum", ()) if names is not None else ()
        for value in params.get(name) or () if known else ():
            if value not in known:
                raise AwsError("InvalidAttributeName", f"Unknown Attribute {_text(value)[:80]}.", status=400)


def _structure(shape: Any, params: dict[str, Any], path: str, streamed: str | None = None) -> Iterator[Violation]:
    required = shape.required_members
    for name, member in shape.members.items():
        where = f"{path}{name[:1].lower()}{name[1:]}"
        value = params.get(name)
        if value is not None:
            yield from _value(member, value, where)
        elif name in required and name != streamed:
            yield where, f"Value null at '{where}' failed to satisfy constraint: Member must not be null"


def _value(shape: Any, value: Any, where: str) -> Iterator[Violation]:
    for constraint in _broken(shape, value):
        yield where, f"{_shown(shape, value)} at '{where}' failed to satisfy constraint: {constraint}"
    match shape.type_name:
        case "structure":
            if not shape.is_document_type:
                yield from _structure(shape, value, where + ".")
        case "list":
            yield from _list(shape, value, where)
        case "map":
            yield from _map(shape, value, where)


def _list(shape: Any, value: list[Any], where: str) -> Iterator[Violation]:
    member = shape.member
    if member.type_name in ("structure", "list", "map"):
        for number, item in enumerate(value, 1):
            at = f"{where}.{number}.member"
            if item is None:
                yield at, f"Value null at '{at}' failed to satisfy constraint: Member must not be null"
            else:
                yield from _value(member, item, at)
    elif any(item is None or any(_broken(member, item)) for item in value):
        # Of scalars AWS shows the whole list and all that its members must be.
        demands = _demands(member)
        yield (
            where,
            f"{_shown(shape, value)} at '{where}' failed to satisfy constraint: Member must satisfy constraint: {demands}",
        )


def _map(shape: Any, value: dict[Any, Any], where: str) -> Iterator[Violation]:
    if any(True for key in value if any(_broken(shape.key, key))):
        frame = f"{_shown(shape, value)} at '{where}' failed to satisfy constraint"
        yield where, f"{frame}: Map keys must satisfy constraint: {_demands(shape.key)}"
    if shape.value.type_name in ("structure", "list", "map"):
        for key, item in value.items():
            at = f"{where}.{str(key)[:_MAX_SHOWN]}.member"
            if item is None:
                yield at, f"Value null at '{at}' failed to satisfy constraint: Member must not be null"
            else:
                yield from _value(shape.value, item, at)
    elif any(item is None or any(_broken(shape.value, item)) for item in value.values()):
        frame = f"{_shown(shape, value)} at '{where}' failed to satisfy constraint"
        yield where, f"{frame}: Map value must satisfy constraint: {_demands(shape.value)}"


def _broken(shape: Any, value: Any) -> Iterator[str]:
    """The constraints of the shape itself that the value breaks, worded."""
    if isinstance(value, float) and not math.isfinite(value):
        yield "Member must be a finite number"
        return
    metadata = shape.metadata
    if not metadata:
        return
    match shape.type_name:
        case "string" | "blob" | "list" | "map":
            size, noun = len(value), "length"
        case "integer" | "long" | "float" | "double":
            size, noun = value, "value"
        case _:
            return
    low, high = metadata.get("min"), metadata.get("max")
    if high is not None and size > high:
        yield f"Member must have {noun} less than or equal to {_number(high)}"
    if low is not None and size < low:
        yield f"Member must have {noun} greater than or equal to {_number(low)}"
    if shape.type_name != "string":
        return
    enum, pattern = metadata.get("enum"), metadata.get("pattern")
    if enum and value not in enum and not (shape.name in CASELESS_ENUMS and value.lower() in enum):
        yield f"Member must satisfy enum value set: [{', '.join(enum)}]"
    fits = size <= (MAX_CHECKED if high is None else min(high, MAX_CHECKED))
    if pattern is not None and fits and not compiled(pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {pattern}"


def _demands(shape: Any) -> str:
    """All constraints of a scalar shape, as AWS lists them for members of lists and maps."""
    metadata = shape.metadata
    noun = "length" if shape.type_name in ("string", "blob") else "value"
    demands = []
    if "max" in metadata:
        demands.append(f"Member must have {noun} less than or equal to {_number(metadata['max'])}")
    if "min" in metadata:
        demands.append(f"Member must have {noun} greater than or equal to {_number(metadata['min'])}")
    if metadata.get("enum"):
        demands.append(f"Member must satisfy enum value set: [{', '.join(metadata['enum'])}]")
    if "pattern" in metadata:
        demands.append(f"Member must satisfy regular expression pattern: {metadata['pattern']}")
    demands.append("Member must not be null")
    return f"[{', '.join(demands)}]"


def _number(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _shown(shape: Any, value: Any) -> str:
    """`Value 'x'`; of what the model calls sensitive, the word alone."""
    if shape.metadata.get("sensitive"):
        return "Value"
    return f"Value '{_text(value)[:_MAX_SHOWN]}'"


def _text(value: Any, room: int = _MAX_SHOWN) -> str:
    """A value as Java prints it, cut short of what would not be shown anyway."""
    match value:
        case bool():
            return str(value).lower()
        case None:
            return "null"
        case str():
            return value[:room]
        case bytes():
            return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
        case datetime():
            return value.isoformat()
        case dict():
            items = ", ".join(f"{_text(key)}={_text(item)}" for key, item in islice(value.items(), 20))
            return f"{{{items}}}"
        case list():
            return f"[{', '.join(_text(item) for item in islice(value, 50))}]"
    return str(value)
