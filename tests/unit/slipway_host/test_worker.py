"""A worker over its socket: frames and HTTP/1.1 on one address, streams, limits, errors of user code."""

from __future__ import annotations

import socket

import pytest

from slipway_host import frames
from tests.deadlines import PATIENCE

from .running import Host, ask, eventually

ECHO = """
def model_fn(model_dir):
    return "model"

def transform_fn(model, data, content_type, accept):
    return data, content_type
"""

STREAMS = """
import asyncio, time

def model_fn(model_dir):
    return None

def pieces(data):
    try:
        for i in range(int(data)):
            yield f"{i};"
    finally:
        print("closed", flush=True)

async def slowly(data):
    for i in range(int(data)):
        await asyncio.sleep(0)
        yield b"%d;" % i

def broken(data):
    yield b"some"
    raise ValueError("in the middle")

async def transform_fn(model, data, content_type, accept):
    await asyncio.sleep(0)
    if content_type == "x/broken":
        return broken(data), "text/plain"
    if content_type == "x/async":
        return slowly(data), "text/plain"
    if content_type == "x/endless":
        return pieces(1000000), "text/plain"
    return pieces(data)
"""


def test_frames_and_http_on_one_socket(host: Host) -> None:
    host.script(ECHO)
    host.start()
    client = host.frames()
    assert client.worker_version == frames.VERSION
    client.send(7, b"body", {"Content-Type": "x/y"})
    assert client.frame() == (frames.RESPONSE, 7, (200, {b"Content-Type": b"x/y"}, 0), b"body")
    reply = host.invoke(b"other", content_type="x/z")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "x/z", b"other")
    client.send(8, b"again")
    assert client.frame()[3] == b"again"


def test_many_requests_in_one_write_are_answered_in_order(host: Host) -> None:
    host.script(ECHO)
    host.start()
    client = host.frames()
    client.sock.sendall(b"".join(frames.pack(frames.REQUEST, i, body=b"%d" % i) for i in range(2000)))
    assert [client.frame()[1] for _ in range(2000)] == list(range(2000))


def test_who_asks_for_it_is_told_when_each_request_begins(host: Host) -> None:
    host.script(
        "import os, time\n"
        "def model_fn(d): return 1\n"
        "def transform_fn(m, data, c, a):\n"
        "    if c == 'x/die': os._exit(9)\n"
        "    while c == 'x/wait' and not os.path.exists(data): time.sleep(0.01)\n"
        "    return data, c\n"
    )
    host.start()
    one, two = host.frames(), host.frames()
    gate = host.folder / "gate"
    one.send(1, str(gate).encode(), {"Content-Type": "x/wait"}, flags=frames.TELL)
    assert one.frame()[:2] == (frames.BEGUN, 1)  # while it runs
    two.sock.sendall(b"".join(frames.pack(frames.REQUEST, i, flags=frames.TELL) for i in (2, 3)))
    two.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        two.frame()  # the first one's turn is not over
    two.sock.settimeout(30)
    gate.touch()
    assert one.frame()[:3] == (frames.RESPONSE, 1, (200, {b"Content-Type": b"x/wait"}, 0))
    told = [two.frame()[:2] for _ in range(4)]
    assert told == [(frames.BEGUN, 1), (frames.RESPONSE, 2), (frames.BEGUN, 1), (frames.RESPONSE, 3)]
    one.send(4, b"")
    assert one.frame()[:2] == (frames.RESPONSE, 4)
    two.send(5, b"", {"Content-Type": "x/die"}, flags=frames.TELL)
    assert two.frame()[:2] == (frames.BEGUN, 1)
    with pytest.raises(ConnectionError):
        two.frame()


def test_who_asks_for_it_over_http_is_told_as_well(host: Host) -> None:
    host.script(ECHO)
    host.start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(host.worker())
        for asked in (frames.TELL_HEADER, "x-other"):
            sock.sendall(f"POST /invocations HTTP/1.1\r\n{asked}: 1\r\nContent-Length: 4\r\n\r\nbody".encode())
            answer = b""
            while not answer.endswith(b"body"):
                answer += sock.recv(65536)
            assert answer.count(b"HTTP/1.1 ") == (2 if asked == frames.TELL_HEADER else 1)
            assert answer.startswith(b"HTTP/1.1 102 Processing\r\n\r\n") == (asked == frames.TELL_HEADER)


def test_what_was_sent_ahead_by_who_is_gone_does_not_run(host: Host) -> None:
    """A dispatcher died: others have its requests, and this worker, which has them whole in its sockets, must not."""
    host.script(
        "import os, time\n"
        "def model_fn(d): return 1\n"
        "def transform_fn(m, data, c, a):\n"
        "    if c == 'x/wait':\n"
        "        while not os.path.exists(data): time.sleep(0.01)\n"
        "    else: print('ran', len(data), flush=True)\n"
        "    return b'', 'a/b'\n"
    )
    host.start()
    gate = host.folder / "gate"
    first, framed = host.frames(), host.frames()
    first.send(1, str(gate).encode(), {"Content-Type": "x/wait"}, flags=frames.TELL)
    assert first.frame()[:2] == (frames.BEGUN, 1)
    framed.send(2, b"12", {"Content-Type": "a/b"}, flags=frames.TELL)
    body = b"x" * 100_000
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(host.worker())
        sock.sendall(f"POST /invocations HTTP/1.1\r\n{frames.TELL_HEADER}: 1\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        sock.sendall(body)
    framed.close()
    gate.touch()
    assert first.frame()[:2] == (frames.RESPONSE, 1)
    for size in range(3, 8):  # each a turn of the worker's loop, which looks at all that have come
        first.send(size, b"x" * size, {"Content-Type": "a/b"}, flags=frames.TELL)
        assert [first.frame()[0] for _ in range(2)] == [frames.BEGUN, frames.RESPONSE]
    assert eventually(lambda: "ran 7" in host.output())
    assert "ran 2" not in host.output()
    assert f"ran {len(body)}" not in host.output()


def test_a_request_may_come_byte_by_byte_and_holds_up_nobody(host: Host) -> None:
    host.script(ECHO)
    host.start()
    slow = host.frames()
    request = frames.pack(frames.REQUEST, 3, head=frames.pack_head([(b"Content-Type", b"a/b")]), body=b"x" * 20)
    for position in range(len(request)):
        slow.sock.sendall(request[position : position + 1])
        if position == 10:
            assert host.invoke(b"meanwhile", content_type="a/b").body == b"meanwhile"
    assert slow.frame()[3] == b"x" * 20


def test_an_answer_larger_than_a_frame_comes_in_parts(host: Host) -> None:
    host.script("def model_fn(d): return 1\ndef transform_fn(m, data, c, a): return bytes(range(256)) * int(data) , 'a/b'\n")
    host.start()
    client = host.frames()
    for blocks in (512, 513, 2000):
        client.send(1, b"%d" % blocks, {"Content-Type": "text/plain"})
        body, kind = b"", frames.PART
        while kind == frames.PART:
            kind, _, (status, head, flags), piece = client.frame()
            assert (status, head, flags) == (200, {b"Content-Type": b"a/b"}, 0)
            assert len(piece) <= frames.MAX_BODY
            body += piece
        assert body == bytes(range(256)) * blocks


@pytest.mark.parametrize("kind", ["x/plain", "x/async"])
def test_streams_over_frames_and_http(host: Host, kind: str) -> None:
    host.script(STREAMS)
    host.start()
    wanted = b"".join(b"%d;" % i for i in range(50))
    client = host.frames()
    client.send(5, b"50", {"Content-Type": kind})
    received = [client.frame() for _ in range(51)]
    assert [r[0] for r in received] == [frames.PART] * 50 + [frames.RESPONSE]
    assert b"".join(r[3] for r in received) == wanted
    reply = host.invoke(b"50", content_type=kind)
    assert reply.headers["transfer-encoding"] == "chunked"
    assert reply.body == wanted


def test_a_stream_that_fails_midway_is_not_taken_for_whole(host: Host) -> None:
    host.script(STREAMS)
    host.start()
    client = host.frames()
    client.send(5, b"2", {"Content-Type": "x/broken"})
    assert client.frame()[3] == b"some"
    kind, _, (_, _, flags), _ = client.frame()
    assert (kind, flags) == (frames.RESPONSE, frames.BROKEN)
    with pytest.raises(Exception, match=r"IncompleteRead|0 bytes read"):
        host.invoke(b"2", content_type="x/broken")
    assert "in the middle" in host.output()


def test_a_peer_that_leaves_a_stream_ends_it(host: Host) -> None:
    host.script(STREAMS)
    host.start()
    client = host.frames()
    client.send(5, b"", {"Content-Type": "x/endless"})
    client.frame()
    client.close()
    assert host.invoke(b"1").body == b"0;"  # the worker is free again
    assert host.output().count("closed") == 2


def test_a_hello_of_another_version_is_answered_and_closed(host: Host) -> None:
    host.script(ECHO)
    host.start()
    client = host.frames(version=99)
    assert client.worker_version == frames.VERSION
    with pytest.raises(ConnectionError):
        client.frame()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100,
        frames.pack(frames.REQUEST, 1, body=b"before hello"),
        frames.hello() + frames.hello(),
        frames.hello() + frames.HEADER.pack(2**31, frames.REQUEST, 0, 0, 0, 0, 1),
        frames.hello() + frames.HEADER.pack(1, frames.REQUEST, 0, 2, 0, 0, 1) + b"x",
    ],
)
def test_who_does_not_keep_to_the_protocol_is_cut_off_and_the_worker_lives(host: Host, garbage: bytes) -> None:
    host.script(ECHO)
    host.start()
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(host.worker())
    sock.sendall(garbage)
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    sock.close()
    assert host.invoke(b"alive", content_type="a/b").body == b"alive"


def test_routes_of_http(host: Host) -> None:
    host.script(ECHO + "def execution_parameters_fn(): return {'MaxPayloadInMB': 7}\n")
    host.start()
    worker = host.worker()
    assert ask(worker, "GET", "/ping").status == 200
    assert ask(worker, "GET", "/execution-parameters").text == '{"MaxPayloadInMB": 7}'
    assert ask(worker, "GET", "/invocations").status == 405
    assert ask(worker, "POST", "/ping").status == 405
    assert ask(worker, "GET", "/other").status == 404


def test_no_execution_parameters_is_404(host: Host) -> None:
    host.script(ECHO)
    host.start()
    assert ask(host.worker(), "GET", "/execution-parameters").status == 404


def test_chunked_requests_continue_and_large_bodies(host: Host) -> None:
    host.script(ECHO)
    host.start()
    reply = host.invoke(iter([b"one", b"two"]), content_type="a/b")
    assert reply.body == b"onetwo"
    large = bytes(range(256)) * 40_000
    assert host.invoke(large, content_type="a/b").body == large
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(host.worker())
    sock.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"{}")
    assert sock.recv(1000).endswith(b"\r\n\r\n{}")
    sock.close()


def test_bodies_are_bounded_both_ways(host: Host) -> None:
    host.script("def model_fn(d): return 1\ndef transform_fn(m, data, c, a): return b'x' * int(data), 'a/b'\n")
    host.start(request_bytes=1000, response_bytes=2000)
    assert host.invoke(b"1" * 1001).status == 413
    assert host.invoke(b"2000", content_type="a/b").status == 200
    reply = host.invoke(b"2001", content_type="a/b")
    assert reply.status == 500
    assert "2001 bytes; at most 2000" in reply.text
    client = host.frames()
    client.send(1, b"2001")
    assert client.frame()[2][0] == 500


def test_errors_of_user_code_are_500_with_message_and_traceback(host: Host) -> None:
    host.script(
        """
import sys
def model_fn(d): return 1
def transform_fn(model, data, content_type, accept):
    if data == "exit": sys.exit(3)
    if data == "memory": raise MemoryError("of 9 TB")
    if data == "set": return {1}
    if data == "header": return b"", "a/b\\r\\nX-Evil: 1"
    raise ValueError("the reason")
"""
    )
    host.start()
    reply = host.invoke(b"x", content_type="text/csv")
    assert reply.status == 500
    assert reply.text.startswith("the reason\nTraceback (most recent call last):\n")
    assert "slipway_host" not in reply.text
    assert 'raise ValueError("the reason")' in host.output()
    assert "sys.exit(3)" in host.invoke(b"exit", content_type="text/csv").text
    assert "ran out of memory" in host.invoke(b"memory", content_type="text/csv").text
    assert "not set" in host.invoke(b"set", content_type="text/csv").text
    assert "x-evil" not in host.invoke(b"header", content_type="text/csv").headers


def test_what_user_code_prints_is_the_log_line_by_line(host: Host) -> None:
    host.script("def model_fn(d): return 1\ndef transform_fn(m, data, c, a):\n    print('said', data)\n    return data\n")
    host.start()
    assert host.invoke(b"hi", content_type="text/csv").body == b"hi"
    assert "said hi\n" in host.output()  # at once, although stdout is no terminal
