"""Frames: what is packed is what is read, and a HELLO is told from anything else."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipway_host import frames

_TEXT = st.binary(max_size=40).filter(lambda value: b"\0" not in value)


@given(st.lists(st.tuples(_TEXT, _TEXT), max_size=8))
def test_a_head_is_read_back(pairs: list[tuple[bytes, bytes]]) -> None:
    assert frames.unpack_head(frames.pack_head(pairs)) == pairs


def test_no_headers_are_no_bytes() -> None:
    assert frames.pack_head([]) == b""


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_a_frame_says_how_long_it_is(body: bytes, ident: int) -> None:
    head = frames.pack_head([(b"Accept", b"text/csv")])
    frame = frames.pack(frames.REQUEST, ident, timeout=60_000, head=head, body=body)
    length, kind, flags, head_length, status, timeout, read = frames.HEADER.unpack_from(frame)
    assert (kind, flags, status, timeout, read) == (frames.REQUEST, 0, 0, 60_000, ident)
    assert len(frame) == frames.HEADER_SIZE + length
    assert frame[frames.HEADER_SIZE + head_length :] == body


def test_hello_begins_with_a_byte_that_no_http_request_begins_with() -> None:
    assert frames.hello()[0] == 0
    assert frames.hello_version(frames.hello()[frames.HEADER_SIZE :]) == frames.VERSION
    assert frames.hello_version(b"GET / HTTP/1.1") is None
    assert frames.hello_version(frames.MAGIC) is None


def test_the_host_is_python_3_9_and_imports_nothing_of_slipway() -> None:
    files = sorted(Path(frames.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=(3, 9))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not [name for name in names if name == "slipway" or name.startswith("slipway.")], file
