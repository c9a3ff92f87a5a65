"""The parser: any cut of the bytes gives the same requests; what could be read twice is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_host import http11
from slipway_host.http11 import BadRequest, Parser, Request

CHUNKED = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def requests_of(pieces: list[bytes], limit: int = 1 << 20) -> list[Request]:
    parser = Parser(limit)
    found = []
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            room = parser.room()
            if room is None:
                parser.feed(rest)
                rest = rest[len(rest) :]
            else:
                count = min(len(room), len(rest))
                room[:count] = rest[:count]
                room.release()
                parser.filled(count)
                rest = rest[count:]
            while (request := parser.next()) is not None:
                found.append(request)
    return found


@given(st.lists(st.integers(0, 250), max_size=12))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    stream = (
        b"\r\nPOST /invocations?x=1 HTTP/1.1\r\nContent-Type: text/csv\r\ncontent-length: 5\r\n\r\nhello"
        + CHUNKED
        + b"3;name=v\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
        + b"GET /ping HTTP/1.0\r\n\r\n"
    )
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    found = requests_of([stream[a:b] for a, b in pairwise(edges)])
    assert [(r.method, r.path, r.query, r.body) for r in found] == [
        ("POST", "/invocations", "x=1", b"hello"),
        ("POST", "/a", "", b"abcde"),
        ("GET", "/ping", "", b""),
    ]
    assert found[0].header(b"content-type") == b"text/csv"
    assert [r.keep_alive for r in found] == [True, True, False]


def test_a_large_body_of_known_length_is_received_in_place() -> None:
    parser = Parser(1 << 20)
    parser.feed(b"POST /a HTTP/1.1\r\nContent-Length: 100000\r\n\r\nabc")
    assert parser.next() is None
    room = parser.room()
    assert room is not None
    assert len(room) == 100_000 - 3


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"G\x01T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nExpect: magic\r\n\r\n", 417),
        (CHUNKED + b"xyz\r\n", 400),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"2\r\nabcd\r\n", 400),
        (CHUNKED + b"fffffff\r\n", 413),
        (CHUNKED + b"1" * 300, 400),
        (CHUNKED + b"0\r\n" + b"a" * 9000, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000, 431),
    ],
)
def test_bad_requests(bad: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        requests_of([bad])
    assert caught.value.status == status


def test_who_expects_a_continue_gets_one_before_the_body_only() -> None:
    parser = Parser(100)
    parser.feed(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert parser.next() is None
    assert parser.wants_continue
    parser.feed(b"abc")
    request = parser.next()
    assert request is not None
    assert request.body == b"abc"
    assert not parser.wants_continue


def test_answers() -> None:
    assert http11.head(200, [(b"A", b"b")], 3, True) == b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\n"
    assert http11.head(204, [], 0, False) == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    assert b"Transfer-Encoding: chunked" in http11.head(200, [], None, True)
    assert http11.chunk(b"ab" * 8) == b"10\r\n" + b"ab" * 8 + b"\r\n"
    assert http11.chunk(b"") == b""
