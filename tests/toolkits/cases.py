"""What every toolkit is asked: each content type, each Accept, bodies good and bad, each function overridden."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence

from tests.toolkits.differential import Request, Scenario

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"


def npy(values: Sequence[float], shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """An array file; `kind` is numpy's name of a type."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (64 - (10 + len(head) + 1) % 64) + "\n"
    code = {"<f8": "d", "<f4": "f", "<i4": "i"}[kind]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + struct.pack(f"<{len(values)}{code}", *values)


def npz() -> bytes:
    """[[0, 5], [7, 0]] as scipy.sparse.save_npz writes it."""
    head = "{'descr': '|S3', 'fortran_order': False, 'shape': (), }"
    head += " " * (64 - (10 + len(head) + 1) % 64) + "\n"
    parts = {
        "indices": npy([1, 0], (2,), "<i4"),
        "indptr": npy([0, 1, 2], (3,), "<i4"),
        "format": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + b"csr",
        "shape": npy([2, 2], (2,), "<i4"),
        "data": npy([5.0, 7.0], (2,)),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


PICKLED = (
    b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(127)
    + b"\n"
    + (b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94K\x01a.")
)
TABLE = b"[[1, 2], [3, 4]]"
CONTENT = (
    Request("json", TABLE, JSON),
    Request("json-row", b"[1.5, 2]", JSON),
    Request("json-number", b"3", JSON),
    Request("json-nothing", b"null", JSON),
    Request("json-text", '"grüße"'.encode(), JSON),
    Request("json-bad", b"{nonsense", JSON),
    Request("json-no-utf8", b"\xff\xfe[1]", JSON),
    Request("json-empty", b"", JSON),
    Request("json-charset", TABLE, "application/json; charset=utf-8"),
    Request("json-upper", TABLE, "Application/JSON"),
    Request("json-ragged", b"[[1, 2], [3]]", JSON),
    Request("csv", b"1,2\n3,4\n", CSV),
    Request("csv-row", b"1,2.5", CSV),
    Request("csv-column", b"1\n2\n3\n", CSV),
    Request("csv-words", b"a,b\nc,d\n", CSV),
    Request("csv-mixed", b"a,1\nb,2\n", CSV),
    Request("csv-gap", b"1,,3\n4,5,6\n", CSV),
    Request("csv-ragged", b"1,2\n3\n", CSV),
    Request("csv-crlf", b"1,2\r\n3,4\r\n", CSV),
    Request("csv-quoted", b'"1","2"\n"3","4"\n', CSV),
    Request("csv-unicode", "ä,1\n".encode(), CSV),
    Request("csv-empty", b"", CSV),
    Request("csv-charset", b"1,2\n3,4\n", "text/csv; charset=utf-8"),
    Request("npy", npy([1, 2, 3, 4], (2, 2)), NPY),
    Request("npy-single", npy([1, 2, 3, 4], (2, 2), "<f4"), NPY),
    Request("npy-bad", b"\x93NUMPY", NPY),
    Request("npy-no-magic", b"junk", NPY),
    Request("npy-pickled", PICKLED, NPY),
    Request("npz", npz(), NPZ),
    Request("npz-bad", b"PK", NPZ),
    Request("octets", b"\x00\x01", "application/octet-stream"),
    Request("no-type", TABLE),
    Request("xml", b"<a/>", "application/xml"),
)
ACCEPTS = tuple(
    Request(f"accept-{name}", TABLE, JSON, accept)
    for name, accept in (
        ("any", "*/*"),
        ("json", JSON),
        ("csv", CSV),
        ("npy", NPY),
        ("npz", NPZ),
        ("list", f"text/html, {CSV}, {JSON}"),
        ("list-tight", f"text/html,{NPY}"),
        ("list-any", "text/html, */*"),
        ("upper", "TEXT/CSV"),
        ("parameter", "text/csv; header=absent"),
        ("quality", "text/csv;q=0.5, application/json;q=0.9"),
        ("unknown", "image/png"),
    )
)
TEXTS = (
    Request("json", '{"a": "ü"}'.encode(), JSON, headers=(("X-Amzn-SageMaker-Custom-Attributes", "c"),)),
    Request("csv", "ä,1".encode(), CSV, CSV),
    Request("charset", b"1", "application/json; charset=utf-8", "application/json; charset=utf-8"),
    Request("octets", b"\xff\x00", "application/octet-stream", "a/b"),
    Request("no-type", b"abc"),
    Request("no-utf8", b"\xff", JSON),
)
RETURNS = {
    "str": "'grüße'",
    "bytes": "b'\\xff\\x00'",
    "bytearray": "bytearray(b'abc')",
    "tuple": "('a;b', 'text/plain')",
    "tuple-bytes": "(b'\\xff', 'application/x-mine')",
    "dict": "{'a': [1, 'ü']}",
    "list": "[1, 2.5, None]",
    "number": "3",
    "none": "None",
    "empty": "''",
    "array": "__import__('numpy').array([[1.5, 2], [3, 4]])",
    "object": "object()",
    "generator": "(piece for piece in ('a', b'b'))",
}
"""What an output_fn or a transform_fn may return."""


def script(**functions: str) -> dict[str, bytes | str]:
    """code/inference.py that defines functions, each given as `(arguments) body`."""
    lines = []
    for name, text in functions.items():
        arguments, _, body = text.partition(") ")
        lines.append(f"def {name}{arguments}):\n    {body}\n")
    return {"code/inference.py": "import json\n" + "".join(lines)}


MODEL = "(model_dir) return {'factor': 2}"
CONTEXT = "(model_dir, context) return {'dir': context.system_properties['model_dir'] == model_dir}"
SEEN = "(data, content_type) return [type(data).__name__, data if isinstance(data, str) else list(data), content_type]"


def overrides(output: str = "(prediction, accept) return json.dumps([prediction, accept])") -> list[Scenario]:
    """Each function overridden, alone and together, with and without the context."""
    predict = "(data, model) return [data, sorted(model)]"
    # the context is looked at where it is used: what is set on it must come back
    marked = output.replace("accept)", "accept, context)", 1).replace(
        " return ", " context.set_response_header(0, 'X-Own', 'yes'); return ", 1
    )
    whole = (
        "(model, data, content_type, accept) "
        "return json.dumps([data if isinstance(data, str) else list(data), accept]), 'text/x'"
    )
    made = {
        "all": script(model_fn=MODEL, input_fn=SEEN, predict_fn=predict, output_fn=output),
        "model-context": script(model_fn=CONTEXT, input_fn=SEEN, predict_fn=predict, output_fn=output),
        "input-context": script(
            model_fn=MODEL,
            input_fn="(data, content_type, context) return [context.get_request_header(0, 'Content-Type'), content_type]",
            predict_fn=predict,
            output_fn=output,
        ),
        "predict-context": script(
            model_fn=MODEL,
            input_fn=SEEN,
            predict_fn="(data, model, context) return [data, context.system_properties['batch_size']]",
            output_fn=output,
        ),
        "output-context": script(model_fn=MODEL, input_fn=SEEN, predict_fn=predict, output_fn=marked),
        "transform": script(model_fn=MODEL, transform_fn=whole),
        "transform-context": script(
            model_fn=MODEL,
            transform_fn="(model, data, content_type, accept, context) "
            "context.set_response_header(0, 'X-Own-Model', str(model)); return 'ok'",
        ),
        "hooks": script(
            pre_model_fn="(model_dir) global LOG; LOG = ['before']",
            model_fn="(model_dir, context) LOG.append('load'); return LOG",
            model_warmup_fn="(model_dir, model, context) model.append('warm')",
            input_fn=SEEN,
            predict_fn="(data, model) return model",
            output_fn=output,
        ),
        "star": script(model_fn=MODEL, transform_fn="(*args) return str(len(args))"),
        "defaults-of-arguments": script(
            model_fn="(model_dir, more=None) return {'more': more is not None}",
            input_fn=SEEN,
            predict_fn=predict,
            output_fn=output,
        ),
    }
    return [Scenario(name, files, TEXTS) for name, files in made.items()]


def broken() -> list[Scenario]:
    """Scripts that must not load."""
    fine = {"model_fn": MODEL, "input_fn": SEEN, "predict_fn": "(data, model) return data"}
    whole = "(model, data, content_type, accept) return 'x'"
    made: dict[str, dict[str, bytes | str]] = {
        "conflict-input": script(model_fn=MODEL, transform_fn=whole, input_fn=SEEN),
        "conflict-predict": script(model_fn=MODEL, transform_fn=whole, predict_fn="(data, model) return data"),
        "conflict-output": script(model_fn=MODEL, transform_fn=whole, output_fn="(prediction, accept) return ''"),
        "model-arity": script(**{**fine, "model_fn": "(a, b, c) return {}"}),
        "input-arity": script(**{**fine, "input_fn": "(a) return a"}),
        "predict-arity": script(**{**fine, "predict_fn": "(a, b, c, d) return a"}),
        "output-arity": script(**fine, output_fn="() return ''"),
        "transform-arity": script(model_fn=MODEL, transform_fn="(a, b, c) return ''"),
        "model-raises": script(**{**fine, "model_fn": "(model_dir) raise OSError('no weights')"}),
        "import-fails": {"code/inference.py": "import nothing_of_this_name\n"},
        "syntax": {"code/inference.py": "def model_fn(:\n"},
    }
    return [Scenario(name, files, TEXTS[:1]) for name, files in made.items()]


def returned(name: str, **functions: str) -> list[Scenario]:
    """The last function, `name`, returning each of RETURNS."""
    arguments = "(prediction, accept)" if name == "output_fn" else "(model, data, content_type, accept)"
    asked = (Request("plain", TABLE, JSON), Request("csv", TABLE, JSON, CSV), Request("list", TABLE, JSON, "a/b, c/d;e=f"))
    return [
        Scenario(f"{name}-{kind}", script(model_fn=MODEL, **functions, **{name: f"{arguments} return {value}"}), asked)
        for kind, value in RETURNS.items()
    ]
