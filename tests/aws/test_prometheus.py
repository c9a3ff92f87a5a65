"""`/metrics`: by the token alone, and never in the way of a bucket of that name."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from slipway.services.slipway_metrics import make_token
from tests.aws.cloud import Cloud

TEXT = "# TYPE slipway_instances gauge\n"


@pytest.fixture
def token(cloud: Cloud) -> Iterator[str]:
    """The token, with a slipway that has something to tell."""
    path = cloud.world.settings.metrics_token_file
    make_token(path)
    before = cloud.server.dispatcher._world

    async def exposition() -> str:
        return TEXT

    cloud.server.dispatcher._world = replace(before, exposition=exposition)
    with open(path) as file:
        yield file.read().strip()
    cloud.server.dispatcher._world = before


def get(url: str, authorization: str | None) -> tuple[int, str, str]:
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode(), answer.headers["content-type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers.get("www-authenticate", "")


def test_the_token_opens_it(cloud: Cloud, token: str) -> None:
    for path in ("/metrics", "/_slipway/metrics"):
        status, body, content_type = get(f"{cloud.url}{path}", f"Bearer {token}")
        assert (status, body) == (200, TEXT)
        assert content_type.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("authorization", [None, "Bearer ", "Bearer wrong", "bearer", "Basic {token}", "Bearer {token}x"])
def test_nothing_else_opens_it(cloud: Cloud, token: str, authorization: str | None) -> None:
    given = authorization.format(token=token) if authorization else None
    status, body, challenge = get(f"{cloud.url}/_slipway/metrics", given)
    assert (status, challenge) == (401, "Bearer")
    assert "slipway_instances" not in body
    assert token not in body


def test_the_token_is_its_owners_alone_and_stays(cloud: Cloud, token: str) -> None:
    path = cloud.world.settings.metrics_token_file
    assert os.stat(path).st_mode & 0o777 == 0o600
    make_token(path)
    with open(path) as file:
        assert file.read().strip() == token
    assert len(token) >= 32


def test_a_bucket_of_that_name_is_still_a_bucket(cloud: Cloud, token: str) -> None:
    client = cloud.client("s3")
    client.create_bucket(Bucket="metrics", CreateBucketConfiguration={"LocationConstraint": cloud.region})
    client.put_object(Bucket="metrics", Key="k", Body=b"v")
    assert [row["Key"] for row in client.list_objects_v2(Bucket="metrics")["Contents"]] == ["k"]
    assert [row["Key"] for row in client.list_objects(Bucket="metrics")["Contents"]] == ["k"]
    presigned = client.generate_presigned_url("list_objects", Params={"Bucket": "metrics"})
    assert get(presigned, None)[0] == 200
    client.delete_object(Bucket="metrics", Key="k")
    client.delete_bucket(Bucket="metrics")
