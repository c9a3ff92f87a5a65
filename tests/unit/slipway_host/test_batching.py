"""Requests answered together by a real host: who is in a batch, when it begins, what each member gets when it goes wrong."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from slipway_host import batching, frames
from slipway_host.contract import LoadError
from tests.deadlines import PATIENCE, Watch

from .running import Host, ask, eventually
from .test_parent import abandon

SIZE, DELAY = batching.SIZE, batching.DELAY
LISTS = """
import json, os, time
CALLS = []
def model_fn(model_dir): return None
def input_fn(data, content_type):
    return json.loads(data)
def batch_predict_fn(inputs, model):
    CALLS.append(len(inputs))
    for x in inputs:
        if x == "sleep": time.sleep(60)
        if x == "pause":
            print("a pause", flush=True)
            time.sleep(1.0)
        if x == "die": os._exit(9)
        if x == "bad": raise ValueError("a bad one")
    if "few" in inputs: return [0]
    if "text" in inputs: return "text"
    return [[x, len(inputs), len(CALLS)] for x in inputs]
def output_fn(prediction, accept):
    if accept == "x/bad": raise KeyError("output")
    return json.dumps(prediction), accept
"""
SLOWLY = {SIZE: "4", DELAY: "5000"}
Answer = tuple[int, Any]


def batched(host: Host, environment: dict[str, str] | None = None, text: str = LISTS, **config: Any) -> Host:
    host.script(text)
    return host.start(SLOWLY if environment is None else environment, **config)


def send(client: Any, bodies: list[Any], first: int = 1, flags: int = 0, **headers: str) -> None:
    head = frames.pack_head([(b"Content-Type", b"application/json"), *((k.encode(), v.encode()) for k, v in headers.items())])
    parts = [
        frames.pack(frames.REQUEST, first + i, 0, 60_000, head, json.dumps(b).encode(), flags) for i, b in enumerate(bodies)
    ]
    client.sock.sendall(b"".join(parts))


def answers(client: Any, count: int) -> dict[int, Answer]:
    """By id: status and body (decoded where it is JSON); BEGUN frames are left out."""
    found: dict[int, Answer] = {}
    while len(found) < count:
        kind, ident, (status, _, _), body = client.frame()
        if kind == frames.BEGUN:
            continue
        assert kind == frames.RESPONSE
        found[ident] = (status, json.loads(body) if status == 200 else body.decode())
    assert list(found) == sorted(found)
    return found


def test_requests_that_are_here_together_are_one_call_and_the_rest_waits_its_time(host: Host) -> None:
    batched(host, {SIZE: "4", DELAY: "1000"})
    client = host.frames()
    began = Watch()
    send(client, [1, 2, 3, 4, 5])
    kind, count, _, _ = client.frame()
    assert (kind, count) == (frames.BEGUN, 4)
    assert answers(client, 4) == {i: (200, [i, 4, 1]) for i in (1, 2, 3, 4)}
    assert began.free < 0.9, "the four did not wait for a fifth"
    assert answers(client, 1) == {5: (200, [5, 1, 2])}
    assert began.seconds >= 0.99


def test_what_comes_while_a_batch_runs_is_the_next_one(host: Host) -> None:
    batched(host, {SIZE: "8", DELAY: "0"})
    client, other = host.frames(), host.frames()
    send(client, ["pause"])
    eventually(lambda: "a pause" in host.output())
    send(client, [1, 2], 2)
    send(other, [3], 4)
    assert answers(client, 3) == {1: (200, ["pause", 1, 1]), 2: (200, [1, 3, 2]), 3: (200, [2, 3, 2])}
    assert answers(other, 1) == {4: (200, [3, 3, 2])}


def test_the_greeting_says_how_many_fit(host: Host) -> None:
    batched(host, {SIZE: "4"})
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(host.worker())
        client.sendall(frames.hello())
        hello = client.recv(100)[frames.HEADER_SIZE :]
    assert (frames.hello_version(hello), frames.hello_batch(hello)) == (frames.VERSION, 4)


def test_each_request_has_its_own_types_and_its_own_failure(host: Host) -> None:
    batched(host)
    client = host.frames()
    head = [(b"Content-Type", b"application/json"), (b"Accept", b"x/one")]
    bad = [(b"Content-Type", b"application/json"), (b"Accept", b"x/bad")]
    for ident, pairs, body in ((1, head, b'"a"'), (2, head, b"{no"), (3, bad, b'"c"'), (4, head[:1], b'"d"')):
        client.sock.sendall(frames.pack(frames.REQUEST, ident, 0, 0, frames.pack_head(pairs), body))
    assert client.frame()[:2] == (frames.BEGUN, 4)
    one, two, three, four = (client.frame() for _ in range(4))
    assert one[2:] == ((200, {b"Content-Type": b"x/one"}, 0), b'["a", 3, 1]')
    assert two[2][0] == 500
    assert b"Expecting property name" in two[3]
    assert three[2][0] == 500
    assert b"KeyError" in three[3]
    assert four[2:] == ((200, {b"Content-Type": b"application/json"}, 0), b'["d", 3, 1]')


def test_only_the_guilty_of_a_failing_batch_fails(host: Host) -> None:
    batched(host)
    client = host.frames()
    send(client, [1, "bad", 3, 4])
    found = answers(client, 4)
    assert [found[i] for i in (1, 3, 4)] == [(200, [1, 1, 2]), (200, [3, 1, 4]), (200, [4, 1, 5])]
    assert found[2][0] == 500
    assert found[2][1].startswith("a bad one\nTraceback")
    assert "a batch of 4 requests failed (ValueError: a bad one); each of them is tried by itself" in host.output()


@pytest.mark.parametrize(("word", "says"), [("few", "returned 1 predictions for 4 requests"), ("text", "returned a str for 4")])
def test_a_wrong_number_of_predictions_is_said_to_everyone(host: Host, word: str, says: str) -> None:
    batched(host)
    client = host.frames()
    send(client, [1, 2, word, 4])
    for status, text in answers(client, 4).values():
        assert status == 500
        assert says in text
    assert ask(host.worker(), "POST", "/invocations", b"9", {"Content-Type": "application/json"}).text == "[9, 1, 2]"


def test_large_and_streamed_requests_and_those_to_be_alone_pass_singly(host: Host) -> None:
    batched(host, {SIZE: "2", DELAY: "5000"})
    reply = ask(host.worker(), "POST", "/invocations", json.dumps("x" * 200_000).encode(), {"Content-Type": "application/json"})
    assert json.loads(reply.body)[1:] == [1, 1]
    client = host.frames()
    send(client, [1])
    send(client, [2], 2, flags=frames.ALONE)
    assert answers(client, 2) == {1: (200, [1, 1, 2]), 2: (200, [2, 1, 3])}
    send(client, [2], 2, flags=frames.ALONE | frames.TELL)
    assert [client.frame()[:2] for _ in range(2)] == [(frames.BEGUN, 1), (frames.RESPONSE, 2)]
    send(client, ["y" * 140_000, 4], 3)
    parts = [client.frame() for _ in range(4)]  # a batch, then an answer in two pieces, then the other
    assert [part[0] for part in parts] == [frames.BEGUN, frames.PART, frames.RESPONSE, frames.RESPONSE]
    assert json.loads(parts[1][3] + parts[2][3])[1:] == [2, 5]


def test_a_worker_that_dies_in_a_batch_has_said_who_was_in_it(host: Host) -> None:
    batched(host, {SIZE: "2", DELAY: "5000"})
    client = host.frames()
    send(client, [1, "die", 3])
    assert client.frame()[:2] == (frames.BEGUN, 2)
    with pytest.raises(ConnectionError):
        client.frame()
    host.invoke(b"5", content_type="application/json", Connection="close")
    assert "a new one takes its place" in host.output()


def test_a_batch_that_hangs_is_ended_when_the_last_caller_has_given_up(host: Host) -> None:
    batched(host, {SIZE: "2", DELAY: "5000"}, grace_seconds=0.2)
    client = host.frames()
    head = frames.pack_head([(b"Content-Type", b"application/json")])
    began = Watch()
    for ident, timeout in ((1, 100), (2, 700)):
        client.sock.sendall(frames.pack(frames.REQUEST, ident, 0, timeout, head, b'"sleep"'))
    with pytest.raises(ConnectionError):
        [client.frame() for _ in range(2)]
    assert began.seconds >= 0.85
    assert began.free < 5
    assert "did not end its request in time: killed" in host.output()


def test_a_batch_is_ended_early_only_when_nobody_waits_for_any_of_it(host: Host) -> None:
    batched(host, {SIZE: "2", DELAY: "5000"}, grace_seconds=0.2)
    client = host.frames()
    send(client, ["sleep", 2], 71)
    assert client.frame()[:2] == (frames.BEGUN, 2)
    assert abandon(host, 71) == 202
    client.sock.settimeout(1.2)
    with pytest.raises(TimeoutError):
        client.frame()
    client.sock.settimeout(PATIENCE)
    assert abandon(host, 72) == 202
    with pytest.raises(ConnectionError):
        client.frame()
    eventually(lambda: "nobody waits for: killed" in host.output())


def test_what_was_gathered_goes_elsewhere_when_the_worker_stops(host: Host) -> None:
    batched(host)
    client = host.frames()
    send(client, [1, 2])
    client.taken()
    assert host.process is not None
    host.process.terminate()
    assert {client.frame()[:2] for _ in range(2)} == {(frames.BUSY, 1), (frames.BUSY, 2)}
    assert host.process.wait(PATIENCE) == 0


def test_a_client_that_leaves_takes_its_requests_with_it(host: Host) -> None:
    batched(host, {SIZE: "3", DELAY: "5000"})
    leaving, client = host.frames(), host.frames()
    send(leaving, [1, 2])
    leaving.taken()
    leaving.close()
    time.sleep(0.1)
    send(client, [3, 4, 5])
    assert answers(client, 3)[1] == (200, [3, 3, 1])


def test_workers_that_share_a_model_batch_too(host: Host) -> None:
    batched(host, {SIZE: "2", DELAY: "5000"}, workers=2)
    for index in (0, 1):
        client = host.frames(index)
        send(client, ["a", "b"])
        assert answers(client, 2) == {1: (200, ["a", 2, 1]), 2: (200, ["b", 2, 1])}


def test_the_context_of_several_requests(host: Host) -> None:
    host.config["flavour"] = "pytorch"
    text = """
import json
def model_fn(model_dir): return None
def input_fn(data, content_type, context): return data, context.get_request_header(0, "X-Who")
def batch_predict_fn(inputs, model, context):
    size = context.system_properties["batch_size"]
    for i, (data, who) in enumerate(inputs):
        assert context.get_request_header(i, "X-Who") == who
        context.set_response_header(i, "X-Answer", who)
    context.set_response_status(201, "", 1)
    return [(data, size) for data, _ in inputs]
def output_fn(prediction, accept): return json.dumps(prediction)
"""
    batched(host, {SIZE: "2", DELAY: "5000"}, text)
    client = host.frames()
    for ident, who in ((1, "me"), (2, "you")):
        client.send(ident, b"x", {"Content-Type": "text/csv", "X-Who": who})
    assert client.frame()[:2] == (frames.BEGUN, 2)
    (_, _, (first, one, _), body), (_, _, (second, two, _), _) = client.frame(), client.frame()
    assert (first, second, one[b"X-Answer"], two[b"X-Answer"]) == (200, 201, b"me", b"you")
    assert json.loads(body) == ["x", 2]


def test_rows_of_lists_by_a_predict_fn_that_says_so(host: Host) -> None:
    text = """
import json
def model_fn(model_dir): return []
def input_fn(data, content_type): return json.loads(data)
async def predict_fn(rows, model):
    model.append(len(rows))
    if None in rows: raise ValueError("none")
    return {"twice": [2 * row for row in rows], "calls": [len(model)] * len(rows)} if rows != [7] else 7
predict_fn.batched = True
def output_fn(prediction, accept): return json.dumps(prediction)
"""
    batched(host, {SIZE: "3", DELAY: "5000"}, text)
    client = host.frames()
    send(client, [[1], [2, 3], 4])
    found = answers(client, 3)
    assert found[1] == (200, {"twice": [2], "calls": [1]})
    assert found[2] == (200, {"twice": [4, 6], "calls": [1, 1]})
    assert found[3][0] == 500  # no list: predicted by itself
    send(client, [[], [None], [5]], 4)
    found = answers(client, 3)
    assert found[4] == (200, {"twice": [], "calls": []})
    assert "none" in found[5][1]
    assert found[6][1]["twice"] == [10]


def test_without_the_variable_one_list_for_each_request(host: Host) -> None:
    batched(host, {})
    client = host.frames()
    send(client, [1, 2])
    assert answers(client, 2) == {1: (200, [1, 1, 1]), 2: (200, [2, 1, 2])}


def test_a_handler_service_gets_a_list(host: Host) -> None:
    host.script(
        """
def handle(data, context):
    if data is None: return None
    bodies = [bytes(each["body"]) for each in data]
    if b"bad" in bodies: raise ValueError("no")
    if b"few" in bodies: return [b"1"]
    for i in range(len(bodies)): context.set_response_content_type(i, f"x/{i}")
    return [body + b"%d" % len(bodies) for body in bodies]
""",
        "handler.py",
    )
    host.start({SIZE: "2", DELAY: "5000", "SAGEMAKER_HANDLER": "handler.py:handle"})
    client = host.frames()

    def pair(one: bytes, two: bytes) -> list[tuple[int, bytes | None, bytes]]:
        client.send(1, one)
        client.send(2, two)
        assert client.frame()[:2] == (frames.BEGUN, 2)
        return [(f[2][0], f[2][1].get(b"Content-Type"), f[3][:3]) for f in (client.frame(), client.frame())]

    assert pair(b"a", b"b") == [(200, b"x/0", b"a2"), (200, b"x/1", b"b2")]
    assert [each[0] for each in pair(b"bad", b"b")] == [503, 200]
    assert [each[0] for each in pair(b"few", b"b")] == [503, 503]


def test_a_model_whose_handlers_take_one_request_does_not_start(host: Host) -> None:
    host.script("def model_fn(d): return 1\ndef transform_fn(m, d, c, a): return d\n")
    failure = host.fails({SIZE: "8"})
    assert f"{SIZE} is 8, but no handler of this model takes several requests" in failure["message"]
    assert "batch_predict_fn(inputs, model)" in failure["mend"]


def test_a_bad_value_does_not_start(host: Host) -> None:
    host.script(LISTS)
    failure = host.fails({SIZE: "many"})
    assert failure["message"] == f"{SIZE} is 'many'; it must be a whole number between 1 and 256."


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({SIZE: " "}, None),
        ({SIZE: "1", DELAY: "5"}, None),
        ({SIZE: "2"}, (2, 0.002)),
        ({SIZE: " 256 ", DELAY: "10000"}, (256, 10.0)),
        ({SIZE: "2", DELAY: "0"}, (2, 0.0)),
    ],
)
def test_settings(environment: dict[str, str], wanted: tuple[int, float] | None) -> None:
    assert batching.asked(environment) == wanted


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({SIZE: "0"}, "between 1 and 256"),
        ({SIZE: "257"}, "between 1 and 256"),
        ({SIZE: "-1"}, "between 1 and 256"),
        ({SIZE: "²"}, "between 1 and 256"),
        ({SIZE: "2", DELAY: "10001"}, "between 0 and 10000"),
        ({SIZE: "2", DELAY: "1.5"}, "between 0 and 10000"),
        ({DELAY: "5"}, f"{DELAY} is set and {SIZE} is not"),
    ],
)
def test_settings_that_are_refused(environment: dict[str, str], says: str) -> None:
    with pytest.raises(LoadError, match=says) as error:
        batching.asked(environment)
    assert error.value.mend


def test_a_worker_goes_on_after_hundreds_of_batches(host: Host) -> None:
    batched(host, {SIZE: "7", DELAY: "0"})
    client = host.frames()
    send(client, list(range(1000)))
    found = answers(client, 1000)
    assert [found[i][1][0] for i in range(1, 1001)] == list(range(1000))
    assert max(answer[1][1] for answer in found.values()) == 7
