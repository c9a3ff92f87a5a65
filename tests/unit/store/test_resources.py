"""Resources, listings and their pages, tags, replicas; on both databases."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from slipway.core.replicas import ReplicaSpec
from slipway.store import resources
from slipway.store.db import Db
from slipway.store.resources import BadToken, Exists, Query, ReplicaRow, Resource
from slipway.store.schema import metadata

WHERE = ("1", "us-east-1", "model")


def model(name: str, created: float = 1.0, account: str = "1", **more: object) -> Resource:
    arn = f"arn:aws:sagemaker:us-east-1:{account}:model/{name.lower()}"
    return replace(Resource(account, "us-east-1", "model", name, arn, {"ModelName": name}, created, created), **more)  # type: ignore[arg-type]


async def add(db: Db, *rows: Resource) -> None:
    def fn(connection: Connection) -> None:
        for row in rows:
            resources.add(connection, row)

    await db.write(fn)


async def listed(db: Db, query: Query) -> list[str]:
    """All pages."""
    names: list[str] = []
    while True:
        page = await db.read(lambda c, q=query: resources.find(c, *WHERE, q))  # type: ignore[misc]
        assert len(page.items) <= query.limit
        names += [row.name for row in page.items]
        if page.token is None:
            return names
        query = replace(query, token=page.token)


async def test_names_are_found_without_case_and_kept_in_theirs(db: Db) -> None:
    row = model("My-Model", spec={"a": [1, {"b": None}], "é": "ü"}, desired={"n": 1}, observed={}, reason="r")
    await add(db, row)
    assert await db.read(lambda c: resources.get(c, *WHERE, "mY-mODEL")) == row
    assert await db.read(lambda c: resources.get_by_arn(c, row.arn)) == row
    assert await db.read(lambda c: resources.get(c, *WHERE, "other")) is None
    assert await db.read(lambda c: resources.get(c, "2", "us-east-1", "model", "my-model")) is None
    with pytest.raises(Exists):
        await add(db, model("MY-MODEL"))
    await add(db, model("my-model", account="2"))
    assert await db.read(lambda c: resources.count(c, *WHERE)) == 1


async def test_a_name_that_exists_does_not_spoil_the_rest_of_the_call(db: Db) -> None:
    def fn(connection: Connection) -> None:
        resources.add(connection, model("a"))
        with pytest.raises(Exists):
            resources.add(connection, model("A"))
        resources.add(connection, model("b"))

    await db.write(fn)
    assert await listed(db, Query(sort="name")) == ["a", "b"]


async def test_filters(db: Db) -> None:
    await add(
        db,
        model("Alpha_1", 10.0, status="Failed"),
        model("beta%2", 20.0, status="InService"),
        model("ALPHA-3", 30.0, modified=99.0, status="InService"),
        model("elsewhere", account="2"),
    )
    names = {
        Query(): ["Alpha_1", "beta%2", "ALPHA-3"],
        Query(name_contains="alpha"): ["Alpha_1", "ALPHA-3"],
        Query(name_contains="_"): ["Alpha_1"],
        Query(name_contains="%"): ["beta%2"],
        Query(created_after=10.0): ["beta%2", "ALPHA-3"],
        Query(created_before=30.0): ["Alpha_1", "beta%2"],
        Query(modified_after=30.0): ["ALPHA-3"],
        Query(modified_before=20.0): ["Alpha_1"],
        Query(statuses=("InService",)): ["beta%2", "ALPHA-3"],
        Query(sort="name"): ["ALPHA-3", "Alpha_1", "beta%2"],
        Query(sort="modified", descending=True): ["ALPHA-3", "beta%2", "Alpha_1"],
        Query(sort="status"): ["Alpha_1", "ALPHA-3", "beta%2"],
    }
    for query, expected in names.items():
        assert await listed(db, query) == expected, query
        assert await listed(db, replace(query, limit=1)) == expected, query


async def test_pages_survive_inserts_and_deletes(db: Db) -> None:
    await add(db, *(model(f"m{n}", float(n)) for n in range(0, 20, 2)))
    first = await db.read(lambda c: resources.find(c, *WHERE, Query(limit=3)))
    assert [row.name for row in first.items] == ["m0", "m2", "m4"]
    await add(db, model("m1", 1.0), model("m5", 5.0))
    await db.write(lambda c: resources.remove(c, first.items[-1].arn))
    rest = await listed(db, Query(limit=3, token=first.token))
    assert rest == ["m5", "m6", "m8", "m10", "m12", "m14", "m16", "m18"]


@pytest.mark.parametrize("token", ["", "x", "é", base64.b64encode(b"[1]").decode(), base64.b64encode(b"\xff").decode()])
async def test_tokens_of_others_are_refused(db: Db, token: str) -> None:
    with pytest.raises(BadToken):
        await db.read(lambda c: resources.find(c, *WHERE, Query(token=token)))


async def test_a_token_belongs_to_its_order(db: Db) -> None:
    await add(db, model("a"), model("b"))
    page = await db.read(lambda c: resources.find(c, *WHERE, Query(limit=1, sort="name")))
    for query in (Query(sort="created"), Query(sort="name", descending=True)):
        with pytest.raises(BadToken):
            await db.read(lambda c, q=query: resources.find(c, *WHERE, replace(q, token=page.token)))  # type: ignore[misc]
    forged = base64.urlsafe_b64encode(json.dumps(["model", "created", False, "text", "a"]).encode()).decode()
    with pytest.raises(BadToken):
        await db.read(lambda c: resources.find(c, *WHERE, Query(token=forged)))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.text("abAB", min_size=1, max_size=3), st.integers(0, 3), st.sampled_from(["x", "y"])), max_size=12
    ),
    sort=st.sampled_from(["name", "created", "status", "modified"]),
    descending=st.booleans(),
    limit=st.integers(1, 4),
)
def test_pages_together_are_the_whole_in_order(
    rows: list[tuple[str, int, str]], sort: str, descending: bool, limit: int
) -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        unique = {name.lower(): model(name, float(at), status=status) for name, at, status in rows}
        for row in unique.values():
            resources.add(connection, row)
        found: list[Resource] = []
        query = Query(sort=sort, descending=descending, limit=limit)
        while True:
            page = resources.find(connection, *WHERE, query)
            found += page.items
            if page.token is None:
                break
            query = replace(query, token=page.token)
    engine.dispose()
    keys = [(row.name.lower() if sort == "name" else getattr(row, sort), row.name.lower()) for row in found]
    assert keys == sorted(keys, reverse=descending)
    assert sorted(row.arn for row in found) == sorted(row.arn for row in unique.values())


async def test_save_writes_what_changed_and_nothing_else(db: Db) -> None:
    row = model("a", status="Creating")
    await add(db, row)
    assert await db.write(lambda c: resources.save(c, row, replace(row, observed={"n": 1})))
    assert await db.write(lambda c: resources.save(c, row, replace(row, desired={"n": 2}, modified=5.0)))
    now = await db.read(lambda c: resources.get_by_arn(c, row.arn))
    assert now == replace(row, observed={"n": 1}, desired={"n": 2}, modified=5.0)


async def test_save_is_guarded_by_status_generation_and_identity(db: Db) -> None:
    row = model("a", status="Creating")
    await add(db, row)
    served = replace(row, status="InService", observed_generation=1)
    assert await db.write(lambda c: resources.save(c, row, served))
    assert not await db.write(lambda c: resources.save(c, row, replace(row, status="Failed")))
    assert not await db.write(lambda c: resources.save(c, row, row))
    assert await db.write(lambda c: resources.save(c, served, served))
    updated = replace(served, generation=2, spec={"v": 2})
    assert await db.write(lambda c: resources.save(c, served, updated))
    assert not await db.write(lambda c: resources.save(c, served, replace(served, reason="late")))
    await db.write(lambda c: resources.remove(c, row.arn))
    await add(db, replace(updated, created=7.0))
    assert not await db.write(lambda c: resources.save(c, updated, replace(updated, reason="of the one before")))
    with pytest.raises(ValueError, match="name"):
        await db.write(lambda c: resources.save(c, row, replace(row, name="b")))


async def test_remove_takes_tags_along_and_heeds_status(db: Db) -> None:
    row = model("a", status="Deleting")
    await add(db, row)
    await db.write(lambda c: resources.set_tags(c, row.arn, {"k": "v"}))
    assert not await db.write(lambda c: resources.remove(c, row.arn, ("InService",)))
    assert await db.write(lambda c: resources.remove(c, row.arn, ("Deleting", "Failed")))
    assert not await db.write(lambda c: resources.remove(c, row.arn))
    assert await db.read(lambda c: resources.tags_of(c, row.arn)) == {}


async def test_tags(db: Db) -> None:
    await db.write(lambda c: resources.set_tags(c, "arn", {}))
    await db.write(lambda c: resources.set_tags(c, "arn", {"b": "1", "a": "2", "Ä": ""}))
    await db.write(lambda c: resources.set_tags(c, "arn", {"b": "3"}))
    await db.write(lambda c: resources.set_tags(c, "arn2", {"b": "9"}))
    found = await db.read(lambda c: resources.tags_of(c, "arn"))
    assert list(found.items()) == [("a", "2"), ("b", "3"), ("Ä", "")]
    await db.write(lambda c: resources.remove_tags(c, "arn", ["a", "unknown"]))
    assert await db.read(lambda c: resources.tags_of(c, "arn")) == {"b": "3", "Ä": ""}


async def test_every_is_of_all_accounts(db: Db) -> None:
    await add(db, model("b", 2.0, status="Failed"), model("a", 1.0, account="2"))
    assert [row.name for row in await db.read(lambda c: resources.every(c, "model"))] == ["a", "b"]
    assert [row.name for row in await db.read(lambda c: resources.every(c, "model", ["Failed"]))] == ["b"]


async def test_replicas_keep_their_spec(db: Db) -> None:
    spec = ReplicaSpec(
        "i-1", "i-1", "arn", "e", "v", "primary", "image", {"A": "b"}, {}, (), "1", "us-east-1", "/g", "s", cpus=2
    )
    rows = [ReplicaRow("i-2", "arn", "v", 1, spec, 2.0), ReplicaRow("i-1", "arn", "v", 1, spec, 1.0)]
    await db.write(lambda c: resources.add_replicas(c, [*rows, ReplicaRow("i-3", "other", "v", 1, {}, 3.0)]))
    found = await db.read(lambda c: resources.replicas_of(c, "arn"))
    assert [row.id for row in found] == ["i-1", "i-2"]
    assert msgspec.convert(found[0].spec, ReplicaSpec) == spec
    await db.write(lambda c: resources.remove_replicas(c, ["i-1", "gone"]))
    await db.write(lambda c: resources.remove_replicas(c, []))
    assert [row.id for row in await db.read(resources.every_replica)] == ["i-2", "i-3"]
