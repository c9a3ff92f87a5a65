from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from slipway_host import builtin_bodies, recordio
from slipway_host.codecs import UnsupportedFormat

numbers = st.integers() | st.floats() | st.text(max_size=3) | st.none() | st.booleans()
tensors = st.dictionaries(st.sampled_from(["values", "keys", "shape", "other"]), st.lists(numbers, max_size=3) | numbers)
instances = st.recursive(
    tensors | st.lists(numbers, max_size=3) | numbers,
    lambda inner: st.dictionaries(st.sampled_from(["data", "features", "configuration"]), inner, max_size=2),
    max_leaves=5,
)
types = st.sampled_from([*builtin_bodies.REQUEST_TYPES, "text/csv;label_size=1", "text/csv;label_size=-1", "image/png", ""])


def read(body: bytes, content_type: str) -> None:
    with contextlib.suppress(ValueError, UnsupportedFormat):
        for row in builtin_bodies.rows(body, content_type):
            assert all(type(value) in (int, float) for value in row.values)
            assert all(type(key) is int and key >= 0 for key in row.keys)
            assert len(row.keys) in (0, len(row.values))


@given(st.lists(instances, max_size=3), st.booleans())
def test_any_json_is_rows_or_refused(content: list[Any], lines: bool) -> None:
    if lines:
        read("\n".join(map(json.dumps, content)).encode(), builtin_bodies.JSONLINES)
    else:
        read(json.dumps({"instances": content}).encode(), "application/json")


@given(st.binary(max_size=60), types)
def test_any_bytes_are_rows_or_refused(body: bytes, content_type: str) -> None:
    read(body, content_type)


predictions = st.lists(
    st.dictionaries(st.sampled_from(["score", "label"]), st.integers(0, 9) | st.lists(st.integers(0, 9), min_size=1)),
    max_size=3,
)


@given(predictions)
def test_the_three_answers_say_the_same(given: list[dict[str, Any]]) -> None:
    kind, body = builtin_bodies.answer(
        given, "text/plain, application/json;q=1, application/jsonlines", "application/jsonlines"
    )
    assert (kind, json.loads(body)) == ("application/json", {"predictions": given})
    _, body = builtin_bodies.answer(given, "*/*", builtin_bodies.JSONLINES)
    assert [json.loads(line) for line in body.splitlines()] == given
    _, body = builtin_bodies.answer(given, recordio.CONTENT_TYPE, "application/json")
    told = [{name: list(tensor.values) for name, tensor in record.label.items()} for record in recordio.read(body)]
    assert told == [{name: value if isinstance(value, list) else [value] for name, value in row.items()} for row in given]
