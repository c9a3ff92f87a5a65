"""Bodies of Hugging Face models: json, csv with a header, npy, images, audio (containers.md 3.5)."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
from typing import Any

from .. import codecs

IMAGES = tuple(f"image/{kind}" for kind in ("jpeg", "png", "tiff", "bmp", "gif", "webp", "x-image"))
AUDIO = tuple(f"audio/{kind}" for kind in ("x-flac", "mpeg", "wave", "ogg", "x-audio"))
_HEADERS = ("question", "context", "inputs")
_NO_CSV = ("zero-shot-classification", "table-question-answering")


def decode(data: str | bytes, content_type: str, task: str | None, allow_pickle: bool = False) -> Any:
    """What the pipeline is called with. Raises UnsupportedFormat, ValueError."""
    kind = codecs.media_type(content_type)
    if kind == codecs.JSON:
        return json.loads(data)
    if kind == codecs.CSV:
        return _from_csv(codecs.text(data), task)
    if isinstance(data, (bytes, bytearray)):
        if kind == codecs.NPY:
            return codecs.from_npy(data, allow_pickle)
        if kind in IMAGES:
            return {"inputs": _image(data)}
        if kind in AUDIO:
            return {"inputs": bytes(data)}
    raise codecs.UnsupportedFormat(content_type)


def _from_csv(text: str, task: str | None) -> dict[str, Any]:
    if task in _NO_CSV:
        raise ValueError(f"text/csv cannot carry what {task} needs: send application/json.")
    rows = list(csv.DictReader(io.StringIO(text)))
    first = (text.splitlines() or [""])[0].lower()
    if not rows or not any(name in first for name in _HEADERS):
        raise ValueError(
            f"The first line of a text/csv body names its columns, and one of {', '.join(_HEADERS)} must be among them."
        )
    if "inputs" in rows[0]:
        return {"inputs": [row["inputs"] for row in rows]}
    return {"inputs": rows}


def _image(data: bytes) -> Any:
    from PIL import Image  # noqa: PLC0415  optional, and rarely needed

    return Image.open(io.BytesIO(data)).convert("RGB")


def encode(value: Any, accept: str) -> str | bytes:
    """`accept` is one type, compared as a whole. Raises UnsupportedFormat, ValueError, TypeError."""
    if accept == codecs.JSON:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    if accept == codecs.CSV:
        return _to_csv(value)
    if accept == codecs.NPY:
        return codecs.to_npy(value)
    if accept in IMAGES and hasattr(value, "save"):
        out = io.BytesIO()
        value.save(out, format="PNG" if accept == "image/x-image" else accept.partition("/")[2].upper())
        return out.getvalue()
    raise codecs.UnsupportedFormat(accept, accept=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "save") and hasattr(value, "convert"):
        out = io.BytesIO()
        value.save(out, format="PNG")
        return base64.b64encode(out.getvalue()).decode("ascii")
    if isinstance(value, datetime.datetime):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _to_csv(value: Any) -> str:
    rows = [value] if isinstance(value, dict) else value
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("only a list of objects can be written as text/csv; ask for application/json")
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
