"""Queries on objects: listing held against a plain model of it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from slipway.store import objects as rows
from slipway.store.db import Db
from slipway.store.schema import metadata

KEYS = st.sets(st.text(alphabet="ab/é\U0010ffff\x00", min_size=1, max_size=6), max_size=25)
WORDS = st.text(alphabet="ab/é", max_size=3)


def plain(keys: set[str], prefix: str, delimiter: str, after: str, limit: int) -> tuple[list[str], bool]:
    """What S3 lists, written down as simply as can be."""
    entries: list[str] = []
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if end < 0 else key[: end + len(delimiter)]
        if key.encode() > after.encode() and entry != after and entry not in entries:
            entries.append(entry)
    return entries[:limit], len(entries) > limit


def fill(conn: Connection, keys: set[str]) -> None:
    rows.insert_bucket(conn, rows.BucketRow("b", "me", "r", 0.0))
    rows.insert_bucket(conn, rows.BucketRow("c", "me", "r", 0.0))
    for key in keys:
        rows.put_object(conn, rows.ObjectRow("b", key, 1, "e", 0.0, data=b"x"))
        rows.put_object(conn, rows.ObjectRow("c", key + "x", 1, "e", 0.0, data=b"x"))


@settings(deadline=None, max_examples=150)
@given(keys=KEYS, prefix=WORDS, delimiter=st.sampled_from(["", "/", "a/", "b"]), after=WORDS, limit=st.integers(1, 8))
def test_a_page_is_what_the_model_says(keys: set[str], prefix: str, delimiter: str, after: str, limit: int) -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        metadata.create_all(conn)
        fill(conn, keys)
        page = rows.list_page(conn, "b", prefix, delimiter, after, limit)
        found = sorted([*(row.key for row in page.rows), *page.prefixes], key=str.encode)
        assert (found, page.truncated) == plain(keys, prefix, delimiter, after, limit)
        assert page.last == (found[-1] if found else after)
    engine.dispose()


@settings(deadline=None, max_examples=100)
@given(prefix=st.binary(max_size=4), rest=st.binary(max_size=4), other=st.binary(max_size=6))
def test_the_successor_of_a_prefix(prefix: bytes, rest: bytes, other: bytes) -> None:
    after = rows.successor(prefix)
    if after is None:
        assert prefix.strip(b"\xff") == b""
        return
    assert prefix + rest < after
    assert (prefix <= other < after) == other.startswith(prefix)


async def test_order_is_that_of_octets_in_both_databases(db: Db) -> None:
    keys = {"a", "B", "b", "é", "z", "\U0001f600", "a/b", "a b", "a-b"}

    def list_all(conn: Connection) -> list[str]:
        fill(conn, keys)
        return [row.key for row in rows.list_page(conn, "b", "", "", "", 100).rows]

    assert await db.write(list_all) == sorted(keys, key=str.encode)


async def test_a_replaced_object_gives_up_its_blobs_but_not_those_it_keeps(db: Db) -> None:
    old = [rows.Segment("one", 1), rows.Segment("two", 2)]

    def replace(conn: Connection) -> tuple[list[str], list[str], set[str], list[str]]:
        fill(conn, set())
        rows.put_object(conn, rows.ObjectRow("b", "k", 3, "e", 0.0, segments=old))
        retired = rows.put_object(conn, rows.ObjectRow("b", "k", 2, "e", 0.0, segments=[old[1]]))
        return retired, [], set(rows.referenced(conn)), rows.delete_object(conn, "b", "k", now=1.0)

    assert await db.write(replace) == (["one"], [], {"two"}, ["two"])


async def test_a_large_row_survives(db: Db) -> None:
    data = os.urandom(65_536)

    def put(conn: Connection) -> bytes | None:
        fill(conn, set())
        rows.put_object(conn, rows.ObjectRow("b", "k\0", len(data), "e", 0.0, {"headers": {"a": "é"}}, {"t": "u"}, data=data))
        found = rows.get_object(conn, "b", "k\0", content=True)
        assert found is not None
        assert (found.attributes, found.tags) == ({"headers": {"a": "é"}}, {"t": "u"})
        return found.data

    assert await db.write(put) == data


@settings(deadline=None, max_examples=40)
@given(before=st.lists(st.sampled_from("abcd"), unique=True), puts=st.lists(st.sampled_from("abcd"), min_size=1, max_size=6))
def test_objects_put_together_are_objects_put_one_by_one(before: list[str], puts: list[str]) -> None:
    """The same rows, and the same blobs left over."""

    def row(key: str, blob: str) -> rows.ObjectRow:
        return rows.ObjectRow("b", key, 1, blob, 0.0, segments=[rows.Segment(blob, 1)])

    def run(together: bool) -> tuple[list[tuple[str, str]], set[str]]:
        engine = create_engine("sqlite://")
        with engine.begin() as conn:
            metadata.create_all(conn)
            rows.insert_bucket(conn, rows.BucketRow("b", "me", "r", 0.0))
            for key in before:
                rows.put_object(conn, row(key, f"old-{key}"))
            new = [row(key, f"new-{number}") for number, key in enumerate(puts)]
            if together:
                left = rows.put_objects(conn, "b", new)
            else:
                left = [blob for each in new for blob in rows.put_object(conn, each)]
            found = [(each.key, each.etag) for each in rows.list_page(conn, "b", "", "", "", 100).rows]
        engine.dispose()
        return found, set(left)

    assert run(True) == run(False)


async def test_nothing_is_put_into_a_bucket_that_is_not_there(db: Db) -> None:
    with pytest.raises(rows.NoBucket):
        await db.write(lambda c: rows.put_objects(c, "none", [rows.ObjectRow("none", "k", 0, "e", 0.0, data=b"")]))
