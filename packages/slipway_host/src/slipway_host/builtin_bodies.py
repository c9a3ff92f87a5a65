"""Bodies of AWS's built-in algorithms: their common request formats as rows, their predictions in the types they answer.

Requests (docs "Common data formats for inference"): csv, json (`{"instances": [{"features": […]}]}`, or with `data` and
`keys`, `values`, `shape`), json lines, recordio-protobuf. Answers: `{"predictions": […]}`, json lines, recordio-protobuf.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Union

from . import codecs, recordio
from .recordio import Record, Tensor

JSONLINES = "application/jsonlines"
REQUEST_TYPES = (codecs.JSON, JSONLINES, codecs.CSV, recordio.CONTENT_TYPE)
Prediction = Mapping[str, Union[float, Sequence[float]]]


def rows(body: bytes, content_type: str) -> list[Tensor]:
    """The rows of a request, by its content type. Raises codecs.UnsupportedFormat, ValueError."""
    kind = codecs.media_type(content_type)
    if kind == codecs.JSON:
        return _from_json(body)
    if kind == JSONLINES:
        return [_instance(_loads(line), number) for number, line in enumerate(_lines(body), 1)]
    if kind == codecs.CSV:
        return _from_csv(body, _label_size(content_type))
    if kind == recordio.CONTENT_TYPE:
        return recordio.rows(body)
    raise codecs.UnsupportedFormat(content_type)


def _lines(body: bytes) -> list[str]:
    return [line for line in codecs.text(body).splitlines() if line.strip()]


def _loads(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _from_json(body: bytes) -> list[Tensor]:
    request = _loads(codecs.text(body))
    instances = request.get("instances") if isinstance(request, dict) else None
    if not isinstance(instances, list):
        raise ValueError('a JSON body is {"instances": […]}')
    return [_instance(instance, number) for number, instance in enumerate(instances, 1)]


def _instance(instance: Any, number: int) -> Tensor:
    """`{"features": …}` or `{"data": {"features": …}}`; each a list of numbers or `{"values", "keys", "shape"}`."""
    found = instance
    if isinstance(found, dict) and "data" in found:
        found = found["data"]
    if isinstance(found, dict) and "features" in found:
        found = found["features"]
    if isinstance(found, dict) and "values" in found:
        keys = _numbers(found.get("keys") or [], number, "keys", int)
        shape = _numbers(found.get("shape") or [], number, "shape", int)
        values = _numbers(found["values"], number, "values", float)
        if not keys and not (shape and not values):
            return Tensor(values)
        return _sparse(values, keys, shape, number)
    if isinstance(found, list):
        return Tensor(_numbers(found, number, "features", float))
    raise ValueError(f'record {number} is neither {{"features": […]}} nor {{"data": {{"features": {{"values": […]}}}}}}')


def _sparse(values: list[Any], keys: list[Any], shape: list[Any], number: int) -> Tensor:
    if len(keys) != len(values):
        raise ValueError(f"record {number} has {len(keys)} keys and {len(values)} values")
    if min(keys, default=0) < 0 or (shape and max(keys, default=-1) >= shape[-1]):
        raise ValueError(f"record {number} has keys outside of its shape")
    return Tensor(values, keys, shape)


def _numbers(value: Any, number: int, what: str, kind: type) -> list[Any]:
    allowed = (int,) if kind is int else (int, float)
    if not isinstance(value, list) or not all(type(each) in allowed for each in value):
        raise ValueError(f"record {number}: {what} must be a list of {'whole ' if kind is int else ''}numbers")
    return value


def _label_size(content_type: str) -> int:
    """The parameter `label_size`: so many first columns are labels. None at inference, unless it is said."""
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "label_size":
            if not (value.strip().isdigit() and len(value.strip()) < 6):
                raise ValueError(f"the parameter label_size is {value.strip()!r}, which is no number")
            return int(value)
    return 0


def _from_csv(body: bytes, labels: int) -> list[Tensor]:
    found = []
    for number, line in enumerate(_lines(body), 1):
        try:
            found.append(Tensor([float(cell) for cell in line.split(",")[labels:]]))
        except ValueError:
            raise ValueError(f"line {number} is not numbers separated by commas") from None
    return found


def to_json(predictions: Sequence[Prediction]) -> tuple[str, bytes]:
    return codecs.JSON, json.dumps({"predictions": predictions}).encode()


def to_jsonlines(predictions: Sequence[Prediction]) -> tuple[str, bytes]:
    return JSONLINES, "".join([json.dumps(prediction) + "\n" for prediction in predictions]).encode()


def to_recordio(predictions: Sequence[Prediction]) -> tuple[str, bytes]:
    """A record for each prediction, a tensor in its label for each key."""
    records = []
    for prediction in predictions:
        numbers = {key: [value] if isinstance(value, (int, float)) else value for key, value in prediction.items()}
        records.append(Record({}, {key: Tensor(values) for key, values in numbers.items()}))
    return recordio.CONTENT_TYPE, recordio.write(records)


ENCODERS: dict[str, Callable[[Sequence[Prediction]], tuple[str, bytes]]] = {
    codecs.JSON: to_json,
    JSONLINES: to_jsonlines,
    recordio.CONTENT_TYPE: to_recordio,
}


def answer(predictions: Sequence[Prediction], accept: str, default: str) -> tuple[str, bytes]:
    """Content type and body: the first type of `accept` that there is, else `default`, which must be one of ENCODERS."""
    kinds = [codecs.media_type(item) for item in accept.split(",")]
    return ENCODERS[next((kind for kind in kinds if kind in ENCODERS), default)](predictions)
