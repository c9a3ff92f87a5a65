"""What each framework's image answers: every documented content type and Accept, and the status of what it does not support.

The same tables are asked through boto3 and through the SDKs.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway_host import recordio
from slipway_host.recordio import Record, Tensor
from tests.toolkits.cases import npy

JSON, LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"
TEXT = "text/csv; charset=utf-8"


@dataclass(frozen=True)
class Ask:
    """One request; `answer` is the decoded body of the answer, `type` its content type. A status beyond 200 has no answer."""

    body: bytes
    content_type: str = ""
    accept: str = ""
    answer: Any = None
    type: str = JSON
    status: int = 200

    def wire(self) -> dict[str, str]:
        return {"body": base64.b64encode(self.body).decode(), "content_type": self.content_type, "accept": self.accept}

    def check(self, told: Mapping[str, Any]) -> None:
        """`told`: status, and content_type and body of an answer."""
        assert told["status"] == self.status, (self, told)
        if self.status == 200:
            assert told["content_type"] == self.type, self
            assert values(told["body"], self.type) == pytest.approx(self.answer, rel=1e-4), self


def values(body: bytes, content_type: str) -> Any:
    """Numbers of a body, flat."""
    kind = content_type.partition(";")[0]
    if kind == CSV:
        return [float(cell) for row in csv.reader(body.decode().splitlines()) for cell in row]
    if kind == NPY:
        return list(memoryview(body[10 + int.from_bytes(body[8:10], "little") :]).cast("f" if b"<f4" in body else "d"))
    return flat(json.loads(body))


def flat(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in flat(each)]
    if isinstance(value, list):
        return [number for each in value for number in flat(each)]
    return [value] if isinstance(value, (int, float)) else []


def ask_boto3(runtime: Any, endpoint: str, asks: Sequence[Ask]) -> None:
    """Through InvokeEndpoint; ModelError's OriginalStatusCode is the image's."""
    for each in asks:
        types = {name: value for name, value in (("ContentType", each.content_type), ("Accept", each.accept)) if value}
        try:
            answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=each.body, **types)
            told = {"status": 200, "content_type": answer["ContentType"], "body": answer["Body"].read()}
        except ClientError as error:
            told = {"status": error.response["OriginalStatusCode"]}
        each.check(told)


# scikit-learn: y = 1 * a + 2 * b + 3
SUMS = [6.0, 9.0]
ROWS = b"[[1, 1], [2, 2]]"
SKLEARN_ASKS = (
    Ask(ROWS, JSON, answer=SUMS),
    Ask(ROWS, answer=SUMS),
    Ask(ROWS, "application/json; charset=utf-8", answer=SUMS),
    Ask(b"[1, 1]", JSON, answer=[6.0]),
    Ask(b"1,1\n2,2\n", CSV, answer=SUMS),
    Ask(b"1,1", "text/csv; charset=utf-8", "*/*", answer=[6.0]),
    Ask(npy([1, 1, 2, 2], (2, 2)), NPY, answer=SUMS),
    Ask(ROWS, JSON, CSV, answer=SUMS, type=TEXT),
    Ask(npy([1, 1, 2, 2], (2, 2), "<f4"), NPY, NPY, answer=SUMS, type=NPY),
    Ask(ROWS, JSON, f"text/html, {JSON}", answer=SUMS),
    Ask(ROWS, JSON, "image/png", status=406),
    Ask(b"<a/>", "application/xml", status=415),
    Ask(b"{nonsense", JSON, status=500),
    Ask(b"[[1, 1, 1]]", JSON, status=500),
)


def xgboost_asks(scores: Sequence[float]) -> tuple[Ask, ...]:
    """`scores`: of the rows 0,1 and 1,0. Indices of libsvm are columns, as in the image's release 1.7."""
    records = recordio.write([Record({"values": Tensor(row)}, {}) for row in ([0.0, 1.0], [1.0, 0.0])])
    table, sparse = b"0,1\n1,0", b"0 0:0 1:1\n0 0:1 1:0\n"
    return (
        Ask(table, CSV, answer=scores, type=TEXT),
        Ask(table + b"\n", "text/csv; label_size=1", "*/*", answer=scores, type=TEXT),
        Ask(b"0;1\n1;0", "csv", CSV, answer=scores, type=TEXT),
        Ask(sparse, answer=scores, type=TEXT),
        Ask(sparse, "text/libsvm", JSON, answer=scores),
        Ask(sparse, "text/x-libsvm", JSON, answer=scores),
        Ask(sparse, "libsvm", CSV, answer=scores, type=TEXT),
        Ask(records, recordio.CONTENT_TYPE, JSON, answer=scores),
        Ask(table, CSV, LINES, status=500),
        Ask(table, CSV, recordio.CONTENT_TYPE, status=500),
        Ask(table, CSV, "image/png", status=406),
        Ask(table, "text/csv; label_size=2", status=415),
        Ask(b"{}", JSON, status=415),
        Ask(b"a,b", CSV, status=415),
        Ask(b"0,1,2,3,4", CSV, status=400),
    )


PYTORCH_ASKS = (
    Ask(ROWS, JSON, answer=SUMS),
    Ask(ROWS, answer=SUMS),
    Ask(b"1,1\n2,2\n", CSV, answer=SUMS),
    Ask(npy([1, 1, 2, 2], (2, 2), "<f4"), NPY, answer=SUMS),
    Ask(ROWS, JSON, CSV, answer=SUMS, type=CSV),
    Ask(ROWS, JSON, NPY, answer=SUMS, type=NPY),
    Ask(ROWS, JSON, f"text/html, {CSV}", answer=SUMS, type=CSV),
    Ask(ROWS, JSON, "image/png", status=500),
    Ask(b"<a/>", "application/xml", status=500),
    Ask(b"{nonsense", JSON, status=500),
    Ask(b"[[1, 1, 1]]", JSON, status=500),
)
HALVES = [2.0, 3.0, 4.0, 5.0]
"""Of x / 2 + 1."""
PAIRS = b"[[2, 4], [6, 8]]"
TENSORFLOW_ASKS = (
    Ask(b'{"instances": [[2, 4], [6, 8]]}', JSON, answer=HALVES),
    Ask(b'{"inputs": [[2, 4], [6, 8]]}', JSON, answer=HALVES),
    Ask(b'{"signature_name": "serving_default", "inputs": {"x": [[2, 4], [6, 8]]}}', JSON, answer=HALVES),
    Ask(PAIRS, JSON, answer=HALVES),
    Ask(b"[2, 4]\n[6, 8]\n", LINES, answer=HALVES),
    Ask(b'{"x": [2, 4]}\n{"x": [6, 8]}\n', "application/jsons", answer=HALVES),
    Ask(b"2,4\n6,8\n", CSV, answer=HALVES),
    Ask(PAIRS, JSON, LINES, answer=HALVES, type=LINES),
    Ask(PAIRS, JSON, CSV, answer=HALVES),
    Ask(PAIRS, status=415),
    Ask(b"<a/>", "application/xml", status=415),
    Ask(b"{nonsense", JSON, status=400),
    Ask(b"[[1, 2, 3]]", JSON, status=400),
)


def hugging_face_asks(score: float) -> tuple[Ask, ...]:
    """Text classification; `score`: of "a short text"."""
    text = b'{"inputs": "a short text"}'
    return (
        Ask(text, JSON, answer=[score]),
        Ask(text, answer=[score]),
        Ask(text, JSON, "*/*", answer=[score]),
        Ask(b"inputs\na short text\na short text\n", CSV, answer=[score, score]),
        Ask(text, JSON, "image/png", status=400),
        Ask(text, JSON, f"{JSON}, {CSV}", status=400),
        Ask(b"<a/>", "application/xml", status=400),
        Ask(b"1,2\n", CSV, status=400),
        Ask(b"{nonsense", JSON, status=400),
    )
