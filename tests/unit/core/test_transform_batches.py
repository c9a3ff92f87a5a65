"""Split → batch → assemble gives back the input: every split type, size, limit and way of arriving."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core import transform_batches
from slipway.core.transform_batches import OWN, Bad, Batch, Batcher, assembled, parted
from slipway.core.transform_joins import BadRecord
from slipway.core.transform_records import RECORDIO_MAGIC, Broken, Split, framing, masked_crc

MAGIC = struct.pack("<I", RECORDIO_MAGIC)


def recordio(data: bytes) -> bytes:
    """As MXNet writes it: where the data holds the magic, it is written in parts."""
    parts = data.split(MAGIC)
    out = b""
    for number, part in enumerate(parts):
        mark = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
        out += struct.pack("<II", RECORDIO_MAGIC, mark << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
    return out


def tfrecord(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def line(data: bytes) -> bytes:
    return data.replace(b"\n", b" ") + b"\n"


WRITE = {"Line": line, "RecordIO": recordio, "TFRecord": tfrecord}
SPLITS: list[Split] = ["Line", "RecordIO", "TFRecord"]

contents = st.lists(
    st.one_of(st.binary(max_size=30), st.just(MAGIC), st.binary(max_size=9).map(lambda b: b + MAGIC + b)), max_size=20
)
cuts = st.integers(1, 50)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def run(batcher: Batcher, data: bytes, size: int) -> list[Batch | Bad]:
    found: list[Batch | Bad] = []
    for piece in pieces(data, size):
        batcher.feed(piece)
        found += batcher.ready()
        assert batcher.held <= 200
    return [*found, *batcher.finish()]


@given(st.sampled_from(SPLITS), contents, st.integers(60, 160), cuts, st.booleans(), st.sampled_from((1, 50, OWN)))
def test_batches_hold_the_input(split: Split, records: list[bytes], limit: int, size: int, keep: bool, own: int) -> None:
    data = b"".join(map(WRITE[split], records))
    with mock.patch.object(transform_batches, "OWN", own):
        found = run(Batcher(framing(split), limit, keep=keep), data, size)
    assert all(isinstance(each, Batch) and len(each.payload) <= limit for each in found)
    batches = [each for each in found if isinstance(each, Batch)]
    assert b"".join(assembled([bytes(each.payload) for each in batches], split == "Line")) == data
    assert [each.first for each in batches] == [sum(b.count for b in batches[:n]) for n in range(len(batches))]
    assert sum(each.count for each in batches) == len(records)
    for batch in batches:
        assert data[batch.start : batch.end] == batch.payload
        assert len(parted(framing(split), batch.payload)) == batch.count
    for one, following in itertools.pairwise(batches):
        first = parted(framing(split), following.payload)[0]
        assert len(one.payload) + len(first) > limit, "a batch is as large as it may be"


@given(st.sampled_from(SPLITS), contents, cuts)
def test_single_records_come_without_their_framing(split: Split, records: list[bytes], size: int) -> None:
    data = b"".join(map(WRITE[split], records))
    found = run(Batcher(framing(split), 200, single=True), data, size)
    wanted = [record.replace(b"\n", b" ") for record in records] if split == "Line" else records
    assert [each.payload for each in found if isinstance(each, Batch)] == wanted


@given(st.sampled_from(SPLITS), contents, st.integers(60, 160), st.data())
def test_going_on_from_a_batch_gives_the_rest(split: Split, records: list[bytes], limit: int, data: st.DataObject) -> None:
    written = b"".join(map(WRITE[split], records))
    batches = [each for each in run(Batcher(framing(split), limit), written, 40) if isinstance(each, Batch)]
    if not batches:
        return
    at = data.draw(st.integers(0, len(batches) - 1))
    done = batches[at]
    fresh = Batcher(framing(split), limit, start=done.end, first=done.first + done.count)
    assert run(fresh, written[done.end :], 40) == batches[at + 1 :]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=15), cuts, st.booleans(), st.booleans())
def test_records_beyond_the_limit_are_passed_over(records: list[bytes], size: int, single: bool, ended: bool) -> None:
    limit = 40
    lines = [line(record) for record in records]
    data = b"".join(lines) if ended else b"".join(lines)[:-1]
    lines = parted(framing("Line"), data)
    batcher = Batcher(framing("Line"), limit, single=single)
    found = run(batcher, data, size)
    bad = [each for each in found if isinstance(each, Bad)]
    longer = [number for number, each in enumerate(lines) if len(each) > limit]
    if not single:
        assert [each.first for each in bad] == longer
    good = b"".join(each.payload for each in found if isinstance(each, Batch))
    kept = [each for number, each in enumerate(lines) if number not in {b.first for b in bad}]
    assert good == b"".join(each[:-1] if single and each.endswith(b"\n") else each for each in kept)
    for each in bad:
        assert "Please increase your max_payload" in each.cause
        assert data[each.start :].startswith(each.sample)


def test_a_last_line_without_a_newline_is_a_record_and_an_empty_one_is_none() -> None:
    assert [b.count for b in run(Batcher(framing("Line"), 60), b"a\nb", 2) if isinstance(b, Batch)] == [2]
    assert [b.count for b in run(Batcher(framing("Line"), 60), b"a\nb\n", 2) if isinstance(b, Batch)] == [2]
    assert run(Batcher(framing("Line"), 60), b"", 2) == []


def test_assembling_lines_ends_each_result_once() -> None:
    assert b"".join(assembled([b"a", b"b\n", b"c"], True)) == b"a\nb\nc\n"
    assert b"".join(assembled([b"a", b"b\n", b"c"], False)) == b"ab\nc"


def test_filtered_records_are_joined_by_newlines_and_bad_ones_told() -> None:
    def request(record: bytes) -> bytes:
        if b"x" in record:
            raise BadRecord("no x")
        return record.upper()

    found = run(Batcher(framing("Line"), 6, request=request), b"a\nb\nx\nc\nd\ne\nf", 3)
    assert [each.payload if isinstance(each, Batch) else each.cause for each in found] == [
        b"A\nB\n",
        "no x",
        b"C\nD\nE\n",
        b"F\n",
    ]
    assert [each.first for each in found] == [0, 2, 3, 6]
    assert next(b.records for b in found if isinstance(b, Batch)) == (b"a\n", b"b\n")


@pytest.mark.parametrize("split", ["RecordIO", "TFRecord"])
def test_broken_framing(split: Split) -> None:
    good = WRITE[split](b"abcd")
    for data in (good[:-1], good + b"\1\2\3", good + b"garbage that is no record at all", good[:5]):
        with pytest.raises(Broken):
            run(Batcher(framing(split), 200), data, 7)


def test_checksums_are_those_of_tensorflow() -> None:
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
