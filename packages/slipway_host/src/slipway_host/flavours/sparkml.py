"""SparkML (containers.md 3.10): MLeap bundles without a JVM, and pipelines that Spark saved itself, through pyspark.

Both answer in the dialect of AWS's sparkml-serving container.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, Callable

from .. import codecs
from ..contract import LoadError, Place, listing
from ..service import Answer, Call, Service, failure, headers_of
from . import sparkml_pipeline, sparkml_rows
from .sparkml_rows import CSV, Schema
from .sparkml_values import Refused

Evaluate = Callable[[Schema, list[dict[str, Any]]], Iterator[Any]]
"""From rows to the value of the output column of each. Raises Refused."""
_ACCEPT = "Accept value passed via request or environment variable is not valid"


class SparkMLService(Service):
    default_content_type = ""

    def __init__(self, place: Place, evaluate: Evaluate) -> None:
        super().__init__(place)
        self._evaluate = evaluate
        self._reader = sparkml_rows.Reader(place.environment.get(sparkml_rows.SCHEMA))
        self.default_accept = place.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "") or CSV
        self._readers = {CSV: self._reader.csv, codecs.JSON: self._reader.json, sparkml_rows.JSONLINES: self._reader.lines}
        if self._reader.fault:
            sys.stderr.write(f"[slipway] {self._reader.fault}; requests without a schema of their own are refused\n")

    def execution_parameters(self) -> Answer | None:
        values = {"MaxConcurrentTransforms": os.cpu_count() or 1, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 5}
        return 200, self.heads.of(codecs.JSON), json.dumps(values, separators=(",", ":")).encode()

    def invoke(self, call: Call, body: bytes) -> Answer:
        read = self._readers.get(codecs.media_type(call.content_type))
        plain = self.heads.of("text/plain; charset=utf-8")
        if read is None:
            shown = headers_of(call.headers, b"content-type") or "none"
            return 415, plain, f"Content type {shown} is not supported. Use text/csv, application/json or jsonlines.".encode()
        if not body:
            return 204, b"", b""
        try:
            if call.accept not in sparkml_rows.ACCEPTED:
                raise Refused(_ACCEPT)
            request = read(body.decode("utf-8-sig"))
            rows = [sparkml_rows.columns(request.schema, row) for row in request.rows]
            output = request.schema.output
            answers = [
                sparkml_rows.answer(output, sparkml_rows.checked(output, value), call.accept)
                for value in self._evaluate(request.schema, rows)
            ]
            text = sparkml_rows.joined(answers) if request.lines else answers[0]
            return 200, self.heads.of(CSV if call.accept == CSV else sparkml_rows.JSONLINES), text.encode("utf-8", "replace")
        except (Refused, UnicodeDecodeError, RecursionError) as error:
            return 400, plain, str(error).encode("utf-8", "replace")
        except Exception as error:  # noqa: BLE001  Spark's, and what no check foresaw: 400, as any failure in the container
            failure(error)
            return 400, plain, (str(error).strip() or type(error).__name__).encode("utf-8", "replace")


def load(place: Place) -> Service:
    """Raises LoadError, and what pyspark raises."""
    folder = place.model_dir
    if is_spark_model(folder):
        from . import sparkml_spark  # noqa: PLC0415  needs pyspark, which bundles do without

        return SparkMLService(place, sparkml_spark.load(place))
    place.stage = "reading the MLeap bundle"
    pipeline = sparkml_pipeline.read(_bundle(folder))

    def evaluate(schema: Schema, rows: list[dict[str, Any]]) -> Iterator[Any]:
        return (pipeline.evaluate(columns, schema.output.name) for columns in rows)

    return SparkMLService(place, evaluate)


def is_spark_model(folder: str) -> bool:
    """Whether Spark itself saved the model there (`model.save(path)`)."""
    return os.path.isdir(os.path.join(folder, "metadata")) and not os.path.exists(os.path.join(folder, "bundle.json"))


def _bundle(folder: str) -> str:
    """The folder with bundle.json, or the only zip. Raises LoadError."""
    if os.path.isfile(os.path.join(folder, "bundle.json")):
        return folder
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    zips = [name for name in names if name.endswith(".zip")]
    if len(zips) == 1:
        return os.path.join(folder, zips[0])
    mend = "pack what is inside the MLeap bundle (bundle.json and root/), or the bundle's zip, at the top of model.tar.gz"
    inner = [name for name in names if os.path.isfile(os.path.join(folder, name, "bundle.json"))]
    if inner:
        mend = f"pack what is in that folder, not the folder: `tar -czf model.tar.gz -C {inner[0]} .`"
    raise LoadError("no-model", f"There is no MLeap bundle at the top of the model archive; it holds {listing(folder)}.", mend)
