"""Log groups and streams on disk: names, pages, tokens, rotation, several writers, filters, retention."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.backing import log_files, log_writer
from slipway.backing.log_files import Appender, Event, folder_name
from slipway.backing.log_filter import BadPattern, compile_pattern
from slipway.backing.log_reader import BadToken
from slipway.backing.log_writer import LINE_BYTES, LinePipe, LogWriter
from slipway.backing.logs import AlreadyExists, Logs, NoGroup, NoStream

HERE = ("1", "us-east-1")
GROUP = "/aws/sagemaker/Endpoints/e"


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logs(tmp_path: Path, clock: Clock) -> Logs:
    return Logs(str(tmp_path / "logs"), now=clock, segment_bytes=4096)


def everything(logs: Logs, stream: str = "s", limit: int = 7) -> list[str]:
    """All pages from the head."""
    found: list[str] = []
    token = None
    while True:
        page = logs.get(*HERE, GROUP, stream, token=token, from_head=True, limit=limit)
        if page.forward == token:
            assert page.events == []
            return found
        found += [event.message for event in page.events]
        token = page.forward


# Names


@given(st.text(min_size=1, max_size=600))
def test_no_name_escapes(name: str) -> None:
    found = folder_name(name)
    assert found == os.path.basename(found)
    assert not found.startswith(".")
    assert len(found.encode()) <= 200
    assert "\0" not in found


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_names_do_not_collide(one: str, two: str) -> None:
    assert (folder_name(one) == folder_name(two)) == (one == two)


@pytest.mark.parametrize("name", ["..", ".", "../../x", "/", "a/../../b", "x" * 512, "é" * 512, "%2E%2E", ".old-1"])
def test_hostile_names_stay_inside(tmp_path: Path, logs: Logs, name: str) -> None:
    logs.create_group(*HERE, name)
    logs.create_stream(*HERE, name, name)
    logs.append(*HERE, name, name, [(1, "m")])
    assert [group.name for group in logs.groups(*HERE)] == [name]
    assert [stream.name for stream in logs.streams(*HERE, name)] == [name]
    assert [event.message for event in logs.get(*HERE, name, name).events] == ["m"]
    assert os.listdir(tmp_path) == ["logs"]
    logs.delete_group(*HERE, name)
    assert logs.groups(*HERE) == []


# Groups and streams


def test_create_and_delete(logs: Logs, clock: Clock) -> None:
    with pytest.raises(NoGroup):
        logs.group(*HERE, GROUP)
    logs.create_group(*HERE, GROUP)
    clock.now += 5
    with pytest.raises(AlreadyExists):
        logs.create_group(*HERE, GROUP)
    assert logs.group(*HERE, GROUP).created == 1_000_000_000
    with pytest.raises(NoGroup):
        logs.group("2", "us-east-1", GROUP)
    logs.create_stream(*HERE, GROUP, "s")
    with pytest.raises(AlreadyExists):
        logs.create_stream(*HERE, GROUP, "s")
    with pytest.raises(NoStream):
        logs.append(*HERE, GROUP, "t", [(1, "m")])
    with pytest.raises(NoStream):
        logs.get(*HERE, GROUP, "t")
    logs.delete_stream(*HERE, GROUP, "s")
    with pytest.raises(NoStream):
        logs.delete_stream(*HERE, GROUP, "s")
    logs.delete_group(*HERE, GROUP)
    for call in (logs.delete_group, logs.group):
        with pytest.raises(NoGroup):
            call(*HERE, GROUP)


def test_streams_tell_their_times(logs: Logs, clock: Clock) -> None:
    writer = logs.writer(*HERE, GROUP, "b")
    assert logs.stream(*HERE, GROUP, "b").first_event is None
    writer.write(["one"])
    clock.now += 1
    writer.write(["two"])
    logs.writer(*HERE, GROUP, "a")
    found = logs.streams(*HERE, GROUP)
    assert [stream.name for stream in found] == ["a", "b"]
    assert (found[1].first_event, found[1].last_event, found[1].last_ingestion) == (10**9, 10**9 + 1000, 10**9 + 1000)
    assert [stream.name for stream in logs.streams(*HERE, GROUP, prefix="b", timed=False)] == ["b"]
    assert logs.stored_bytes(*HERE, GROUP) > 0


# Events of a stream


def test_pages_forward_and_backward(logs: Logs) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    writer.write([str(n) for n in range(20)])
    last = logs.get(*HERE, GROUP, "s", limit=5)
    assert [event.message for event in last.events] == ["15", "16", "17", "18", "19"]
    before = logs.get(*HERE, GROUP, "s", token=last.backward, limit=5)
    assert [event.message for event in before.events] == ["10", "11", "12", "13", "14"]
    again = logs.get(*HERE, GROUP, "s", token=before.forward, limit=5)
    assert again.events == last.events
    head = logs.get(*HERE, GROUP, "s", from_head=True, limit=3)
    assert [event.message for event in head.events] == ["0", "1", "2"]
    start = logs.get(*HERE, GROUP, "s", token=head.backward, limit=3)
    assert (start.events, start.backward) == ([], head.backward)
    end = logs.get(*HERE, GROUP, "s", token=last.forward)
    assert (end.events, end.forward) == ([], last.forward)
    writer.write(["20"])
    assert [event.message for event in logs.get(*HERE, GROUP, "s", token=end.forward).events] == ["20"]


def test_an_empty_stream_can_be_waited_on(logs: Logs) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    for from_head in (True, False):
        page = logs.get(*HERE, GROUP, "s", from_head=from_head)
        assert page.events == []
    writer.write(["first"])
    assert [event.message for event in logs.get(*HERE, GROUP, "s", token=page.forward).events] == ["first"]


def test_a_time_range_includes_its_start_only(logs: Logs) -> None:
    logs.writer(*HERE, GROUP, "s").close()
    logs.append(*HERE, GROUP, "s", [(n, str(n)) for n in range(10)])
    for from_head in (True, False):
        page = logs.get(*HERE, GROUP, "s", start=3, end=6, from_head=from_head)
        assert [event.message for event in page.events] == ["3", "4", "5"]


@pytest.mark.parametrize("token", ["", "x", "f/1", "f/" + "9" * 56, "f/" + "-" * 56, "f/" + "٣" * 56])
def test_tokens_of_others_are_refused(logs: Logs, token: str) -> None:
    logs.writer(*HERE, GROUP, "s")
    with pytest.raises(BadToken):
        logs.get(*HERE, GROUP, "s", token=token)


def test_a_page_holds_a_megabyte(logs: Logs, tmp_path: Path) -> None:
    logs = Logs(str(tmp_path / "wide"))
    logs.create_group(*HERE, GROUP)
    logs.create_stream(*HERE, GROUP, "s")
    logs.append(*HERE, GROUP, "s", [(n, "x" * 300_000) for n in range(5)] + [(9, "y" * 2_000_000), (10, "z")])
    assert len(logs.get(*HERE, GROUP, "s", from_head=True).events) == 3
    assert len(logs.filter(*HERE, GROUP).events) == 3
    assert [len(message) for message in everything(logs, limit=100)] == [300_000] * 5 + [2_000_000, 1]
    assert len(logs.get(*HERE, GROUP, "s").events) == 1


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 9000), min_size=1, max_size=40), limit=st.integers(1, 9))
def test_reading_backward_is_reading_forward_reversed(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], limit: int
) -> None:
    folder = str(tmp_path_factory.mktemp("stream"))
    appender = Appender(folder, 50_000)
    for n, length in enumerate(lengths):
        appender.append([Event(n, n, f"{n}\r\n" + "é" * length)])
    appender.close()
    ahead = list(log_files.forward(folder))
    back = list(log_files.backward(folder))
    assert [placed.event.timestamp for placed in ahead] == list(range(len(lengths)))[-len(ahead) :]
    assert back == ahead[::-1]
    middle = ahead[len(ahead) // 2]
    assert list(log_files.backward(folder, middle.before)) == ahead[: len(ahead) // 2][::-1]
    assert list(log_files.forward(folder, middle.after)) == ahead[len(ahead) // 2 + 1 :]


# Rotation, several writers, torn lines


def test_a_stream_takes_a_bounded_place(logs: Logs, tmp_path: Path) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    for n in range(2000):
        writer.write([f"line {n}"])
    assert logs.stored_bytes(*HERE, GROUP) < 2 * 4096 + 200
    found = everything(logs)
    assert found == [f"line {n}" for n in range(2000 - len(found), 2000)]


def test_a_token_outlives_rotation(logs: Logs) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    writer.write(["0"])
    token = logs.get(*HERE, GROUP, "s").forward
    for n in range(1, 400):
        writer.write([str(n)])
    found = logs.get(*HERE, GROUP, "s", token=token).events
    assert found[-1].message == "399"
    assert [int(event.message) for event in found] == list(range(400 - len(found), 400))


def test_processes_that_write_at_once_lose_and_tear_nothing(tmp_path: Path) -> None:
    directory = str(tmp_path / "logs")
    code = (
        "import sys\nfrom slipway.backing.logs import Logs\n"
        "logs = Logs(sys.argv[1], segment_bytes=2_000_000)\nwriter = logs.writer('1', 'us-east-1', sys.argv[2], 's')\n"
        "for n in range(2000): writer.write([sys.argv[3] + ' ' + str(n) + ' ' + 'x' * (n % 700)])\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, directory, GROUP, str(name)]) for name in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    found = [message.split(" ") for message in everything(Logs(directory), limit=1000)]
    for name in range(3):
        assert [int(n) for who, n, _ in found if who == str(name)] == list(range(2000))
    assert all(len(x) == int(n) % 700 for _, n, x in found)


def test_a_torn_line_harms_nobody(logs: Logs, tmp_path: Path) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    writer.write(["one"])
    file = next((tmp_path / "logs").rglob("*.log"))
    with file.open("ab") as end:
        end.write(b'{"timestamp":1,"inges\n\xff\xfe\n{"timestamp":1')
    assert everything(logs) == ["one"]
    assert [event.message for event in logs.get(*HERE, GROUP, "s").events] == ["one"]
    logs.append(*HERE, GROUP, "s", [(1, "two")])
    assert everything(logs) == ["one", "two"]


def test_a_full_disk_is_survived_and_told_once(
    logs: Logs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
        writer.write(["lost"])
        writer.write(["lost too"])
    writer.write(["kept"])
    assert everything(logs) == ["kept"]
    assert [record.message for record in caplog.records] == ["log-write-failed"]


def test_a_writer_makes_its_stream_again(logs: Logs) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    writer.write(["one"])
    logs.delete_group(*HERE, GROUP)
    writer.write(["two"])
    logs.delete_stream(*HERE, GROUP, "s")
    writer.write(["three"])
    assert everything(logs) == ["three"]


# The keeper's writer


def writer_of(lines: list[str]) -> LinePipe:
    return LinePipe(lines.extend)


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_lines_do_not_depend_on_how_bytes_arrive(pieces: list[bytes]) -> None:
    lines: list[str] = []
    pipe = writer_of(lines)
    for piece in pieces:
        pipe.feed(piece)
    pipe.close()
    expected = b"".join(pieces).split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert lines == [line.rstrip(b"\r").decode(errors="replace") for line in expected]


@pytest.mark.parametrize("step", [1000, 65536, 10**7])
def test_a_long_line_is_split_between_characters(step: int) -> None:
    lines: list[str] = []
    pipe = writer_of(lines)
    data = ("a" + "é" * 400_000 + "\nend").encode()
    for at in range(0, len(data), step):
        pipe.feed(data[at : at + step])
    pipe.close()
    assert "".join(lines) == "a" + "é" * 400_000 + "end"
    assert max(len(line.encode()) for line in lines) <= LINE_BYTES
    assert len(lines) == 5


def test_output_without_end_is_cut_and_told(logs: Logs, clock: Clock) -> None:
    logs.writer(*HERE, GROUP, "s")
    folder = str(next(Path(logs._directory).rglob("s/s")))
    writer = LogWriter(Appender(folder), lambda: None, clock, rate_bytes=10, burst_bytes=30)
    writer.write(["0123456789"] * 5)
    assert everything(logs) == ["0123456789"] * 3
    clock.now += 1
    writer.write(["0123456789"] * 2)
    assert everything(logs)[3:] == [
        "slipway: 2 lines dropped: this container writes more than 10 bytes per second",
        "0123456789",
    ]
    writer.close()
    assert "1 lines dropped" in everything(logs)[-1]
    assert len(writer.tail) == 7


def test_the_tail_is_short(logs: Logs) -> None:
    writer = logs.writer(*HERE, GROUP, "s")
    writer.write(["x" * 5000, *(str(n) for n in range(60)), ""])
    assert writer.tail == tuple(str(n) for n in range(10, 60))
    writer.write(["x" * 5000])
    assert len(writer.tail[-1]) == log_writer._TAIL_CHARACTERS


# Filtering


@pytest.mark.parametrize(
    ("pattern", "message", "matches"),
    [
        ("", "anything", True),
        ("ERROR", "an ERROR here", True),
        ("ERROR", "an error here", False),
        ("ERROR 42", "42 ERROR", True),
        ("ERROR 42", "ERROR 41", False),
        ('"ERROR 42"', "42 ERROR", False),
        ('"ERROR 42"', "an ERROR 42", True),
        ('"say \\"hi\\""', 'say "hi"', True),
        ("?a1 ?b1", "b1", True),
        ("?a1 ?b1", "c1", False),
        ("-no", "yes", True),
        ("-no", "no", False),
        ('ERROR -"not this"', "ERROR", True),
        ('ERROR -"not this"', "ERROR not this", False),
        ("?ERROR INFO", "INFO", True),
        ("?ERROR INFO", "ERROR", False),
        ("a-b", "xa-bx", True),
    ],
)
def test_patterns(pattern: str, message: str, matches: bool) -> None:
    assert compile_pattern(pattern)(message) is matches


@pytest.mark.parametrize(
    ("pattern", "kind"), [("{ $.a = 1 }", "JSON"), ("[a, b]", "space"), ("%a+%", "regular"), ('"open', "Invalid")]
)
def test_patterns_that_are_refused(pattern: str, kind: str) -> None:
    with pytest.raises(BadPattern, match=kind):
        compile_pattern(pattern)


@settings(deadline=None)
@given(st.text('ab"?-\\ ', max_size=40))
def test_any_pattern_is_read_or_refused(pattern: str) -> None:
    try:
        compile_pattern(pattern)("a")
    except BadPattern:
        return


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=40),
    limit=st.integers(1, 6),
    descending=st.booleans(),
)
def test_filtered_pages_are_the_whole_by_timestamp(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int]], limit: int, descending: bool
) -> None:
    logs = Logs(str(tmp_path_factory.mktemp("logs")))
    logs.create_group(*HERE, GROUP)
    for name in "abc":
        logs.create_stream(*HERE, GROUP, name)
    for n, (name, at) in enumerate(events):
        logs.append(*HERE, GROUP, name, [(at, f"{n}")])
    found = []
    token = None
    while True:
        page = logs.filter(*HERE, GROUP, limit=limit, token=token, descending=descending)
        assert len(page.events) <= limit
        found += page.events
        token = page.token
        if token is None:
            break
    order = [(one.event.timestamp, one.stream, int(one.event.message)) for one in found]
    assert order == sorted(((at, name, n) for n, (name, at) in enumerate(events)), reverse=descending)
    assert len({one.id for one in found}) == len(found)
    assert all(len(one.id) == 56 for one in found)


def test_filter_by_stream_time_and_pattern(logs: Logs) -> None:
    for name in ("a1", "a2", "b1"):
        logs.writer(*HERE, GROUP, name)
        logs.append(*HERE, GROUP, name, [(n, f"{name} {n}") for n in range(4)])

    def messages(**arguments: object) -> list[str]:
        return [found.event.message for found in logs.filter(*HERE, GROUP, **arguments).events]  # type: ignore[arg-type]

    assert messages(names=["b1"]) == ["b1 0", "b1 1", "b1 2", "b1 3"]
    assert messages(prefix="a", start=3) == ["a1 3", "a2 3"]
    assert messages(end=0) == ["a1 0", "a2 0", "b1 0"]
    assert messages(matches=compile_pattern("b1 -2"), start=2) == ["b1 3"]
    with pytest.raises(NoStream):
        messages(names=["c"])
    with pytest.raises(BadToken):
        messages(token="x")


def test_the_end_of_a_long_log_is_found_without_reading_it(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = Logs(str(tmp_path), now=clock)
    writer = logs.writer(*HERE, GROUP, "s")
    for n in range(3000):
        clock.now += 1
        writer.write([f"{n} " + "x" * 1000])
    decoded = 0
    real = log_files._decode

    def counting(line: bytes) -> Event | None:
        nonlocal decoded
        decoded += 1
        return real(line)

    monkeypatch.setattr(log_files, "_decode", counting)
    start = int(clock.now * 1000) - 5000
    assert [found.event.message.split()[0] for found in logs.filter(*HERE, GROUP, start=start).events] == [
        str(n) for n in range(2994, 3000)
    ]
    assert decoded < 250
    ahead = int(clock.now * 1000) + 3_600_000
    logs.append(*HERE, GROUP, "s", [(ahead, "ahead")])
    clock.now += 3000
    writer.write(["later"])
    assert [found.event.message for found in logs.filter(*HERE, GROUP, start=ahead).events] == ["ahead"]


# Retention


def test_retention_hides_at_once_and_deletes_later(logs: Logs, clock: Clock) -> None:
    logs.writer(*HERE, GROUP, "s").close()
    now = int(clock.now * 1000)
    logs.append(*HERE, GROUP, "s", [(now - 2 * 86_400_000, "old"), (now, "new")])
    logs.set_retention(*HERE, GROUP, 1)
    assert logs.group(*HERE, GROUP).retention_days == 1
    assert everything(logs) == ["new"]
    assert [found.event.message for found in logs.filter(*HERE, GROUP).events] == ["new"]
    logs.expire()
    assert everything(logs) == ["new"], "the file was written just now"
    clock.now = 4_000_000_000.0
    logs.expire()
    assert logs.stored_bytes(*HERE, GROUP) == 0
    logs.set_retention(*HERE, GROUP, None)
    assert logs.group(*HERE, GROUP).retention_days is None
    with pytest.raises(NoGroup):
        logs.set_retention(*HERE, "other", 1)
